package opa

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
	"github.com/cordon-mq/cordon/policy/topic"
)

// MaxArchiveBytes bounds an archive as it is sent, compressed.
const MaxArchiveBytes = 32 << 20

// Bounds of an archive beside those of a bundle.
const (
	maxUnpackedBytes = 64 << 20 // everything, the archive's own headers included
	maxPath          = 512      // bytes
)

const (
	manifestName   = ".manifest"
	signaturesName = ".signatures.json"
)

// Key is the public key that has to have signed an archive.
type Key struct {
	// ID is what the signature calls the key; empty: it is not looked at.
	ID string
	// Algorithm is one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384,
	// ES512, EdDSA. A shared secret is no algorithm here: whoever can verify with
	// it can sign.
	Algorithm string
	PEM       []byte // of a public key or certificate
	Scope     string // that the signature has to name; empty: none
}

// Archive is a bundle as OPA builds and ships it, unpacked.
type Archive struct {
	// FS is for Load, which is the gate: reading an archive only finds out whether
	// it is one, who signed it, and whether it stays within its roots.
	FS fs.FS
	// Revision is what its manifest calls it. It is only a name.
	Revision string
	// Sequence is the number of the build, from the manifest's metadata:
	//
	//	{"revision": "v7", "metadata": {"cordon": {"sequence": 1763840000}}}
	//
	// 0: there is none. See revision.Offering.
	Sequence uint64
}

// ReadArchive reads a .tar.gz bundle of OPA. With a key, its signature has to be
// by that key and has to name every file; what was signed is what is in FS, so
// data files there are written anew. Without a key, an archive that is signed is
// refused, since nobody could tell whether it should be trusted. Not supported,
// and refused: delta bundles, WebAssembly, Rego before v1, manifests in protobuf.
//
// It reads at most 32 MiB of r, and unpacks at most what a bundle may hold. The
// error is KindInvalid or KindTooLarge, unless reading r failed.
func ReadArchive(r io.Reader, key *Key) (*Archive, error) {
	u := &unpacking{files: map[string][]byte{}}
	if err := u.read(r); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if err := u.verify(key); err != nil {
		return nil, fmt.Errorf("verify bundle: %w", err)
	}
	manifest, err := u.manifest()
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	var files []revision.File
	for name, text := range u.files {
		if name != manifestName && name != signaturesName {
			files = append(files, revision.File{Path: name, Text: text})
		}
	}
	fsys, err := revision.FS(files)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", bad("%v", err))
	}
	sequence, err := sequenceOf(manifest)
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	return &Archive{FS: fsys, Revision: manifest.Revision, Sequence: sequence}, nil
}

// maxSequence is the largest integer that every JSON tool writes as it is.
const maxSequence = 1<<53 - 1

// sequenceOf refuses what is there and cannot be read: a build that lost its
// number would count as one that never had any.
func sequenceOf(m *bundle.Manifest) (uint64, error) {
	ours, ok := m.Metadata["cordon"]
	if !ok {
		return 0, nil
	}
	object, ok := ours.(map[string]any)
	if !ok {
		return 0, bad("metadata.cordon in %s is no object", manifestName)
	}
	value, ok := object["sequence"]
	if !ok {
		return 0, nil
	}
	number, _ := value.(json.Number)
	n, err := strconv.ParseUint(number.String(), 10, 64)
	if err != nil || n == 0 || n > maxSequence {
		return 0, bad("metadata.cordon.sequence in %s is no whole number from 1 to %d", manifestName, uint64(maxSequence))
	}
	return n, nil
}

func bad(format string, args ...any) error {
	return &policy.Error{Kind: policy.KindInvalid, Public: fmt.Sprintf(format, args...)}
}

func tooLarge(what string) error {
	return &policy.Error{Kind: policy.KindTooLarge, Public: what}
}

// unpacking is an archive on its way in.
type unpacking struct {
	files map[string][]byte
	total int64
}

// bounded fails where io.LimitReader would end: what is cut off is not whole.
type bounded struct {
	r    io.Reader
	left int64
	what string
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, tooLarge(b.what)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

func (u *unpacking) read(r io.Reader) error {
	packed, err := gzip.NewReader(&bounded{r, MaxArchiveBytes, "the archive is larger than 32 MiB"})
	if err != nil {
		return unreadable(err)
	}
	archive := tar.NewReader(&bounded{packed, maxUnpackedBytes, "the archive unpacks to more than 64 MiB"})
	for entries := 0; ; entries++ {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return unreadable(err)
		case entries == maxFiles:
			return tooLarge("the archive has more than 2000 entries")
		}
		if err := u.add(header, archive); err != nil {
			return err
		}
	}
}

