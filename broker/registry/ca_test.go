package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

// verified is the principal of a chain, as the verifier makes it.
func (f *fixture) verified(org policy.OrgID, leaf *certificatetest.Leaf) (policy.Principal, error) {
	f.t.Helper()
	v := certificate.New(certificate.Config{Authorities: f, Revocation: believing{}, Domain: "localhost"})
	p, err := v.Verify(f.t.Context(), &plugins.Credential{
		Client: policy.Client{ID: policy.ClientID("d:" + org.String() + ":sensor:d1"), TLS: &policy.TLS{SNI: org.String() + ".localhost"}},
		Chain:  leaf.Chain,
	})
	if err != nil {
		return p, err
	}
	return f.Refresh(f.t.Context(), &p)
}

// believing asks nobody: Refresh looks at the lists.
type believing struct{}

func (believing) Check(context.Context, *certificate.Trust, []*x509.Certificate) error { return nil }

func TestAuthorities(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.organisation(other)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "sensor", "d1", "")
		if trust, err := f.CertificateTrust(ctx, acme); trust != nil || err != nil {
			t.Errorf("trusts %v, %v", trust, err)
		}
		root := certificatetest.New(t, "Root")
		f.changes()
		made := must[Authority](t)(f.CreateAuthority(ctx, acme, root.Certificate.Raw, "ours"))
		if told := f.changes(); len(told) != 1 || told[0].Kind != AuthorityCreated || told[0].Authority != made.ID || told[0].Org != acme {
			t.Errorf("told %+v", told)
		}
		if made.ID != certificate.AuthorityID(root.Certificate) || made.Subject != "CN=Root" || made.Comments != "ours" {
			t.Errorf("made %+v", made)
		}
		_, err := f.CreateAuthority(ctx, acme, []byte(certificatetest.PEM(root.Certificate)), "")
		refused(t, err, policy.KindExists)
		must[Authority](t)(f.CreateAuthority(ctx, other, root.Certificate.Raw, "")) // each for itself
		for _, bad := range []struct {
			data     []byte
			comments string
		}{{root.Issue("d:sensor:d1").Certificate.Raw, ""}, {nil, ""}, {certificatetest.New(t, "X").Certificate.Raw, "\x00"}} {
			_, err := f.CreateAuthority(ctx, acme, bad.data, bad.comments)
			refused(t, err, policy.KindInvalid)
		}

		p := must[policy.Principal](t)(f.verified(acme, root.Issue("d:sensor:d1")))
		if !p.Registered || p.DeviceIncarnation == 0 || p.Incarnation == 0 {
			t.Errorf("principal %+v", p)
		}
		f.reopen() // nothing depends on what is in memory
		must[policy.Principal](t)(f.Refresh(ctx, &p))

		f.changes()
		f.ok(f.DeleteAuthority(ctx, acme, made.ID))
		if told := f.changes(); len(told) != 1 || told[0].Kind != AuthorityDeleted || told[0].Authority != made.ID {
			t.Errorf("told %+v", told)
		}
		_, err = f.Refresh(ctx, &p)
		wantCause(t, err, policy.CauseRevoked)
		refused(t, f.DeleteAuthority(ctx, acme, made.ID), policy.KindNotFound)
		_, err = f.Authority(ctx, acme, made.ID)
		refused(t, err, policy.KindNotFound)
		// Trusted again, it vouches for credentials of another version.
		must[Authority](t)(f.CreateAuthority(ctx, acme, root.Certificate.Raw, ""))
		_, err = f.Refresh(ctx, &p)
		wantCause(t, err, policy.CauseRevoked)

		for i := range maxAuthorities - 1 {
			must[Authority](t)(f.CreateAuthority(ctx, acme, certificatetest.New(t, fmt.Sprint(i)).Certificate.Raw, ""))
		}
		_, err = f.CreateAuthority(ctx, acme, certificatetest.New(t, "eleventh").Certificate.Raw, "")
		refused(t, err, policy.KindConflict)
		if all := must[[]Authority](t)(f.Authorities(ctx, acme)); len(all) != maxAuthorities {
			t.Errorf("%d authorities", len(all))
		}

		f.ok(f.DeleteOrganisation(ctx, acme))
		if trust, err := f.CertificateTrust(ctx, acme); trust != nil || err != nil {
			t.Errorf("a deleted organisation trusts %v, %v", trust, err)
		}
		f.organisation(acme)
		if all := must[[]Authority](t)(f.Authorities(ctx, acme)); len(all) != 0 {
			t.Errorf("a namesake trusts %+v", all)
		}
		if all := must[[]Authority](t)(f.Authorities(ctx, other)); len(all) != 1 {
			t.Errorf("the other organisation trusts %+v", all)
		}
	})
}

