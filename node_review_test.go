package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/audit"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

func orgNamed(t *testing.T, name string) policy.OrgID {
	t.Helper()
	org, err := policy.ParseOrgID(name)
	if err != nil {
		t.Fatal(err)
	}
	return org
}

// An organisation has one review at a time, all of them leave a place to the operator,
// and there are so many in all.
func TestReviewsHavePlaces(t *testing.T) {
	t.Parallel()
	p := newPlaces()
	enter := func(org policy.OrgID, want bool) func() {
		t.Helper()
		leave, err := p.enter(org)
		if (err == nil) != want || !want && policy.KindOf(err) != policy.KindLimit {
			t.Fatalf("%q: %v, want a place: %v", org, err, want)
		}
		return leave
	}
	first := enter(orgNamed(t, "acme01"), true)
	enter(orgNamed(t, "acme01"), false)
	others := []func(){enter(orgNamed(t, "org002"), true), enter(orgNamed(t, "org003"), true)}
	enter(orgNamed(t, "org004"), false)
	operator := enter(policy.OrgID{}, true)
	enter(policy.OrgID{}, false)
	first()
	enter(orgNamed(t, "acme01"), true)()
	operator()
	for _, leave := range others {
		leave()
	}
	for range reviewsMost { // the operator may have all of them
		enter(policy.OrgID{}, true)
	}
	enter(orgNamed(t, "acme01"), false)
}

