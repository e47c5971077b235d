package wasm

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
)

// reason is what a guest that refuses everybody says to c.
func reason(t *testing.T, v plugins.Verifier, c *plugins.Credential) string {
	t.Helper()
	_, err := v.Verify(t.Context(), c)
	var refusal *plugins.Refusal
	if !errors.As(err, &refusal) || !errors.Is(err, plugins.ErrBad) || refusal.Err == nil {
		t.Fatalf("%v; want the guest's own refusal", err)
	}
	return refusal.Err.Error()
}

// A guest that tells the first token it saw tells it to nobody of another
// organisation, whoever is asked first and however often.
func TestATokenStaysInItsOrganisation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "_platform/it", "remembers", "organisations: [acme01, demo01]")
	h := open(t, Options{Dir: dir, Limits: patient()})
	acme, demo, unnamed := find(t, h, "it", "acme01"), find(t, h, "it", "demo01"), find(t, h, "it", "")
	const secret = "the first token of acme01"
	encoded := base64.StdEncoding.EncodeToString([]byte(secret))

	reason(t, acme, token(secret))
	for n := range 3 {
		next := token("another token " + strconv.Itoa(n))
		if said := reason(t, acme, next); said != encoded {
			t.Fatalf("within acme01 the guest says %q: it does not show what it kept", said)
		}
		for name, v := range map[string]plugins.Verifier{"demo01": demo, "no organisation": unnamed} {
			if said := reason(t, v, next); strings.Contains(said, encoded) {
				t.Errorf("the token of acme01 came to %s", name)
			}
		}
	}
	// Nor does what somebody without a name presents come to anybody.
	reason(t, unnamed, token("a token of nobody"))
	nobodys := base64.StdEncoding.EncodeToString([]byte("a token of nobody"))
	for _, v := range []plugins.Verifier{acme, demo, unnamed} {
		if said := reason(t, v, token("whose is it")); strings.Contains(said, nobodys) {
			t.Error("the token of nobody was kept")
		}
	}
}

// The buffer of a call is used again, but what was in it is gone.
func TestNothingOfARequestStaysInItsBuffer(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20, requestUsual, 2 * requestUsual} {
		c := &call{body: bytes.Repeat([]byte("x"), size), secret: []byte("correct horse")}
		buffer := c.body[:cap(c.body)]
		var spare calls
		spare.put(c)
		if left := bytes.Count(buffer, []byte("x")); left > 0 {
			t.Errorf("%d of %d bytes of a request are still there", left, size)
		}
		if len(c.body) > 0 || c.secret != nil || cap(c.body) > requestUsual {
			t.Errorf("after a request of %d bytes a call has %d bytes, a buffer of %d and the secret %q", size, len(c.body), cap(c.body), c.secret)
		}
	}
}

// A guest has no time but that of its request: neither a client nor a vector is
// judged by today's.
func TestTheClockOfAGuestIsTheRequests(t *testing.T) {
	t.Parallel()
	p, v, clock, _ := clocked(t, "tells_time", "", patient())
	asked := time.Date(2001, 10, 1, 12, 0, 0, 0, time.UTC)
	of := func(said string) time.Time {
		t.Helper()
		nanoseconds, err := strconv.ParseInt(said[max(0, len(said)-19):], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.Unix(0, nanoseconds).UTC().Truncate(time.Millisecond)
	}
	vector := Vector{Name: "old", Token: "x", Want: "bad", NowMS: asked.UnixMilli()}
	if got := of(p.selfTest(t.Context(), []Vector{vector})[0].Detail); !got.Equal(asked) {
		t.Errorf("a vector of %v sees %v", asked, got)
	}
	clock.nanoseconds.Store(asked.Add(time.Hour).UnixNano())
	if got := of(reason(t, v, token("x"))); !got.Equal(asked.Add(time.Hour)) {
		t.Errorf("a client an hour later sees %v", got)
	}
}

// A module may declare as much memory as it likes, and gets what is allowed.
func TestADeclaredMaximumIsCutToTheLimit(t *testing.T) {
	t.Parallel()
	l := patient()
	l.MemoryBytes = 6 * pageBytes
	_, v, log := one(t, "large_maximum", "", l)
	if said := reason(t, v, token("x")); said != "6" {
		t.Errorf("the guest has %s pages of 6\n%s", said, log)
	}
}
