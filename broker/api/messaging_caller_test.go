package api

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// use-token-auth is of the organisation that the host names, and of no other;
// whatever names its organisation itself is passed on with the host, which the
// broker holds against it.
func TestTheHostChoosesForTokensAlone(t *testing.T) {
	t.Parallel()
	for host, org := range map[string]string{
		"acme01.messaging.example.org": "acme01", "acme01.example.org": "acme01", "rival1.messaging.example.org": "rival1",
		"acme01.messaging.example.org:8443": "acme01", "ACME01.Messaging.EXAMPLE.org": "acme01", "acme01.messaging.example.org.": "acme01",
		"acme01.messaging.example.org.:443": "acme01",
		"":                                  "", "example.org": "", "messaging.example.org": "messaging", "192.0.2.1": "", "192.0.2.1:8443": "", "[2001:db8::1]": "", "[2001:db8::1]:8443": "",
		"acme01": "", "acme01.example.com": "", "acme01.messaging.example.org.evil.net": "", "acme01example.org": "",
		"xn--acme01-.example.org": "", "аcme01.example.org": "", "a.acme01.example.org": "", "acme01.messaging.messaging.example.org": "",
		"acme01%00.example.org": "", "acme01.example.org:x:y": "", "quickstart.messaging.example.org": "", "-.example.org": "",
	} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			w, f := messagingWorld(t)
			r := message(ownEvent, "use-token-auth", asJSON, `1`)
			r.Host = host
			got := w.do(r)
			if org == "" {
				got.wantError(t, http.StatusUnauthorized, "CDNHT0401E")
				if len(f.entered) > 0 {
					t.Errorf("asked as %s", f.entered[0].Client.ID)
				}
			} else if got.status != http.StatusOK || f.entered[0].Client.ID != policy.ClientID("d:"+org+":sensor:d1") {
				t.Errorf("status %d, asked as %v", got.status, f.entered)
			}

			for user, id := range map[string]policy.ClientID{
				"d/acme01/sensor/d1": "d:acme01:sensor:d1", "g/acme01/sensor/d1": "g:acme01:sensor:d1",
			} {
				w, f := messagingWorld(t)
				r := message(ownEvent, user, asJSON, `1`)
				r.Host = host
				if got := w.do(r); got.status != http.StatusOK || f.entered[0].Client.ID != id {
					t.Errorf("%s: status %d", user, got.status)
				}
				if strings.ContainsRune(f.hosts[0], ':') && !strings.HasPrefix(f.hosts[0], "[") && f.hosts[0] != host && !strings.Contains(f.hosts[0], "::") {
					t.Errorf("host %q has a port", f.hosts[0])
				}
			}
		})
	}
}

func TestWhatCredentialsBecome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set      func(*http.Request)
		id, user string
		password string
		refused  bool
	}{
		"token":              {func(r *http.Request) { r.SetBasicAuth("use-token-auth", "p:q") }, "d:acme01:sensor:d1", "use-token-auth", "p:q", false},
		"device":             {func(r *http.Request) { r.SetBasicAuth("d/rival1/hub/x", "p") }, "d:rival1:hub:x", "use-token-auth", "p", false},
		"gateway":            {func(r *http.Request) { r.SetBasicAuth("g/acme01/a-b/x", "p") }, "g:acme01:a-b:x", "use-token-auth", "p", false},
		"gateway, hyphens":   {func(r *http.Request) { r.SetBasicAuth("g-acme01-ab-x-y", "p") }, "g:acme01:ab:x-y", "use-token-auth", "p", false},
		"key":                {func(r *http.Request) { r.SetBasicAuth(appUser, "p") }, "a:acme01:" + appUser, appUser, "p", false},
		"not quite a key":    {func(r *http.Request) { r.SetBasicAuth("a-A-b", "p") }, "", "a-A-b", "p", false},
		"not quite a device": {func(r *http.Request) { r.SetBasicAuth("d/acme01/sensor", "p") }, "", "d/acme01/sensor", "p", false},
		"a device with more": {func(r *http.Request) { r.SetBasicAuth("d/acme01/sensor/d1/x", "p") }, "", "d/acme01/sensor/d1/x", "p", false},
		"a user":             {func(r *http.Request) { r.SetBasicAuth("admin@acme01", "p") }, "", "admin@acme01", "p", false},
		"a plugin by Bearer": {func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer tok")
			r.Header.Set("X-Cordon-Plugin", "jwt")
		}, "", "use-plugin:jwt", "tok", false},
		"a token of whomever": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer tok") }, "", "", "tok", false},
		"nothing":             {func(*http.Request) {}, "", "", "", false},
		"twice":               {func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer a", "Bearer b"} }, "", "", "", true},
		"two plugins": {func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer a")
			r.Header["X-Cordon-Plugin"] = []string{"a", "b"}
		}, "", "", "", true},
		"something else": {func(r *http.Request) { r.Header.Set("Authorization", "Digest x") }, "", "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, f := messagingWorld(t)
			f.kind = policy.KindDevice
			r := message(ownEvent, "", asJSON, "1")
			r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, ServerName: "acme01.example.org"}
			test.set(r)
			got := w.do(r)
			if test.refused {
				got.wantError(t, http.StatusUnauthorized, "CDNHT0401E")
				return
			}
			c := f.entered[0]
			if string(c.Client.ID) != test.id || c.Client.Username != test.user || string(c.Password.Reveal()) != test.password ||
				c.HasPassword != (test.password != "") {
				t.Errorf("%+v with %q", c.Client, c.Password.Reveal())
			}
			if c.Client.Listener != "https" || c.Client.Address.String() != "192.0.2.1" || c.Client.TLS.SNI != "acme01.example.org" {
				t.Errorf("client %+v", c.Client)
			}
		})
	}
}
