package feed_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// Who is concerned by a change, and how.
func TestChange(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	credential := policy.CredentialID{ID: "device/sensor/d1", Version: 2}
	who := map[string]policy.Principal{
		"d1":         {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: registry.VerifierName, Credential: credential},
		"d1, plugin": {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Verifier: "door"},
		"g1":         {Org: org, Kind: policy.KindGateway, Type: "sensor", ID: "d1", Verifier: registry.VerifierName, Groups: []string{"south", "north"}},
		"app":        {Org: org, Kind: policy.KindApplication, App: "x", APIKey: "a-acme01-0123456789", Verifier: registry.VerifierName, Roles: []string{"PD_STANDARD_APP", "fleet"}},
		"app, plug":  {Org: org, Kind: policy.KindApplication, App: "x", Verifier: "door", Roles: []string{"fleet"}},
		"u":          {Org: org, Kind: policy.KindUser, ID: "u", Verifier: registry.VerifierName},
		"d2, cert":   {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d2", Verifier: certificate.Name, Credential: policy.CredentialID{ID: "certificate/ca/leaf/iss:2a,top:1", Version: 3}},
		"d3, cert":   {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d3", Verifier: certificate.Name, Credential: policy.CredentialID{ID: "certificate/cb/leaf/iss:2b", Version: 3}},
		"d4, claim":  {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d4", Verifier: registry.ClaimVerifierName, Credential: policy.CredentialID{ID: "claim/k3f9a0b2c1/sensor/d4", Version: 4}},
		"d5, claim":  {Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d5", Verifier: registry.ClaimVerifierName, Credential: policy.CredentialID{ID: "claim/zzzzzzzzzz/sensor/d5", Version: 4}},
		"claimer":    {Org: org, Kind: policy.KindUser, ID: "q", Verifier: "door", Credential: policy.CredentialID{ID: "claim/k3f9a0b2c1/sensor/d4"}},
		"poser":      {Org: org, Kind: policy.KindUser, ID: "p", Verifier: "door", Credential: policy.CredentialID{ID: "certificate/ca/leaf/iss:2a"}},
		"u, plugin":  {Org: org, Kind: policy.KindUser, ID: "u", Verifier: "door"},
	}
	device := func(kind registry.ChangeKind) registry.Change {
		return registry.Change{Kind: kind, PrincipalKind: policy.KindDevice, Type: "sensor", ID: "d1"}
	}
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		change registry.Change
		effect broker.Effect
		cause  policy.Cause
		gone   bool
		id     policy.ID
		whom   []string // nil: everybody
	}{
		"organisation edited":    {registry.Change{Kind: registry.OrganisationChanged}, broker.Rejudge, policy.CauseNone, false, "", nil},
		"organisation suspended": {registry.Change{Kind: registry.OrganisationSuspended}, broker.Disconnect, policy.CauseDisabled, false, "", nil},
		"organisation deleted":   {registry.Change{Kind: registry.OrganisationDeleted}, broker.Purge, policy.CauseRevoked, true, "", nil},
		"own policy changed":     {registry.Change{Kind: registry.OrganisationPolicyChanged}, broker.Rejudge, policy.CauseNone, false, "", []string{}},
		"device edited":          {device(registry.SubjectChanged), broker.Rejudge, policy.CauseNone, false, "", []string{"d1", "d1, plugin"}},
		"device disabled":        {device(registry.SubjectDisabled), broker.Purge, policy.CauseDisabled, false, "", []string{"d1", "d1, plugin"}},
		"device deleted":         {device(registry.SubjectDeleted), broker.Purge, policy.CauseRevoked, false, "d1", []string{"d1", "d1, plugin"}},
		"claim deleted": {
			registry.Change{Kind: registry.ClaimDeleted, Claim: "k3f9a0b2c1"},
			broker.Disconnect, policy.CauseRevoked, false, "",
			[]string{"d4, claim"},
		},
		"key deleted": {
			registry.Change{Kind: registry.SubjectDeleted, PrincipalKind: policy.KindApplication, APIKey: "a-acme01-0123456789"},
			broker.Purge, policy.CauseRevoked, false, "",
			[]string{"app"},
		},
		"user deleted": {
			registry.Change{Kind: registry.SubjectDeleted, PrincipalKind: policy.KindUser, ID: "u"},
			broker.Purge, policy.CauseRevoked, false, "",
			[]string{"u"},
		},
		"role changed": {
			registry.Change{Kind: registry.RoleChanged, Role: "fleet"},
			broker.Rejudge, policy.CauseNone, false, "",
			[]string{"app"},
		},
		"group changed": {
			registry.Change{Kind: registry.GroupChanged, Group: "north"},
			broker.Rejudge, policy.CauseNone, false, "",
			[]string{"g1"},
		},
		"authority created":  {registry.Change{Kind: registry.AuthorityCreated, Authority: "ca"}, broker.Rejudge, policy.CauseNone, false, "", []string{}},
		"server certificate": {registry.Change{Kind: registry.ServerCertificateChanged}, broker.Rejudge, policy.CauseNone, false, "", []string{}},
		"authority deleted":  {registry.Change{Kind: registry.AuthorityDeleted, Authority: "ca"}, broker.Disconnect, policy.CauseRevoked, false, "", []string{"d2, cert"}},
		"certificate revoked": {
			registry.Change{Kind: registry.CertificatesRevoked, Revoked: certificate.OnlyOne(certificate.Step{Issuer: "iss", Serial: "2b"})},
			broker.Disconnect, policy.CauseRevoked, false, "",
			[]string{"d3, cert"},
		},
		"issuer revoked": {
			registry.Change{Kind: registry.CertificatesRevoked, Revoked: certificate.OnlyOne(certificate.Step{Issuer: "top", Serial: "1"})},
			broker.Disconnect, policy.CauseRevoked, false, "",
			[]string{"d2, cert"},
		},
		"token replaced": {
			registry.Change{Kind: registry.CredentialReplaced, PrincipalKind: policy.KindDevice, Type: "sensor", ID: "d1", Credential: credential},
			broker.Disconnect, policy.CauseRevoked, false, "",
			[]string{"d1"},
		},
	} {
		tt.change.Org, tt.change.Incarnation, tt.change.At = org, 7, at
		got := feed.Change(tt.change)
		if got.Org != org || got.Incarnation != 7 || !got.At.Equal(at) || got.Effect != tt.effect || got.Cause != tt.cause ||
			got.Gone != tt.gone || (got.Deleted != nil) != (tt.id != "") || tt.id != "" && (!got.Deleted("sensor", tt.id) || got.Deleted("sensor", "d2") || got.Deleted("", "")) {
			t.Errorf("%s: %+v", name, got)
		}
		want := map[string]bool{}
		for _, w := range tt.whom {
			want[w] = true
		}
		for w, p := range who {
			if concerned := got.Match == nil || got.Match(&p); concerned != (tt.whom == nil || want[w]) {
				t.Errorf("%s: concerns %s is %t", name, w, concerned)
			}
		}
	}
}

// What a commit says of many devices is one change, and means for everybody what all
// of them mean.
func TestChanges(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	change := func(kind registry.ChangeKind, subject policy.PrincipalKind, typ, id policy.ID) registry.Change {
		return registry.Change{Kind: kind, Org: org, Incarnation: 7, PrincipalKind: subject, Type: typ, ID: id}
	}
	user := registry.Change{Kind: registry.SubjectDeleted, Org: org, Incarnation: 7, PrincipalKind: policy.KindUser, ID: "d1"}
	elsewhere := change(registry.SubjectDeleted, policy.KindDevice, "sensor", "d4")
	elsewhere.Incarnation = 8
	list := []registry.Change{
		change(registry.SubjectDeleted, policy.KindDevice, "sensor", "d1"), change(registry.SubjectDeleted, policy.KindGateway, "hub", "g1"),
		user,
		change(registry.SubjectDeleted, policy.KindDevice, "sensor", "d3"),
		elsewhere,
		change(registry.SubjectChanged, policy.KindDevice, "sensor", "d5"), change(registry.SubjectChanged, policy.KindDevice, "sensor", "d6"),
		change(registry.CredentialReplaced, policy.KindDevice, "sensor", "d7"), change(registry.CredentialReplaced, policy.KindDevice, "sensor", "d8"),
	}
	merged := feed.Changes(list)
	if len(merged) != 7 {
		t.Fatalf("%d changes of the broker, want 7", len(merged))
	}
	concerns := func(all []broker.Change, p *policy.Principal) (found []string) {
		for _, ch := range all {
			if ch.Match(p) {
				found = append(found, fmt.Sprint(ch.Effect, ch.Cause, ch.Incarnation))
			}
		}
		return found
	}
	var apart []broker.Change
	for _, ch := range list {
		apart = append(apart, feed.Change(ch))
	}
	for _, kind := range []policy.PrincipalKind{policy.KindDevice, policy.KindGateway, policy.KindUser} {
		for _, typ := range []policy.ID{"sensor", "hub", ""} {
			for _, id := range []policy.ID{"d1", "g1", "d3", "d4", "d5", "d6", "d7", ""} {
				p := &policy.Principal{Org: org, Kind: kind, Type: typ, ID: id, Verifier: registry.VerifierName, Credential: policy.CredentialID{ID: "x"}}
				if got, want := concerns(merged, p), concerns(apart, p); !slices.Equal(got, want) {
					t.Errorf("%v %s/%s: %v, want %v", kind, typ, id, got, want)
				}
			}
		}
	}
	if gone := merged[0].Deleted; !gone("sensor", "d1") || !gone("hub", "g1") || gone("sensor", "g1") || gone("", "") {
		t.Error("the wrong devices were deleted")
	}
	if merged[1].Deleted != nil || merged[4].Deleted != nil {
		t.Error("what was not deleted was")
	}
}