// What an organisation's candidate uses beyond its share it waits for, and what it
// saves up is bounded.
func TestReviewsOfOrganisationsWait(t *testing.T) {
	t.Parallel()
	p := newPlaces()
	acme, other := orgNamed(t, "acme01"), orgNamed(t, "other1")
	now := time.Unix(1_800_000_000, 0)
	if wait := p.charge(acme, now, ownBurst-time.Second); wait > 0 {
		t.Errorf("within what is saved up: %v", wait)
	}
	if wait := p.charge(acme, now, 2*time.Second); wait != 5*time.Second {
		t.Errorf("a second too much, at a fifth of a processor: %v", wait)
	}
	if wait := p.charge(other, now, time.Second); wait > 0 {
		t.Errorf("another organisation waits %v", wait)
	}
	if wait := p.charge(acme, now.Add(5*time.Second), time.Millisecond); wait != 5*time.Millisecond {
		t.Errorf("after the wait: %v", wait)
	}
	p.charge(other, now.Add(time.Hour), 0)
	if n := len(p.guarded.shares); n != 1 {
		t.Errorf("%d organisations are remembered", n)
	}
	if err := p.spend(context.Background(), policy.OrgID{}, time.Hour); err != nil {
		t.Errorf("the operator: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errTooMuch)
	if err := p.spend(ctx, acme, time.Hour); err != errTooMuch { //nolint:errorlint // the cause as it is
		t.Errorf("who has gone waits: %v", err)
	}
}

// Explanations are within the organisation's share too, and so many at once.
func TestExplanationsOfOrganisationsWait(t *testing.T) {
	t.Parallel()
	p := newPlaces()
	acme := orgNamed(t, "acme01")
	ctx, cancel := context.WithCancelCause(context.Background())
	leave := make([]func(), explanationsOfOrg)
	for i := range leave {
		var err error
		if leave[i], err = p.explain(ctx, acme); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.explain(ctx, acme); policy.KindOf(err) != policy.KindLimit {
		t.Errorf("one too many: %v", err)
	}
	for _, org := range []policy.OrgID{orgNamed(t, "other1"), {}, {}} {
		free, err := p.explain(ctx, org)
		if err != nil {
			t.Fatal(err)
		}
		free()
	}
	for _, free := range leave {
		free()
	}
	p.charge(acme, time.Now(), ownBurst+time.Hour)
	cancel(errTooMuch)
	if _, err := p.explain(ctx, acme); err != errTooMuch { //nolint:errorlint // the cause as it is
		t.Errorf("with nothing left, who has gone waits: %v", err)
	}
	if len(p.guarded.explaining) != 0 {
		t.Errorf("%v are being explained", p.guarded.explaining)
	}
}

// What is reviewed twice is compiled once, and what does not pass is not kept.
func TestCandidatesAreKept(t *testing.T) {
	t.Parallel()
	b := &bundles{}
	files := func(text string) []revision.File {
		return []revision.File{{Path: "cordon/publish/publish.rego", Text: []byte("package cordon.publish\n\n" + text + "\n")}}
	}
	find := func(text string) *opa.Bundle {
		t.Helper()
		found, err := b.candidate(context.Background(), files(text))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	first := find(`decision := {"allow": true}`)
	if find(`decision := {"allow": true}`) != first {
		t.Error("it was compiled again")
	}
	if other := find(`decision := {"allow": false}`); other == first || other.Revision() == first.Revision() {
		t.Error("another one is the same")
	}
	var refusal *revision.Refusal
	if _, err := b.candidate(context.Background(), files(`decision := {"allow": input.topci == "a"}`)); !errors.As(err, &refusal) {
		t.Errorf("error %v", err)
	}
	if len(b.guarded.list) != 2 {
		t.Errorf("%d are kept", len(b.guarded.list))
	}
	for i := range keptBundles {
		find(fmt.Sprintf(`decision := {"allow": input.qos == %d}`, i))
	}
	if len(b.guarded.list) != keptBundles {
		t.Errorf("%d are kept", len(b.guarded.list))
	}
}

// A decision that was one of a sample counts for all of it, and one that was repeated
// for each time.
func TestReplayCountsByWeight(t *testing.T) {
	t.Parallel()
	p := newReplaying(&reviewed{revision: "r"}, time.Unix(1, 0), time.Unix(2, 0), 2)
	for _, one := range []struct {
		allow         bool
		count, weight uint64
		answer        opa.Replayed
	}{
		{true, 1, 5000, opa.Replayed{Allow: true}},
		{true, 1, 5000, opa.Replayed{Allow: false, Reason: "closed", Differences: []opa.Difference{{Field: "allow"}}}},
		{false, 40, 1, opa.Replayed{Allow: true, Differences: []opa.Difference{{Field: "allow"}}}},
		{false, 3, 1, opa.Replayed{Differences: []opa.Difference{{Field: "reason"}}}},
		{false, 0, 0, opa.Replayed{}}, // written by somebody else
		{true, 1, 1, opa.Replayed{Skipped: "masked"}},
		{true, 9, 9, opa.Replayed{Skipped: "masked"}},
	} {
		ev := &audit.Event{DecisionID: "d", Input: json.RawMessage(`{"topic":"a/b"}`)}
		ev.Custom = audit.Custom{Org: "acme01", Action: "publish", Allow: one.allow, Reason: "was closed", Count: one.count, Weight: one.weight}
		p.add(&replayedEvent{ev, one.answer})
	}
	if got, want := fmt.Sprintf("%+v", p.Count), "{Replayed:5 NotReplayable:2 Denied:1 Allowed:1 Changed:1 WeighedTotal:10044 WeighedDenied:5000 WeighedGiven:40 WeighedOther:3}"; got != want {
		t.Errorf("counted %s\nwant    %s", got, want)
	}
	if p.Reasons["masked"] != 2 || p.seen != 7 || len(p.Differences) != 2 {
		t.Errorf("%+v", p)
	}
	if d := p.Differences[0]; d.Before != "allow" || d.After != "deny" || d.Reason != "closed" || d.Topic != "a/b" || d.Weight != 5000 {
		t.Errorf("%+v", d)
	}
	if d := p.Differences[1]; d.Before != "deny" || d.After != "allow" || d.Reason != "was closed" {
		t.Errorf("%+v", d)
	}
}

// An organisation describes its own principals only: the rules may know more of others
// than it may.
func TestExplainAboutOwn(t *testing.T) {
	t.Parallel()
	for input, ok := range map[string]bool{
		`{"principal":{"org":"acme01"}}`:                                     true,
		`{"principal":{"org":"acme01"},"org":{}}`:                            true,
		`{"principal":{"org":"acme01"},"org":{"id":"acme01"}}`:               true,
		`{"principal":{"org":"acme01"},"org":{"id":"other1"}}`:               false,
		`{"principal":{"org":"other1"}}`:                                     false,
		`{"principal":{"org":"acme01"},"principal":{"org":"other1"}}`:        false,
		`{"principal":{"org":"acme01"},"principal":{}}`:                      false,
		`{"principal":{"org":["acme01"]}}`:                                   false,
		`{"principal":{"ORG":"acme01"}}`:                                     false,
		`{"Principal":{"org":"acme01"}}`:                                     false,
		`{"principal":"acme01"}`:                                             false,
		`{}`:                                                                 false,
		`[]`:                                                                 false,
		`{"principal":{"org":"acme01"},"org":{"id":5}}`:                      false,
		`{"principal":{"org":"acme01"},"org":{"id":"acme01","id":"other1"}}`: false,
	} {
		if err := aboutOwn(orgNamed(t, "acme01"), json.RawMessage(input)); (err == nil) != ok {
			t.Errorf("%s: %v", input, err)
		}
		if err := aboutOwn(policy.OrgID{}, json.RawMessage(input)); err != nil {
			t.Errorf("the operator: %s: %v", input, err)
		}
	}
}
