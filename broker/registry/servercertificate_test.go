package registry

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

// What an organisation shows moves with it, but for its keys and the names that the
// operator allowed; a file that has either is no export.
func TestServerCertificateMoves(t *testing.T) {
	t.Parallel()
	f := newFixture(t, memstore.New())
	f.organisation(acme)
	f.organisation(other)
	_, _, err := f.ServerCertificate(t.Context(), acme)
	refused(t, err, policy.KindNotFound)
	refused(t, f.DeleteServerCertificate(t.Context(), acme), policy.KindNotFound)
	chain := [][]byte{certificatetest.New(t, "Root").Issue("", func(c *x509.Certificate) { c.DNSNames = []string{"a.example.com"} }).Certificate.Raw}
	edit := func(change ServerCertificate) error {
		_, err := f.EditServerCertificate(t.Context(), acme, func(_ *Organisation, s *ServerCertificate) error {
			*s = change
			return nil
		})
		return err
	}
	for what, bad := range map[string]ServerCertificate{
		"no certificate": {Chain: [][]byte{[]byte("x")}},
		"many":           {Chain: slices.Repeat(chain, maxChain+1)},
		"a long key":     {Chain: chain, Key: make([]byte, maxSealed+1)},
		"a key alone":    {Key: []byte("sealed")},
	} {
		if err := edit(bad); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
	f.changes()
	f.ok(edit(ServerCertificate{Pending: []byte("pending")}))
	if told := f.changes(); len(told) != 0 { // nothing is shown of it
		t.Errorf("told %+v", told)
	}
	f.ok(edit(ServerCertificate{Chain: chain, Key: []byte("sealed"), Pending: []byte("pending")}))
	if told := f.changes(); len(told) != 1 || told[0].Kind != ServerCertificateChanged || told[0].Org != acme {
		t.Errorf("told %+v", told)
	}
	must[Organisation](t)(f.SetServerNames(t.Context(), acme, []string{"b.example.org", "a.example.org", "a.example.org"}))
	_, err = f.SetServerNames(t.Context(), other, []string{"a.example.org"})
	refused(t, err, policy.KindConflict)

	file := f.export(acme, ExportOptions{})
	for _, word := range []string{"c2VhbGVk", "cGVuZGluZw", `"key"`, "a.example.org"} {
		if strings.Contains(file, word) {
			t.Errorf("the export has %s:\n%s", word, file)
		}
	}
	g := newFixture(t, memstore.New())
	_, err = g.load(strings.Replace(file, `"chain":`, `"key":"c2VhbGVk","chain":`, 1), ImportOptions{})
	refused(t, err, policy.KindInvalid)
	must[Moved](t)(g.load(file, ImportOptions{}))
	if again := g.export(acme, ExportOptions{}); again != file {
		t.Errorf("the export of the import is\n%s\nbefore\n%s", again, file)
	}
	if found, _, err := g.ServerCertificate(t.Context(), acme); err != nil || !slices.EqualFunc(found.Chain, chain, slices.Equal) || len(found.Key) > 0 {
		t.Errorf("imported %+v, %v", found, err)
	}
	// A merge adds what is not there, and leaves alone what is.
	if moved := must[Moved](t)(f.load(file, ImportOptions{Merge: true})); moved.Records["server_certificate"] != 0 {
		t.Errorf("merged %+v", moved)
	}
	f.ok(f.DeleteServerCertificate(t.Context(), acme))
	if moved := must[Moved](t)(f.load(file, ImportOptions{Merge: true})); moved.Records["server_certificate"] != 1 {
		t.Errorf("merged %+v", moved)
	}
}
