package api

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// An organisation that calls too often is told so before its body is read or the
// policy asked, whichever credential it shows; nobody else notices.
func TestCallsOfAnOrganisationAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config, _ *Deps) { c.CallRate = 2 })
	second := w.call("POST", "/authorization/apikeys", `{"roles":["PD_ADMIN_APP"]}`, http.StatusOK).object(t)
	for range 3 {
		w.call("GET", "/device/types", "", http.StatusOK)
	}
	w.decider.Forget()
	got := w.do(w.request("GET", "/api/v0002/device/types", ""))
	got.wantError(t, http.StatusTooManyRequests, "CDNHT0429E")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("headers = %v", got.header)
	}
	another := w.request("POST", "/api/v0002/device/types", "not JSON")
	another.SetBasicAuth(second["key"].(string), second["token"].(string))
	w.do(another).wantError(t, http.StatusTooManyRequests, "CDNHT0429E")
	if asked := w.decider.Asked(policy.ActionAdminister); len(asked) != 0 {
		t.Errorf("the policy was asked %v", asked)
	}
	refused := w.logs.lines(t, "refused")
	if len(refused) != 1 || refused[0]["reason"] != string(policy.CauseLimit) || refused[0]["org"] != "acme01" || refused[0]["client"] != w.acme.APIKey.Key {
		t.Errorf("log = %v", refused)
	}
	if n := w.api.Refusals()[Refusal{surfaceOrganisation, policy.CauseLimit}]; n != 2 {
		t.Errorf("%d refusals are counted", n)
	}

	theirs := w.request("GET", "/api/v0002/device/types", "")
	theirs.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
	if got := w.do(theirs); got.status != http.StatusOK {
		t.Errorf("the other organisation: %d %s", got.status, got.text)
	}
	w.clock.set(w.clock.now().Add(time.Second))
	w.call("GET", "/device/types", "", http.StatusOK)
	w.call("GET", "/device/types", "", http.StatusOK)
	w.call("GET", "/device/types", "", http.StatusTooManyRequests)
	if refused := w.logs.lines(t, "refused"); len(refused) != 2 {
		t.Errorf("log after a second = %v", refused)
	}
}

// What is remembered of organisations does not grow with their number, and nobody is
// let in earlier by being forgotten.
func TestCallRatesAreBounded(t *testing.T) {
	t.Parallel()
	rs := &rates{perSecond: 1}
	now := time.Unix(1_000_000, 0)
	org := func(i int) policy.OrgID {
		id, err := policy.ParseOrgID(fmt.Sprintf("o%05d", i))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for range callBurstTime {
		if ok, _ := rs.take(org(0), now); !ok {
			t.Fatal("the burst is refused")
		}
	}
	for i := range 10 * callRatesKept {
		if i%callRatesKept == 0 {
			now = now.Add(callBurstTime * time.Second)
			for range callBurstTime {
				rs.take(org(0), now)
			}
		}
		rs.take(org(i+1), now)
		if ok, _ := rs.take(org(0), now); ok {
			t.Fatalf("after %d organisations the first one has calls again", i)
		}
	}
	if n := len(rs.guarded.orgs); n > 3*callRatesKept {
		t.Errorf("%d organisations are remembered", n)
	}
}
