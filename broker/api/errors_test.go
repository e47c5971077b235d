package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

func TestStatusOfEveryKind(t *testing.T) {
	t.Parallel()
	want := map[policy.Kind]int{
		policy.KindInternal:        500,
		policy.KindInvalid:         400,
		policy.KindUnauthenticated: 401,
		policy.KindForbidden:       403,
		policy.KindNotFound:        404,
		policy.KindExists:          409,
		policy.KindConflict:        409,
		policy.KindTooLarge:        413,
		policy.KindLimit:           429,
		policy.KindUnavailable:     503,
	}
	ids := map[string]int{}
	for kind := policy.KindInternal; kind <= policy.KindUnavailable; kind++ {
		status, known := want[kind]
		if !known {
			t.Fatalf("the table lacks %v", kind)
		}
		f := faultOf(&policy.Error{Kind: kind, Public: "words", Field: "f", Err: errors.New("private")})
		if f.status != status {
			t.Errorf("%v: status %d, want %d", kind, f.status, status)
		}
		text, err := json.Marshal(f.body())
		if err != nil || strings.Contains(string(text), "private") {
			t.Errorf("%v: %s, %v", kind, text, err)
		}
		if public := strings.Contains(string(text), "words"); public != (kind != policy.KindInternal) {
			t.Errorf("%v: %s", kind, text)
		}
		id := exceptionID(status)
		if other, taken := ids[id]; taken && other != status {
			t.Errorf("%s is the identifier of %d and %d", id, other, status)
		}
		ids[id] = status
	}
	if got := statusOf(policy.KindUnavailable + 1); got != http.StatusInternalServerError {
		t.Errorf("an unknown kind is %d", got)
	}
}

func TestErrorBodies(t *testing.T) {
	t.Parallel()
	rule := invalid("deviceId", "must be short")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"one rule", rule, `400 {"message":"the request is not valid: deviceId: must be short","exception":{"id":"CUDRS0007E","properties":["deviceId"]},"violations":[{"message":"deviceId: must be short","exception":{"id":"CUDRS0012E","properties":["deviceId"]}}]}`},
		{"wrapped", fmt.Errorf("create: %w", rule), `400 {"message":"the request is not valid: deviceId: must be short","exception":{"id":"CUDRS0007E","properties":["deviceId"]},"violations":[{"message":"deviceId: must be short","exception":{"id":"CUDRS0012E","properties":["deviceId"]}}]}`},
		{"two rules", errors.Join(rule, invalid("", "")), `400 {"message":"the request is not valid: deviceId: must be short; not valid","exception":{"id":"CUDRS0007E","properties":["deviceId"]},"violations":[{"message":"deviceId: must be short","exception":{"id":"CUDRS0012E","properties":["deviceId"]}},{"message":"not valid","exception":{"id":"CUDRS0012E","properties":[]}}]}`},
		{"a rule and a fault", errors.Join(errors.New("disk on fire"), rule), `400 {"message":"must be short","exception":{"id":"CUDRS0007E","properties":[]}}`},
		{"no words", &policy.Error{Kind: policy.KindNotFound}, `404 {"message":"not found","exception":{"id":"CDNHT0404E","properties":[]}}`},
		{"a plain error", errors.New("disk on fire"), `500 {"message":"internal server error","exception":{"id":"CDNHT0500E","properties":[]}}`},
		{"a fault", &fault{status: 415, message: "no"}, `415 {"message":"no","exception":{"id":"CDNHT0415E","properties":[]}}`},
	} {
		f := faultOf(test.err)
		text, err := json.Marshal(f.body())
		if got := fmt.Sprintf("%d %s", f.status, text); err != nil || got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// failing is a registry that fails in one way when a type is read.
type failing struct {
	*registry.Registry
	err error
}

func (f failing) Type(context.Context, policy.OrgID, policy.ID) (registry.DeviceType, error) {
	return registry.DeviceType{}, f.err
}

func TestInternalFaultsStayInside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) {
		d.Registry = failing{d.Registry.(*registry.Registry), errors.New("disk on fire")}
	})
	got := w.do(w.request("GET", "/api/v0002/device/types/sensor", ""))
	got.wantError(t, http.StatusInternalServerError, "CDNHT0500E")
	if strings.Contains(got.text, "fire") {
		t.Errorf("answer = %s", got.text)
	}
	lines := w.logs.lines(t, "request failed")
	if len(lines) != 1 || lines[0]["error"] != "disk on fire" || lines[0]["route"] != "GET /api/v0002/device/types/{typeId}" {
		t.Errorf("log = %v", lines)
	}
}

func TestUnavailableSaysWhenToTryAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(_ *Config, d *Deps) {
		d.Registry = failing{d.Registry.(*registry.Registry), &policy.Error{Kind: policy.KindUnavailable}}
	})
	got := w.do(w.request("GET", "/api/v0002/device/types/sensor", ""))
	got.wantError(t, http.StatusServiceUnavailable, "CDNHT0503E")
	if got.header.Get("Retry-After") == "" {
		t.Errorf("headers = %v", got.header)
	}
}