func TestRevocationLists(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.clock.Store(time.Now().UnixMilli())
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "sensor", "d1", "")
		root, stranger := certificatetest.New(t, "Root"), certificatetest.New(t, "Root")
		between := root.Below("Between")
		made := must[Authority](t)(f.CreateAuthority(ctx, acme, root.Certificate.Raw, ""))
		first, second, deep := root.Issue("d:sensor:d1"), root.Issue("d:sensor:d1"), between.Issue("d:sensor:d1")
		p := must[policy.Principal](t)(f.verified(acme, first))
		through := must[policy.Principal](t)(f.verified(acme, deep))
		f.changes()

		for what, data := range map[string][]byte{
			"a stranger's": stranger.List(9, nil), "nothing": nil,
			"out of date": root.List(9, nil, func(l *x509.RevocationList) {
				l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}),
		} {
			if _, err := f.UploadList(ctx, acme, made.ID, data); policy.KindOf(err) != policy.KindInvalid {
				t.Errorf("%s: %v", what, err)
			}
		}
		_, err := f.UploadList(ctx, acme, "none", root.List(1, nil))
		refused(t, err, policy.KindNotFound)
		if told := f.changes(); len(told) != 0 {
			t.Errorf("told %+v", told)
		}

		shown := must[Authority](t)(f.UploadList(ctx, acme, made.ID, root.List(1, []*x509.Certificate{first.Certificate})))
		if len(shown.Lists) != 1 || shown.Lists[0].Entries != 1 || shown.Lists[0].Number != "1" || shown.Lists[0].Source != "" {
			t.Errorf("shown %+v", shown.Lists)
		}
		told := f.changes()
		if len(told) != 1 || told[0].Kind != CertificatesRevoked || !told[0].Revoked.Has(certificate.Serial(first.Certificate)) {
			t.Fatalf("told %+v", told)
		}
		proof, _ := certificate.ParseProof(p.Credential.ID)
		others, _ := certificate.ParseProof(through.Credential.ID)
		if !proof.On(told[0].Revoked) || others.On(told[0].Revoked) {
			t.Error("the change is about others")
		}
		_, err = f.Refresh(ctx, &p)
		wantCause(t, err, policy.CauseRevoked)
		must[policy.Principal](t)(f.verified(acme, second))

		// The same again changes nothing; an older one cannot take anything back.
		same := root.List(2, []*x509.Certificate{first.Certificate, second.Certificate})
		must[Authority](t)(f.UploadList(ctx, acme, made.ID, same))
		f.changes()
		before := f.writer.last
		must[Authority](t)(f.UploadList(ctx, acme, made.ID, same))
		if f.writer.last != before || len(f.changes()) != 0 {
			t.Error("the same list was written again")
		}
		_, err = f.UploadList(ctx, acme, made.ID, root.List(1, nil))
		refused(t, err, policy.KindConflict)

		// A revoked issuer takes all that it signed with it.
		must[Authority](t)(f.UploadList(ctx, acme, made.ID, root.List(3, []*x509.Certificate{between.Certificate})))
		_, err = f.Refresh(ctx, &through)
		wantCause(t, err, policy.CauseRevoked)
		// The list of an issuer below goes with the authority that vouches for it.
		f.ok(f.KeepList(ctx, acme, p.Incarnation, made.ID, between.Certificate.Raw, "http://crl.example/b", between.List(1, nil)))
		refused(t, f.KeepList(ctx, acme, p.Incarnation+1, made.ID, between.Certificate.Raw, "http://crl.example/c", between.List(1, nil)), policy.KindNotFound)
		// A renewed authority is the same issuer: its lists stay.
		renewed := must[Authority](t)(f.CreateAuthority(ctx, acme, root.Again().Certificate.Raw, ""))
		f.ok(f.DeleteAuthority(ctx, acme, made.ID))
		trust := must[*certificate.Trust](t)(f.CertificateTrust(ctx, acme))
		if kept := trust.Lists(); len(kept) != 1 || kept[0].Authority != renewed.ID {
			t.Errorf("kept %+v", kept)
		}
		_, err = f.verified(acme, deep)
		wantCause(t, err, policy.CauseRevoked)
		f.ok(f.DeleteAuthority(ctx, acme, renewed.ID))
		if trust := must[*certificate.Trust](t)(f.CertificateTrust(ctx, acme)); trust != nil {
			t.Errorf("still trusts %+v", trust)
		}
	})
}

