package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/api/control"
)

// The whole way of a command line call: socket, operator's routes, answer.
func TestControlSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "cordon-api-") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := newWorld(t)
	l, err := control.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: w.api.OperatorHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })

	client, err := control.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.CloseIdleConnections()
	resp, err := client.Post(control.BaseURL+"/organisations", "application/json", strings.NewReader(`{"org":"third1"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || resp.StatusCode != http.StatusCreated || !strings.Contains(string(body), `"apiToken"`) {
		t.Errorf("%d %s, %v", resp.StatusCode, body, err)
	}
	if _, err := w.registry.Organisation(t.Context(), mustOrg(t, "third1")); err != nil {
		t.Error(err)
	}
}

// On a real connection, too, a body that is too large is refused before it came.
func TestTooLargeOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.MaxBody = 1024 })
	srv := httptest.NewServer(w.api.Handler())
	t.Cleanup(srv.Close)
	r := w.request("POST", "/", "{}")
	req, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL+"/api/v0002/device/types", strings.NewReader(strings.Repeat(" ", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header
	req.Header.Set("Expect", "100-continue")
	client := srv.Client()
	client.Transport.(*http.Transport).ExpectContinueTimeout = time.Minute // it waits for the answer, and need not send the body
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status = %d", resp.StatusCode)
	}
}
