package feed_test

import (
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/feed"
	"github.com/cordon-mq/cordon/broker/registry"
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
		"g1":         {Org: org, Kind: policy.KindGateway, Type: "sensor", ID: "d1", Verifier: registry.VerifierName},
		"app":        {Org: org, Kind: policy.KindApplication, App: "x", APIKey: "a-acme01-0123456789", Verifier: registry.VerifierName},
		"app, plug":  {Org: org, Kind: policy.KindApplication, App: "x", Verifier: "door"},
		"u":          {Org: org, Kind: policy.KindUser, ID: "u", Verifier: registry.VerifierName},
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
		"device edited":          {device(registry.SubjectChanged), broker.Rejudge, policy.CauseNone, false, "", []string{"d1", "d1, plugin"}},
		"device disabled":        {device(registry.SubjectDisabled), broker.Purge, policy.CauseDisabled, false, "", []string{"d1", "d1, plugin"}},
		"device deleted":         {device(registry.SubjectDeleted), broker.Purge, policy.CauseRevoked, false, "d1", []string{"d1", "d1, plugin"}},
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
		"token replaced": {
			registry.Change{Kind: registry.CredentialReplaced, PrincipalKind: policy.KindDevice, Type: "sensor", ID: "d1", Credential: credential},
			broker.Disconnect, policy.CauseRevoked, false, "",
			[]string{"d1"},
		},
	} {
		tt.change.Org, tt.change.Incarnation, tt.change.At = org, 7, at
		got := feed.Change(tt.change)
		if got.Org != org || got.Incarnation != 7 || !got.At.Equal(at) || got.Effect != tt.effect || got.Cause != tt.cause ||
			got.Gone != tt.gone || got.ID != tt.id {
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
