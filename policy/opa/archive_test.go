package opa

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
)

// shipped is a small bundle as OPA would ship it.
func shipped() map[string]string {
	return map[string]string{
		"/.manifest":                   `{"revision": "v7", "roots": ["cordon"], "metadata": {"built": "today"}}`,
		"/data.json":                   `{"cordon": {"table": {"b": 1.0, "a": [true]}}}`,
		"/cordon/publish/publish.rego": "package cordon.publish\n\ndecision := {\"allow\": data.cordon.table.a[0]}\n",
	}
}

// packed writes files as a .tar.gz.
func packed(t testing.TB, files map[string]string, more ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, name := range sortedKeys(files) {
		more = append(more, tar.Header{Name: name, Size: int64(len(files[name])), Typeflag: tar.TypeReg, Mode: 0o644})
	}
	for _, h := range more {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[h.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// signed adds a signature of every file as OPA makes it.
func signed(t testing.TB, files map[string]string, key crypto.Signer, algorithm, hash string) map[string]string {
	t.Helper()
	var list []bundle.FileInfo
	for name, text := range files {
		name = strings.TrimPrefix(name, "/")
		sum := sha256.Sum256([]byte(text))
		digest := sum[:]
		if bundle.IsStructuredDoc(name) {
			hasher, err := bundle.NewSignatureHasher(bundle.HashingAlgorithm(hash))
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := util.Unmarshal([]byte(text), &value); err != nil {
				t.Fatal(err)
			}
			if digest, err = hasher.HashFile(value); err != nil {
				t.Fatal(err)
			}
		}
		list = append(list, bundle.NewFile(name, hex.EncodeToString(digest), hash))
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := bundle.NewSigningConfig(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), algorithm, "")
	token, err := bundle.GenerateSignedToken(list, config, "k1")
	if err != nil {
		t.Fatal(err)
	}

	text, err := json.Marshal(map[string]any{"signatures": []string{token}})
	if err != nil {
		t.Fatal(err)
	}
	all := maps.Clone(files)
	all["/.signatures.json"] = string(text)
	return all
}

func publicPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestReadArchive(t *testing.T) {
	t.Parallel()
	a, err := ReadArchive(bytes.NewReader(packed(t, shipped(), tar.Header{Name: "./cordon/", Typeflag: tar.TypeDir})), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Revision != "v7" {
		t.Errorf("revision %q", a.Revision)
	}
	e := engineOf(t, a.FS, Options{})
	if d := e.Judge(deviceFacts(t)).Decide(context.Background(), publishTo(t, "iot-2/evt/a/fmt/b")); !d.Allow {
		t.Errorf("%+v", d)
	}
	if _, err := fs.Stat(a.FS, ".manifest"); err == nil {
		t.Error("the manifest is a file of the bundle")
	}
}

// What an archive may not be. Nothing of it reaches the gate.
func TestReadArchiveRefuses(t *testing.T) {
	t.Parallel()
	with := func(name, text string) []byte {
		files := shipped()
		files[name] = text
		return packed(t, files)
	}
	whole := packed(t, shipped())
	manifest := func(text string) []byte { return with("/.manifest", text) }
	many := map[string]string{}
	for i := range maxFiles + 1 {
		many[strings.Repeat("a/", i%10)+strings.Repeat("b", i/10+1)] = ""
	}
	for name, c := range map[string]struct {
		archive []byte
		kind    policy.Kind
		says    string
	}{
		"nothing":                {nil, policy.KindInvalid, "no .tar.gz"},
		"not compressed":         {[]byte("package cordon.publish"), policy.KindInvalid, "no .tar.gz"},
		"cut":                    {whole[:len(whole)-20], policy.KindInvalid, "not a whole one"},
		"damaged":                {append(bytes.Clone(whole[:30]), bytes.Repeat([]byte{0xff}, 60)...), policy.KindInvalid, "no .tar.gz"},
		"path above":             {with("/../etc/passwd", ""), policy.KindInvalid, "no path inside"},
		"path above, hidden":     {with("cordon/../../x.rego", ""), policy.KindInvalid, "no path inside"},
		"absolute path":          {with("//etc/passwd", ""), policy.KindInvalid, "no path inside"},
		"backslash":              {with(`..\x.rego`, ""), policy.KindInvalid, "no path inside"},
		"control character":      {with("a\nb.rego", ""), policy.KindInvalid, "no path inside"},
		"long path":              {with(strings.Repeat("a", 600), ""), policy.KindInvalid, "no path inside"},
		"deep path":              {with(strings.Repeat("a/", 20)+"a", ""), policy.KindInvalid, "no path inside"},
		"symbolic link":          {packed(t, shipped(), tar.Header{Name: "x.rego", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}), policy.KindInvalid, "neither a file"},
		"hard link":              {packed(t, shipped(), tar.Header{Name: "x.rego", Typeflag: tar.TypeLink, Linkname: "data.json"}), policy.KindInvalid, "neither a file"},
		"device":                 {packed(t, shipped(), tar.Header{Name: "x", Typeflag: tar.TypeChar}), policy.KindInvalid, "neither a file"},
		"twice":                  {with("data.json", "{}"), policy.KindInvalid, "there twice"},
		"twice, differently":     {with("./data.json", "{}"), policy.KindInvalid, "there twice"},
		"a file and a folder":    {with("/data.json/x.rego", ""), policy.KindInvalid, "file and a folder"},
		"delta":                  {with("/patch.json", "{}"), policy.KindInvalid, "delta"},
		"compiled":               {with("/policy.wasm", ""), policy.KindInvalid, "compiled"},
		"manifest below":         {with("/cordon/.manifest", "{}"), policy.KindInvalid, "top of the bundle"},
		"manifest in protobuf":   {with("/.manifest.pb", ""), policy.KindInvalid, "JSON"},
		"manifest of nothing":    {manifest("["), policy.KindInvalid, "no manifest"},
		"another Rego":           {manifest(`{"rego_version": 0}`), policy.KindInvalid, "Rego v0"},
		"a file of another Rego": {manifest(`{"file_rego_versions": {"/x.rego": 0}}`), policy.KindInvalid, "Rego v0"},
		"roots overlap":          {manifest(`{"roots": ["a/b", "a"]}`), policy.KindInvalid, "overlap"},
		"package outside":        {manifest(`{"roots": ["cordon/table"]}`), policy.KindInvalid, "data.cordon.publish, outside"},
		"data outside":           {manifest(`{"roots": ["cordon/publish"]}`), policy.KindInvalid, "cordon/table/a, outside"},
		"a slash in a key":       {with("/data.json", `{"cordon/table": 1}`), policy.KindInvalid, "outside"},
		"revision for a log":     {manifest(`{"revision": "a\nb"}`), policy.KindInvalid, "control character"},
		"too many entries":       {packed(t, many), policy.KindTooLarge, "2000"},
		"a large file":           {with("/big.rego", strings.Repeat(" ", maxFileBytes+1)), policy.KindTooLarge, "4 MiB"},
		"large in all":           {largeInAll(t), policy.KindTooLarge, "32 MiB"},
		"a bomb":                 {bomb(t), policy.KindTooLarge, "64 MiB"},
		"signed by anybody":      {packed(t, signed(t, shipped(), ecKey(t), "ES256", "SHA-256")), policy.KindInvalid, "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := ReadArchive(bytes.NewReader(c.archive), nil)
			if err == nil || policy.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) || a != nil {
				t.Errorf("error %v of kind %v; want %q of kind %v", err, policy.KindOf(err), c.says, c.kind)
			}
		})
	}
	if _, err := ReadArchive(&bounded{r: zeros{}, left: 1 << 40}, nil); err == nil {
		t.Error("endless zeros are an archive")
	}
	if _, err := ReadArchive(io.MultiReader(bytes.NewReader(whole[:50]), failingReader{}), nil); !errors.Is(err, errDisk) {
		t.Errorf("a failing reader is %v", err)
	}
}

var errDisk = errors.New("disk on fire")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errDisk }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// squeezed is one gzip member; several in a row are one stream.
func squeezed(t testing.TB, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(text)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func header(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bomb has only folders, whose headers unpack to more than anybody wants.
func bomb(t testing.TB) []byte {
	t.Helper()
	fill := map[string]string{"CORDON.fill": strings.Repeat("x", 1<<19)}
	return bytes.Repeat(squeezed(t, header(t, tar.Header{Name: "dir", Typeflag: tar.TypeDir, PAXRecords: fill})), 140)
}

// largeInAll has files that are each just small enough.
func largeInAll(t testing.TB) (stream []byte) {
	t.Helper()
	content := squeezed(t, bytes.Repeat([]byte(" "), maxFileBytes))
	for i := range 9 {
		h := tar.Header{Name: strings.Repeat("x", i+1) + ".rego", Typeflag: tar.TypeReg, Size: maxFileBytes, Mode: 0o644}
		stream = slices.Concat(stream, squeezed(t, header(t, h)), content)
	}
	return stream
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for algorithm, key := range map[string]crypto.Signer{"RS256": rsaKey, "PS256": rsaKey, "ES256": ecKey(t), "EdDSA": edKey} {
		files := signed(t, shipped(), key, algorithm, "SHA-256")
		pinned := &Key{Algorithm: algorithm, PEM: publicPEM(t, key)}
		a, err := ReadArchive(bytes.NewReader(packed(t, files)), pinned)
		if err != nil {
			t.Errorf("%s: %v", algorithm, err)
			continue
		}
		engineOf(t, a.FS, Options{})
	}
}

// With a pinned key, only what was signed with it comes in, whole and unchanged.
func TestSignaturesRefuse(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	good := signed(t, shipped(), key, "ES256", "SHA-256")
	pinned := Key{Algorithm: "ES256", PEM: publicPEM(t, key)}
	change := func(name, text string) func(map[string]string, *Key) {
		return func(f map[string]string, _ *Key) { f[name] = text }
	}
	for name, c := range map[string]struct {
		change func(map[string]string, *Key)
		says   string
	}{
		"nothing":             {func(map[string]string, *Key) {}, ""},
		"other spacing":       {change("/data.json", `{"cordon":{"table":{"a":[true],"b":1.0}}}`), ""},
		"no signature":        {func(f map[string]string, _ *Key) { delete(f, "/.signatures.json") }, "not signed"},
		"rules changed":       {change("/cordon/publish/publish.rego", "package cordon.publish\n\ndecision := {\"allow\": true}\n"), "not what was signed"},
		"data changed":        {change("/data.json", `{"cordon":{"table":{"a":[1],"b":1.0}}}`), "not what was signed"},
		"a key twice":         {change("/data.json", `{"cordon":{"table":{"a":[true],"b":1.0}},"cordon":{"table":{}}}`), "not what was signed"},
		"manifest changed":    {change("/.manifest", `{"revision": "v8", "roots": ["cordon"]}`), "not what was signed"},
		"a file more":         {change("/cordon/x.rego", "package cordon.x"), "not what was signed"},
		"any file more":       {change("/README", "x"), "not what was signed"},
		"a file less":         {func(f map[string]string, _ *Key) { delete(f, "/data.json") }, "missing"},
		"another key":         {func(_ map[string]string, k *Key) { k.PEM = publicPEM(t, ecKey(t)) }, "not by the pinned key"},
		"another algorithm":   {func(_ map[string]string, k *Key) { k.Algorithm = "ES384" }, "not by the pinned key"},
		"a shared secret":     {func(_ map[string]string, k *Key) { k.Algorithm = "HS256" }, "no algorithm"},
		"no algorithm":        {func(_ map[string]string, k *Key) { k.Algorithm = "none" }, "no algorithm"},
		"another scope":       {func(_ map[string]string, k *Key) { k.Scope = "write" }, "not by the pinned key"},
		"no PEM":              {func(_ map[string]string, k *Key) { k.PEM = nil }, "not by the pinned key"},
		"no JSON":             {change("/.signatures.json", "x"), "no JSON"},
		"none in it":          {change("/.signatures.json", `{"signatures": []}`), "not by the pinned key"},
		"no token":            {change("/.signatures.json", `{"signatures": ["a.b.c"]}`), "not by the pinned key"},
		"a plugin":            {change("/.signatures.json", `{"plugin": "x", "signatures": ["a.b.c"]}`), "plugin"},
		"an unsigned token":   {change("/.signatures.json", `{"signatures": ["eyJhbGciOiJub25lIn0.eyJmaWxlcyI6W119."]}`), "not by the pinned key"},
		"signed with MD5":     {func(f map[string]string, _ *Key) { maps.Copy(f, signed(t, shipped(), key, "ES256", "MD5")) }, "too weak"},
		"data that is no map": {func(f map[string]string, _ *Key) { f["/data.json"] = "{" }, "no JSON"},
		"YAML": {func(f map[string]string, _ *Key) {
			yaml := shipped()
			yaml["/cordon/data.yaml"] = "a: 1"
			maps.Copy(f, signed(t, yaml, key, "ES256", "SHA-256"))
			f["/cordon/data.yaml"] = "a: 1"
		}, "as JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, k := maps.Clone(good), pinned
			c.change(files, &k)
			a, err := ReadArchive(bytes.NewReader(packed(t, files)), &k)
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (err == nil || a != nil || policy.KindOf(err) != policy.KindInvalid || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

func FuzzReadArchive(f *testing.F) {
	f.Add(packed(f, shipped()))
	f.Add(packed(f, signed(f, shipped(), ecKey(f), "ES256", "SHA-256")))
	f.Add([]byte{0x1f, 0x8b, 8})
	key := &Key{Algorithm: "ES256", PEM: publicPEM(f, ecKey(f))}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ReadArchive(bytes.NewReader(data), nil)
		if (a == nil) == (err == nil) {
			t.Fatalf("archive %v, error %v", a, err)
		}
		if err != nil && policy.KindOf(err) != policy.KindInvalid && policy.KindOf(err) != policy.KindTooLarge {
			t.Errorf("error %v of kind %v", err, policy.KindOf(err))
		}
		if a != nil {
			checkArchive(t, a.FS)
		}
		if _, err := ReadArchive(bytes.NewReader(data), key); err == nil {
			t.Error("a key that signed nothing verified it")
		}
	})
}

// checkArchive holds an archive to its bounds.
func checkArchive(t *testing.T, fsys fs.FS) {
	t.Helper()
	total, count := 0, 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(fsys, name)
		total, count = total+len(text), count+1
		if len(text) > maxFileBytes {
			t.Errorf("%q has %d bytes", name, len(text))
		}
		return err
	})
	if err != nil || total > maxTotalBytes || count > maxFiles {
		t.Errorf("%d files of %d bytes: %v", count, total, err)
	}
}

// The number of a build comes from the manifest, which is signed like the rest. One
// that cannot be read is no build without a number.
func TestArchiveSequence(t *testing.T) {
	t.Parallel()
	key := ecKey(t)
	pinned := &Key{Algorithm: "ES256", PEM: publicPEM(t, key)}
	for text, want := range map[string]uint64{
		`{"metadata": {"cordon": {"sequence": 7}}}`:                          7,
		`{"metadata": {"cordon": {"sequence": 9007199254740991}, "x": [1]}}`: maxSequence,
		`{"metadata": {"cordon": {}}}`:                                       0,
		`{"metadata": {"sequence": 7}}`:                                      0,
		`{"revision": "7"}`:                                                  0,
	} {
		files := shipped()
		files["/.manifest"] = text
		a, err := ReadArchive(bytes.NewReader(packed(t, signed(t, files, key, "ES256", "SHA-256"))), pinned)
		if err != nil || a.Sequence != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
		tampered := signed(t, files, key, "ES256", "SHA-256")
		tampered["/.manifest"] = `{"metadata": {"cordon": {"sequence": 8}}}`
		if _, err := ReadArchive(bytes.NewReader(packed(t, tampered)), pinned); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: another number is taken: %v", text, err)
		}
	}
	for _, number := range []string{`0`, `-1`, `1.5`, `"7"`, `null`, `1e3`, `9007199254740992`, `[7]`, `99999999999999999999`} {
		files := shipped()
		files["/.manifest"] = `{"metadata": {"cordon": {"sequence": ` + number + `}}}`
		if _, err := ReadArchive(bytes.NewReader(packed(t, files)), nil); policy.KindOf(err) != policy.KindInvalid || !strings.Contains(err.Error(), "sequence") {
			t.Errorf("%s: %v", number, err)
		}
	}
	files := shipped()
	files["/.manifest"] = `{"metadata": {"cordon": 7}}`
	if _, err := ReadArchive(bytes.NewReader(packed(t, files)), nil); policy.KindOf(err) != policy.KindInvalid {
		t.Errorf("no object: %v", err)
	}
}