// unreadable keeps the kind of an error of ours, and gives the others one.
func unreadable(err error) error {
	var ours *policy.Error
	if errors.As(err, &ours) {
		return ours
	}
	var corrupt flate.CorruptInputError
	format := errors.As(err, &corrupt)
	for _, known := range []error{gzip.ErrHeader, gzip.ErrChecksum, tar.ErrHeader, tar.ErrFieldTooLong, io.EOF, io.ErrUnexpectedEOF} {
		format = format || errors.Is(err, known)
	}
	if format {
		return bad("it is no .tar.gz archive, or not a whole one")
	}
	return err
}

func (u *unpacking) add(header *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(strings.TrimPrefix(header.Name, "./"), "/")
	if header.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
		if name == "" || safePath(name) {
			return nil
		}
	}
	_, twice := u.files[name]
	switch {
	case !safePath(name):
		return bad("%q is no path inside a bundle", shorten(header.Name))
	case header.Typeflag != tar.TypeReg:
		return bad("%q is neither a file nor a folder", name)
	case twice:
		return bad("%q is there twice", name)
	case header.Size > maxFileBytes:
		return tooLarge(fmt.Sprintf("%q is larger than 4 MiB", name))
	case u.total+header.Size > maxTotalBytes:
		return tooLarge("the bundle is larger than 32 MiB")
	}
	if what := unsupported(name); what != "" {
		return bad("%q: %s", name, what)
	}
	u.total += header.Size
	var text bytes.Buffer // grows with what really comes, whatever the header says
	if _, err := io.Copy(&text, r); err != nil {
		return unreadable(err)
	}
	u.files[name] = text.Bytes()
	return nil
}

