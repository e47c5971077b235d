package revocation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ocsp"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/memstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
	"github.com/cordon-mq/cordon/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is an organisation with an authority, and a server that publishes what the
// authority revoked.
type world struct {
	t *testing.T
	*Keeper
	registry *registry.Registry
	org      policy.OrgID
	root     *certificatetest.Authority
	server   *httptest.Server
	ahead    atomic.Int64 // of the clock
	asked    atomic.Int64
	told     struct {
		sync.Mutex
		list []registry.Change
	}

	answers struct {
		sync.Mutex
		by map[string]http.HandlerFunc
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, root: certificatetest.New(t, "Root")}
	w.answers.by = map[string]http.HandlerFunc{}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		w.answers.Lock()
		h := w.answers.by[r.URL.Path]
		w.answers.Unlock()
		if h == nil {
			http.NotFound(rw, r)
			return
		}
		h(rw, r)
	}))
	st := memstore.New()
	reg, err := registry.Open(st, registry.Options{Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	w.registry = reg
	w.Keeper = New(Config{Registry: reg, Private: true, Now: w.now})
	t.Cleanup(func() {
		w.Close()
		w.server.Close()
		reg.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.org, err = policy.ParseOrgID("acme01"); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.CreateOrganisation(t.Context(), w.org, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.CreateAuthority(t.Context(), w.org, w.root.Certificate.Raw, ""); err != nil {
		t.Fatal(err)
	}
	reg.Watch(func(ch registry.Change) {
		w.told.Lock()
		defer w.told.Unlock()
		w.told.list = append(w.told.list, ch)
	})
	return w
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *world) answer(path string, h http.HandlerFunc) {
	w.answers.Lock()
	defer w.answers.Unlock()
	w.answers.by[path] = h
}

func (w *world) bytes(path string, data []byte) {
	w.answer(path, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(data) })
}

// points names where lists are found, and responders who answers.
func (w *world) points(paths ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, path := range paths {
			c.CRLDistributionPoints = append(c.CRLDistributionPoints, w.server.URL+path)
		}
	}
}

func (w *world) responder(path string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.OCSPServer = []string{w.server.URL + path} }
}

// check is the cause that a certificate is refused for.
func (w *world) check(leaf *certificatetest.Leaf) policy.Cause {
	w.t.Helper()
	trust, err := w.registry.CertificateTrust(w.t.Context(), w.org)
	if err != nil || trust == nil {
		w.t.Fatal(trust, err)
	}
	chain := append(append([]*x509.Certificate(nil), leaf.Chain...), w.root.Certificate)
	return plugins.CauseOf(w.Check(w.t.Context(), trust, chain))
}

func (w *world) want(what string, leaf *certificatetest.Leaf, cause policy.Cause) {
	w.t.Helper()
	if got := w.check(leaf); got != cause {
		w.t.Errorf("%s: %q, want %q", what, got, cause)
	}
}

func (w *world) lenient(yes bool) {
	w.t.Helper()
	mode := registry.RevocationStrict
	if yes {
		mode = registry.RevocationLenient
	}
	if err := w.registry.SetRevocation(w.t.Context(), w.org, mode); err != nil {
		w.t.Fatal(err)
	}
}

const d1 = "d:sensor:d1"

func TestDistributionPoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, dead := w.root.Issue(d1, w.points("/crl")), w.root.Issue(d1, w.points("/crl"))
	w.want("nobody named", w.root.Issue(d1), "")
	w.want("never answered", good, policy.CauseRevocation)
	asked := w.asked.Load()
	w.want("asked again at once", good, policy.CauseRevocation)
	if w.asked.Load() != asked {
		t.Error("an address that failed was asked again at once")
	}
	w.lenient(true)
	w.want("lenient", good, "")
	w.lenient(false)

	w.bytes("/crl", w.root.List(1, []*x509.Certificate{dead.Certificate}))
	w.ahead.Add(int64(failurePause + time.Second))
	w.want("answered", good, "")
	w.want("on the list", dead, policy.CauseRevoked)
	w.lenient(true)
	w.want("on the list, lenient", dead, policy.CauseRevoked)
	w.lenient(false)
	asked = w.asked.Load()
	w.want("kept", w.root.Issue(d1, w.points("/crl")), "")
	if w.asked.Load() != asked {
		t.Error("a list that is kept was fetched")
	}

	// It stays when the server is gone, until it runs out; then revoked stays revoked.
	w.answer("/crl", nil)
	w.ahead.Add(int64(30 * time.Minute))
	w.want("kept while nobody answers", good, "")
	w.ahead.Add(int64(time.Hour))
	w.want("run out", good, policy.CauseRevocation)
	w.want("run out, on the list", dead, policy.CauseRevoked)
}

