package opa

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func TestReadNarrowingArchive(t *testing.T) {
	t.Parallel()
	files, err := ReadNarrowingArchive(packed(t, map[string]string{"/cordon/publish/publish.rego": "package cordon.publish\n", "README.md": "words"}))
	if err != nil || len(files) != 1 || files[0].Path != "cordon/publish/publish.rego" {
		t.Errorf("%v, %v", files, err)
	}
	bomb := packed(t, map[string]string{"a.rego": string(make([]byte, 3<<20))})
	if len(bomb) > 64<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	for name, c := range map[string]struct {
		archive []byte
		want    policy.Kind
	}{
		"bomb":      {bomb, policy.KindTooLarge},
		"no gzip":   {[]byte("PK\x03\x04"), policy.KindInvalid},
		"no tar":    {gzipped(t, "not a tar, whatever it says it is"), policy.KindInvalid},
		"truncated": {packed(t, map[string]string{"a.rego": strings.Repeat("package a # x\n", 100)})[:60], policy.KindInvalid},
		"escaping":  {packed(t, map[string]string{"../a.rego": "package a"}), policy.KindInvalid},
		"signed":    {packed(t, map[string]string{".signatures.json": `{"signatures":["x"]}`}), policy.KindInvalid},
		"empty":     {nil, policy.KindInvalid},
	} {
		if files, err := ReadNarrowingArchive(c.archive); policy.KindOf(err) != c.want {
			t.Errorf("%s: %v, %v", name, files, err)
		}
	}
}

func gzipped(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
