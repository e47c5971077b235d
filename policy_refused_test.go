package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy/revision"
)

// A revision that does not pass the gate any more is refused with everything that
// is wrong with it, as `policy check` says it.
func TestRefusedRevisionIsExplained(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	files, book, err := openBook(data)
	if err != nil {
		t.Fatal(err)
	}
	bundle := []revision.File{
		{Path: "cordon/publish/publish.rego", Text: []byte("package cordon.publish\n\ndecision := {\"allow\": input.topci == \"a\"}\n")},
		{Path: "cordon/subscribe/subscribe.rego", Text: []byte("package cordon.subscribe\n\ndecision := {\"allow\": _all}\n\n_all if input.filtre == \"a\"\n")},
	}
	good := []revision.File{{Path: "cordon/publish/publish.rego", Text: []byte("package cordon.publish\n\ndecision := {\"allow\": true}\n")}}
	by := revision.Author{Who: "an older version"}
	var ids []revision.ID
	for _, b := range [][]revision.File{bundle, good} {
		out, err := book.Offer(revision.Offering{Files: b, By: by}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, out.ID)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"activate": {"activate", string(ids[0])}, "activate, not pinned": {"activate", "--unpin", string(ids[0])}, "rollback": {"rollback"},
	} {
		var out, said bytes.Buffer
		status := run(context.Background(), append(append([]string{"policy"}, args...), "--data", data), &out, &said, func(string) (string, bool) { return "", false })
		if status != exitFailed || out.Len() > 0 {
			t.Errorf("%s: status %d, %s", name, status, out.String())
		}
		for _, want := range []string{
			"cordon/publish/publish.rego:3:23: rego_type_error: ", "    decision := {\"allow\": input.topci == \"a\"}\n    hint: did you mean topic? ",
			"cordon/subscribe/subscribe.rego:5:9: rego_type_error: ", "    hint: did you mean filter? ",
			"cordon: the revision does not pass the gate: 2 problems\n",
		} {
			if !strings.Contains(said.String(), want) {
				t.Errorf("%s: it does not say %q:\n%s", name, want, said.String())
			}
		}
	}
	stored, err := revision.FS(bundle)
	if err != nil {
		t.Fatal(err)
	}
	var refusal *revision.Refusal
	if _, err = policyGate(context.Background(), nil)(stored); !errors.As(err, &refusal) || len(refusal.Findings) != 2 {
		t.Errorf("error %v", err)
	}
}