// Answers that are none.
func TestAnswersThatAreNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := certificatetest.New(t, "Root")
	w.bytes("/stranger", stranger.List(1, nil))
	w.bytes("/junk", []byte("junk"))
	w.bytes("/empty", nil)
	w.bytes("/large", make([]byte, 2*certificate.MaxList+1))
	w.bytes("/old", w.root.List(1, nil, func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}))
	w.bytes("/tomorrow", w.root.List(1, nil, func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}))
	w.bytes("/good", w.root.List(2, nil))
	w.answer("/redirect", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/good", http.StatusFound) })
	for _, path := range []string{"/none", "/stranger", "/junk", "/empty", "/large", "/old", "/tomorrow", "/redirect"} {
		w.want(path, w.root.Issue(d1, w.points(path)), policy.CauseRevocation)
	}
	w.want("no address that can be asked", w.root.Issue(d1, func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"ldap://dc.example/cn=x", "file:///etc/passwd", "http://user:word@" + strings.TrimPrefix(w.server.URL, "http://") + "/good", "http:///x"}
	}), policy.CauseRevocation)
	w.want("the second of two", w.root.Issue(d1, w.points("/none", "/good")), "")
}

// Every certificate below the authority is asked about.
func TestIssuersInBetween(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	between := w.root.Below("Between", w.points("/root"))
	w.bytes("/root", w.root.List(1, nil))
	w.bytes("/between", between.List(1, nil))
	w.want("both answer", between.Issue(d1, w.points("/between")), "")
	w.want("one does not", between.Issue(d1, w.points("/none")), policy.CauseRevocation)
	fallen := w.root.Below("Fallen", w.points("/second"))
	w.bytes("/second", w.root.List(2, []*x509.Certificate{fallen.Certificate}))
	w.bytes("/fallen", fallen.List(1, nil))
	w.want("the issuer is revoked", fallen.Issue(d1, w.points("/fallen")), policy.CauseRevoked)
}

// A list that says something new is found in the background, and told.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leaf := w.root.Issue(d1, w.points("/crl"))
	w.bytes("/crl", w.root.List(1, nil))
	w.want("before", leaf, "")
	w.bytes("/crl", w.root.List(2, []*x509.Certificate{leaf.Certificate}))
	w.Refresh(t.Context(), []policy.OrgID{w.org})
	w.idle()
	w.want("not due yet", leaf, "")
	w.ahead.Add(int64(listMost))
	w.Refresh(t.Context(), []policy.OrgID{w.org})
	w.idle()
	w.want("after", leaf, policy.CauseRevoked)
	if !w.wasTold(leaf) {
		t.Error("nobody was told")
	}
	// What was fetched without anything new is not due at once.
	w.ahead.Add(int64(listMost))
	w.Refresh(t.Context(), []policy.OrgID{w.org})
	w.idle()
	asked := w.asked.Load()
	w.Refresh(t.Context(), []policy.OrgID{w.org})
	w.idle()
	if w.asked.Load() != asked {
		t.Error("fetched again at once")
	}
}

// idle waits until nothing is under way.
func (w *world) idle() {
	w.asking.Lock()
	var calls []*call
	for _, c := range w.asking.calls {
		calls = append(calls, c)
	}
	w.asking.Unlock()
	for _, c := range calls {
		<-c.done
	}
}

func (w *world) wasTold(leaf *certificatetest.Leaf) bool {
	w.told.Lock()
	defer w.told.Unlock()
	for _, ch := range w.told.list {
		if ch.Kind == registry.CertificatesRevoked && ch.Revoked.Has(certificate.Serial(leaf.Certificate)) {
			return true
		}
	}
	return false
}

// respond answers about every certificate with a status, signed by signer.
func (w *world) respond(path string, status int, issuer *x509.Certificate, signer *certificatetest.Leaf, edit ...func(*ocsp.Response)) {
	w.answer(path, func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked, err := ocsp.ParseRequest(body)
		if err != nil {
			http.Error(rw, "", http.StatusBadRequest)
			return
		}
		said := ocsp.Response{Status: status, SerialNumber: asked.SerialNumber, ThisUpdate: w.now().Add(-time.Minute), NextUpdate: w.now().Add(time.Hour)}
		by, key := issuer, w.root.Key
		if signer != nil {
			by, key, said.Certificate = signer.Certificate, signer.Key, signer.Certificate
		}
		for _, f := range edit {
			f(&said)
		}
		der, err := ocsp.CreateResponse(issuer, by, said, key)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = rw.Write(der)
	})
}