func TestRevocationMode(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	must[Authority](t)(f.CreateAuthority(ctx, acme, certificatetest.New(t, "Root").Certificate.Raw, ""))
	for _, mode := range []string{"", RevocationLenient, RevocationStrict} {
		if mode != "" {
			f.ok(f.SetRevocation(ctx, acme, mode))
		}
		trust := must[*certificate.Trust](t)(f.CertificateTrust(ctx, acme))
		said := must[string](t)(f.Revocation(ctx, acme))
		if trust.Lenient != (mode == RevocationLenient) || said != mode && mode != "" || mode == "" && said != RevocationStrict {
			t.Errorf("%q: lenient %v, said %q", mode, trust.Lenient, said)
		}
	}
	for _, bad := range []string{"", "never", "Strict"} {
		refused(t, f.SetRevocation(ctx, acme, bad), policy.KindInvalid)
	}
}

func TestAuthoritiesMove(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.clock.Store(time.Now().UnixMilli())
	f.furnish()
	root := certificatetest.New(t, "Root")
	dead := root.Issue("d:sensor:d1")
	made := must[Authority](t)(f.CreateAuthority(ctx, acme, root.Certificate.Raw, "ours"))
	must[Authority](t)(f.UploadList(ctx, acme, made.ID, root.List(1, []*x509.Certificate{dead.Certificate})))
	f.ok(f.SetRevocation(ctx, acme, RevocationLenient))
	file := f.export(acme, ExportOptions{WithoutCredentials: true})

	there := newFixture(t, stores[0].open(t))
	there.clock.Store(time.Now().UnixMilli())
	must[Moved](t)(there.load(file, ImportOptions{}))
	must[policy.Principal](t)(there.verified(acme, root.Issue("d:sensor:d1")))
	_, err := there.verified(acme, dead)
	wantCause(t, err, policy.CauseRevoked)
	if mode := must[string](t)(there.Revocation(ctx, acme)); mode != RevocationLenient {
		t.Errorf("mode %q", mode)
	}

	merged := newFixture(t, stores[0].open(t))
	merged.organisation(acme)
	merged.deviceType(acme, "sensor", ClassDevice)
	must[Moved](t)(merged.load(file, ImportOptions{Merge: true}))
	_, err = merged.verified(acme, dead)
	wantCause(t, err, policy.CauseRevoked)

	for what, swap := range map[string][2]string{
		"a certificate that is none": {`"certificate":"MII`, `"certificate":"AAA`},
		"a list that is none":        {`"der":"MI`, `"der":"AA`},
		"a list of nobody":           {`"authority":"` + string(made.ID), `"authority":"` + strings.Repeat("0", 32)},
	} {
		if changed := strings.Replace(file, swap[0], swap[1], 1); changed == file {
			t.Errorf("%s: nothing to change", what)
		} else if _, err := newFixture(t, stores[0].open(t)).load(changed, ImportOptions{}); policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Whoever reads what an organisation trusts while it changes never keeps what was.
func TestTrustsHammer(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	ctx := t.Context()
	f.organisation(acme)
	root := certificatetest.New(t, "Root").Certificate
	id := certificate.AuthorityID(root)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					if _, err := f.CertificateTrust(ctx, acme); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 200 {
		must[Authority](t)(f.CreateAuthority(ctx, acme, root.Raw, ""))
		if trust := must[*certificate.Trust](t)(f.CertificateTrust(ctx, acme)); trust == nil || !trust.Has(id) {
			t.Fatal("not trusted after it was created")
		}
		f.ok(f.DeleteAuthority(ctx, acme, id))
		if trust := must[*certificate.Trust](t)(f.CertificateTrust(ctx, acme)); trust != nil {
			t.Fatal("trusted after it was deleted")
		}
	}
	close(done)
	readers.Wait()
	if err := f.DeleteAuthority(ctx, acme, id); policy.KindOf(err) != policy.KindNotFound {
		t.Error(err)
	}
}
