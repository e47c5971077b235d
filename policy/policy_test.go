package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func TestParseOrgID(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"acme01": true, "abc": true, "0a9": true, strings.Repeat("a", 20): true,
		"": false, "ab": false, strings.Repeat("a", 21): false, "quickstart": false,
		"Acme01": false, "ac-me": false, "ac/me": false, "ac+me": false, "ac me": false, "acmé01": false, "acme\x00": false,
	} {
		org, err := policy.ParseOrgID(in)
		if (err == nil) != ok || ok && org.String() != in {
			t.Errorf("ParseOrgID(%q) = %q, %v", in, org, err)
		}
		if !ok && policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("ParseOrgID(%q): kind %v", in, policy.KindOf(err))
		}
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"d1": true, "A-b_c.9": true, strings.Repeat("a", 36): true,
		"": false, strings.Repeat("a", 37): false, "+": false, "#": false, "a/b": false, "a:b": false,
		"a b": false, "a\x00": false, "é": false, "$x": false,
	} {
		if _, err := policy.ParseID("id", in); (err == nil) != ok {
			t.Errorf("ParseID(%q) = %v", in, err)
		}
	}
}

func TestTheZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	var d policy.Decision
	if d.Allow || d.MaxQoS != 0 || len(d.Mounts.List()) != 0 || d.OnDeny != policy.Refuse || d.Retain != policy.RetainStrip {
		t.Errorf("the zero Decision gives something away: %+v", d)
	}
}

func TestPublicReasonTellsNoDetail(t *testing.T) {
	t.Parallel()
	d := policy.Decision{Cause: policy.CauseError, Detail: "secret.rego:3:1: division by zero", ID: "abc"}
	if got := d.PublicReason(); got != "not authorised (decision abc)" {
		t.Errorf("PublicReason() = %q", got)
	}
	d = policy.Decision{Cause: policy.CausePolicy, Reason: "maintenance until noon", ID: "abc"}
	if got := d.PublicReason(); got != "maintenance until noon (decision abc)" {
		t.Errorf("PublicReason() = %q", got)
	}
}

// Two principals that could see each other's sessions must have different subjects.
func TestSubjectsTellOwnersApart(t *testing.T) {
	t.Parallel()
	principals := []policy.Principal{
		{Kind: policy.KindDevice, Type: "t", ID: "d", DeviceIncarnation: 1},
		{Kind: policy.KindDevice, Type: "t", ID: "d", DeviceIncarnation: 2},
		{Kind: policy.KindGateway, Type: "t", ID: "d", DeviceIncarnation: 1},
		{Kind: policy.KindApplication, APIKey: "a-acme01-1", App: "x", Verifier: "token"},
		{Kind: policy.KindApplication, APIKey: "a-acme01-2", App: "x", Verifier: "token"},
		{Kind: policy.KindApplication, App: "x", Verifier: "token"},
		{Kind: policy.KindApplication, App: "x", Verifier: "plugin"},
		{Kind: policy.KindUser, ID: "x", Verifier: "token"},
		{Kind: policy.KindUser, ID: "x", Verifier: "plugin"},
	}
	seen := map[policy.Subject]int{}
	for i := range principals {
		s := principals[i].Subject()
		if other, dup := seen[s]; dup {
			t.Errorf("principals %d and %d share the subject %v", other, i, s)
		}
		seen[s] = i
	}
}

func TestExpiryIsTheFirstMomentTooLate(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	p := policy.Principal{ExpiresAt: at}
	if p.Expired(at.Add(-1)) || !p.Expired(at) || (&policy.Principal{}).Expired(at) {
		t.Error("a principal holds until ExpiresAt, and for ever without one")
	}
}

func TestKindOfLooksThroughWrapping(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk on fire")
	err := fmt.Errorf("api: %w", &policy.Error{Kind: policy.KindConflict, Op: "delete type", Public: "it has devices", Err: cause})
	if policy.KindOf(err) != policy.KindConflict || !errors.Is(err, cause) {
		t.Errorf("kind %v of %v", policy.KindOf(err), err)
	}
	if policy.KindOf(cause) != policy.KindInternal {
		t.Error("an error without a kind is internal")
	}
}

func TestOrgOfHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"acme01.example.com": "acme01", "acme01.messaging.example.com": "acme01", "ACME01.Example.COM.": "acme01",
		"mqtt.example.com": "mqtt", "example.com": "", "x.acme01.example.com": "", "acme01.example.org": "",
		"acme01-example.com": "", "": "", "messaging.example.com": "messaging", ".messaging.example.com": "",
	} {
		org, ok := policy.OrgOfHost(host, "example.com")
		if org.String() != want || ok != (want != "") {
			t.Errorf("OrgOfHost(%q) = %q, %v; want %q", host, org, ok, want)
		}
	}
	if _, ok := policy.OrgOfHost("acme01.", ""); ok {
		t.Error("an empty domain names no organisation")
	}
}