// safePath reports whether name stays inside a folder wherever it is unpacked.
func safePath(name string) bool {
	return len(name) <= maxPath && name != "." && fs.ValidPath(name) &&
		!strings.Contains(name, `\`) && topic.CheckText(name) && strings.Count(name, "/") <= maxDepth
}

func unsupported(name string) string {
	base := path.Base(name)
	switch {
	case (base == manifestName || base == signaturesName) && base != name:
		return "it belongs at the top of the bundle"
	case base == "patch.json":
		return "delta bundles are not supported"
	case path.Ext(base) == ".wasm" || base == "plan.json" || base == "plan.pb":
		return "compiled policies are not supported"
	case base == ".manifest.pb":
		return "a manifest has to be JSON"
	}
	return ""
}

// verify compares the files with the signature, and the signature with the key.
func (u *unpacking) verify(key *Key) error {
	text, signed := u.files[signaturesName]
	switch {
	case !signed && key == nil:
		return nil
	case !signed:
		return bad("it is not signed")
	case key == nil:
		return bad("it is signed, and there is no key to verify it with")
	case !slices.Contains(signatureAlgorithms, key.Algorithm):
		return bad("%q is no algorithm of a signature", shorten(key.Algorithm))
	}
	var signatures bundle.SignaturesConfig
	if err := json.Unmarshal(text, &signatures); err != nil {
		return bad("%s is no JSON", signaturesName)
	}
	if signatures.Plugin != "" {
		return bad("its signature needs a plugin")
	}
	id := key.ID
	if id == "" {
		id = "pinned"
	}
	config := bundle.NewVerificationConfig(map[string]*bundle.KeyConfig{
		id: {Key: string(key.PEM), Algorithm: key.Algorithm, Scope: key.Scope},
	}, id, key.Scope, nil)
	named, err := bundle.VerifyBundleSignature(signatures, config)
	if err != nil {
		return &policy.Error{Kind: policy.KindInvalid, Public: "its signature is not by the pinned key", Err: err}
	}
	for name, text := range u.files {
		if name == signaturesName {
			continue
		}
		if err := u.verifyFile(name, text, named); err != nil {
			return err
		}
	}
	for name := range named { // those that were found are gone
		return bad("the signature names %q, which is missing", shorten(name))
	}
	return nil
}

// signatureAlgorithms are those with a public key. Read only.
var signatureAlgorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// fileHashes are those that still bind. Read only.
var fileHashes = []string{"SHA-256", "SHA-384", "SHA-512", "SHA-512-256"}

// verifyFile compares one file. Of data, a signature is about the value and not
// the text; so the value is what is kept, or another parser might see another.
func (u *unpacking) verifyFile(name string, text []byte, named map[string]bundle.FileInfo) error {
	if hash := named[name].Algorithm; hash != "" && !slices.Contains(fileHashes, hash) {
		return bad("%q is signed with the hash %q, which is too weak", name, shorten(hash))
	}
	switch {
	case bundle.IsYAMLDataFile(name):
		return bad("%q: a signed bundle has to hold its data as JSON", name)
	case bundle.IsStructuredDoc(name):
		var value any
		if err := util.UnmarshalJSON(text, &value); err != nil {
			return bad("%q is no JSON", name)
		}
		var err error
		if text, err = json.Marshal(value); err != nil {
			return bad("%q is no JSON", name)
		}
		u.files[name] = text
	}
	if err := bundle.VerifyBundleFile(name, *bytes.NewBuffer(text), named); err != nil {
		return &policy.Error{Kind: policy.KindInvalid, Public: fmt.Sprintf("%q is not what was signed", name), Err: err}
	}
	return nil
}

// manifest reads the manifest, and holds the bundle to its roots.
func (u *unpacking) manifest() (*bundle.Manifest, error) {
	m := &bundle.Manifest{}
	if text, ok := u.files[manifestName]; ok {
		if err := util.UnmarshalJSON(text, m); err != nil {
			return nil, bad("%s is no manifest", manifestName)
		}
	}
	if !topic.CheckText(m.Revision) || len(m.Revision) > maxName {
		return nil, bad("the revision in %s has a control character, or is too long", manifestName)
	}
	if len(m.WasmResolvers) > 0 {
		return nil, bad("compiled policies are not supported")
	}
	for _, version := range m.FileRegoVersions {
		if version != 1 {
			return nil, bad("it has files of Rego v%d, and has to be Rego v1", version)
		}
	}
	if m.RegoVersion != nil && *m.RegoVersion != 1 {
		return nil, bad("it is of Rego v%d, and has to be Rego v1", *m.RegoVersion)
	}
	return m, u.checkRoots(m)
}

// checkRoots finds what defines something outside the roots. What does not parse
// is left to the gate, which says where.
func (u *unpacking) checkRoots(m *bundle.Manifest) error {
	if m.Roots == nil {
		return nil
	}
	roots := make([]string, len(*m.Roots))
	for i, root := range *m.Roots {
		roots[i] = strings.Trim(root, "/")
		for _, other := range roots[:i] {
			if bundle.RootPathsOverlap(other, roots[i]) {
				return bad("the roots %q and %q overlap", shorten(other), shorten(roots[i]))
			}
		}
	}
	if slices.Contains(roots, "") {
		return nil
	}
	for name, text := range u.files {
		f := file{path: name, text: text}
		switch {
		case f.isModule():
			m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
			if err != nil || m == nil {
				continue
			}
			pkg := make([]string, 0, len(m.Package.Path))
			for _, t := range m.Package.Path[1:] {
				pkg = append(pkg, strings.ReplaceAll(plain(t.Value), "/", "%2f"))
			}
			if !bundle.RootPathsContain(roots, strings.Join(pkg, "/")) {
				return bad("%q defines %s, outside the roots of the bundle", name, m.Package.Path)
			}
		case f.isData():
			report := &Report{}
			data := parseData(&source{files: []file{f}}, report)
			if outside := outsideRoots(roots, "", data); outside != "" {
				return bad("%q defines %s, outside the roots of the bundle", name, shorten(outside))
			}
		}
	}
	return nil
}

// outsideRoots names the first place of data that no root contains. Objects on
// the way to a root are no place of their own.
func outsideRoots(roots []string, at string, data map[string]any) string {
	for _, key := range util.KeysSorted(data) {
		place := strings.TrimPrefix(at+"/"+strings.ReplaceAll(key, "/", "%2f"), "/")
		if bundle.RootPathsContain(roots, place) {
			continue
		}
		below, ok := data[key].(map[string]any)
		if !ok || len(below) == 0 {
			return place
		}
		if outside := outsideRoots(roots, place, below); outside != "" {
			return outside
		}
	}
	return ""
}
