package api

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func showsMetrics(_ *Config, d *Deps) {
	d.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "cordon_sessions 7\n")
	})
}

// The metrics are the operator's, by the token or through the socket, and nobody
// else's.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, showsMetrics)
	for _, test := range []struct {
		name, method, header string
		socket               bool
		want                 int
	}{
		{"the token", "GET", "Bearer " + operatorToken, false, http.StatusOK},
		{"the token, HEAD", "HEAD", "Bearer " + operatorToken, false, http.StatusOK},
		{"the socket", "GET", "", true, http.StatusOK},
		{"nothing", "GET", "", false, http.StatusUnauthorized},
		{"an empty token", "GET", "Bearer ", false, http.StatusUnauthorized},
		{"a part of the token", "GET", "Bearer " + operatorToken[1:], false, http.StatusUnauthorized},
		{"an organisation's administrator", "GET", w.request("GET", "/", "").Header.Get("Authorization"), false, http.StatusUnauthorized},
		{"another method", "POST", "Bearer " + operatorToken, false, http.StatusMethodNotAllowed},
	} {
		r := w.request(test.method, "/metrics", "")
		r.Header.Del("Authorization")
		if test.header != "" {
			r.Header.Set("Authorization", test.header)
		}
		h := w.api.Handler()
		if test.socket {
			h = w.api.OperatorHandler()
		}
		got := serve(h, r)
		if got.status != test.want || strings.Contains(got.text, "cordon_sessions") != (test.want == http.StatusOK) {
			t.Errorf("%s: %d %q, want %d", test.name, got.status, got.text, test.want)
		}
		challenge := got.header.Get("WWW-Authenticate")
		if (challenge == `Bearer realm="Cordon operator"`) != (test.want == http.StatusUnauthorized) {
			t.Errorf("%s: challenge %q", test.name, challenge)
		}
	}
	if got := w.api.Refusals()[Refusal{"operator", policy.CauseBad}]; got != 4 {
		t.Errorf("%d refusals are counted, want 4", got)
	}
	if n := strings.Count(w.logs.text(), `"route":"/metrics"`); n != 4 {
		t.Errorf("%d refusals are in the log, want 4:\n%s", n, w.logs.text())
	}
	if strings.Contains(w.logs.text(), operatorToken[1:]) {
		t.Error("a token is in the log")
	}
	// Nobody may get to them where no token was set, nor where there are none.
	none := newWorld(t)
	r := none.request("GET", "/metrics", "")
	r.Header.Set("Authorization", "Bearer "+operatorToken)
	if got := serve(none.api.Handler(), r); got.status != http.StatusNotFound {
		t.Errorf("without metrics: %d", got.status)
	}
}