func TestResponder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.root.Certificate
	appointed := w.root.Issue("Responder", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	device := w.root.Issue("d:sensor:evil")
	stranger := certificatetest.New(t, "Root").Issue("Responder", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	w.respond("/good", ocsp.Good, root, nil)
	w.respond("/appointed", ocsp.Good, root, appointed)
	w.respond("/revoked", ocsp.Revoked, root, nil)
	w.respond("/unknown", ocsp.Unknown, root, nil)
	w.respond("/device", ocsp.Good, root, device)
	w.respond("/stranger", ocsp.Good, root, stranger)
	w.respond("/old", ocsp.Good, root, nil, func(r *ocsp.Response) { r.NextUpdate = w.now().Add(-time.Second) })
	w.respond("/tomorrow", ocsp.Good, root, nil, func(r *ocsp.Response) { r.ThisUpdate = w.now().Add(time.Hour) })
	w.respond("/about-another", ocsp.Good, root, nil, func(r *ocsp.Response) { r.SerialNumber = device.Certificate.SerialNumber })
	w.bytes("/junk", []byte("junk"))
	w.bytes("/crl", w.root.List(1, nil))
	for path, cause := range map[string]policy.Cause{
		"/good": "", "/appointed": "", "/revoked": policy.CauseRevoked, "/unknown": policy.CauseRevocation, "/device": policy.CauseRevocation,
		"/stranger": policy.CauseRevocation, "/old": policy.CauseRevocation, "/tomorrow": policy.CauseRevocation,
		"/about-another": policy.CauseRevocation, "/junk": policy.CauseRevocation, "/none": policy.CauseRevocation,
	} {
		w.want(path, w.root.Issue(d1, w.responder(path)), cause)
		listed := cause
		if cause == policy.CauseRevocation {
			listed = "" // the list answers instead
		}
		w.want(path+" with a list", w.root.Issue(d1, w.responder(path), w.points("/crl")), listed)
	}
}

// An answer is remembered, asked for again in time, and told when it changes.
func TestResponderChangesItsMind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	leaf := w.root.Issue(d1, w.responder("/ocsp"))
	w.respond("/ocsp", ocsp.Good, w.root.Certificate, nil)
	w.want("before", leaf, "")
	asked := w.asked.Load()
	w.want("again", leaf, "")
	if w.asked.Load() != asked {
		t.Error("an answer was not remembered")
	}
	w.respond("/ocsp", ocsp.Revoked, w.root.Certificate, nil)
	w.ahead.Add(int64(30 * time.Minute))
	w.Refresh(t.Context(), nil)
	w.idle()
	if !w.wasTold(leaf) {
		t.Error("nobody was told")
	}
	w.want("after", leaf, policy.CauseRevoked)
	w.answer("/ocsp", nil)
	w.ahead.Add(int64(2 * time.Hour))
	w.want("after, and nobody answers", leaf, policy.CauseRevoked)
}

// A server that does not answer holds a connect up for a bounded time, once.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stuck := make(chan struct{})
	defer close(stuck)
	started := make(chan struct{}, 100)
	w.answer("/slow", func(http.ResponseWriter, *http.Request) { started <- struct{}{}; <-stuck })
	leaf := w.root.Issue(d1, w.points("/slow"))
	trust, err := w.registry.CertificateTrust(t.Context(), w.org)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if err := w.Check(ctx, trust, []*x509.Certificate{leaf.Certificate, w.root.Certificate}); plugins.CauseOf(err) != policy.CauseRevocation {
				t.Error(err)
			}
		})
	}
	<-started
	cancel()
	waiting.Wait()
	if n := w.asked.Load(); n != 1 {
		t.Errorf("asked %d times at once", n)
	}
}

// One organisation cannot have everybody's questions.
func TestQuestionsOfOneOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stuck := make(chan struct{})
	var begun []*call
	for i := range maxAskingOrg {
		c, err := w.begin(question{org: w.org, address: fmt.Sprint(i)}, func(context.Context) error { <-stuck; return nil })
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, c)
	}
	if _, err := w.begin(question{org: w.org, address: "more"}, nil); !errors.Is(err, errBusy) {
		t.Errorf("one more: %v", err)
	}
	other, _ := policy.ParseOrgID("other1")
	c, err := w.begin(question{org: other, address: "0"}, func(context.Context) error { return nil })
	if err != nil {
		t.Fatalf("of another organisation: %v", err)
	}
	<-c.done
	close(stuck)
	for _, c := range begun {
		<-c.done
	}
	w.asking.Lock()
	defer w.asking.Unlock()
	if len(w.asking.orgs) != 0 || len(w.asking.calls) != 0 {
		t.Errorf("left over: %v, %v", w.asking.orgs, w.asking.calls)
	}
}

func TestOnlyPublicAddresses(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"8.8.8.8": true, "2606:4700:4700::1111": true, "193.0.6.139": true,
		"127.0.0.1": false, "127.8.8.8": false, "::1": false, "0.0.0.0": false, "::": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"fe80::1": false, "fc00::1": false, "fd00:ec2::254": false, "ff02::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::127.0.0.1": false, "fec0::1": false, "192.0.0.192": false, "198.18.0.1": false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != public {
			t.Errorf("%s: %v", address, got)
		}
	}
	f := newFetcher(false)
	defer f.close()
	served := false
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served = true }))
	defer server.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
	for _, address := range []string{server.URL, "http://localhost:" + port + "/"} {
		if _, err := f.get(t.Context(), address); err == nil || served {
			t.Errorf("%s was asked: %v", address, err)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	root := certificatetest.New(f, "Root")
	leaf := root.Issue(d1)
	der, err := ocsp.CreateResponse(root.Certificate, root.Certificate, ocsp.Response{Status: ocsp.Revoked, SerialNumber: leaf.Certificate.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, root.Key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, data []byte) {
		if said, err := readAnswer(data, leaf.Certificate, root.Certificate, time.Now()); err == nil && !said.revoked {
			t.Fatal("a forged answer")
		}
	})
}
