package opa

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// own are rules of organisations: each denies something else, and states as truly as
// honest which topics have the same answer.
func ownBundles(t *testing.T) (bundles []*Narrowing) {
	t.Helper()
	text := strings.Replace(strings.NewReplacer("[READS]", "[1]", "[COVERS]", `["+", "fmt", "+"]`, "SPECIAL", `input.levels[7] == "cmd"`, "input.levels, 0, N", "input.levels, 0, 6").Replace(honest), `"ttl": 3600,`, `"ttl": 1800,`, 1)
	for _, rules := range []string{
		text,
		strings.Replace(text, `not "ops" in input.principal.groups`, `input.platform.allow`, 1),
		`decision := {"allow": input.qos == 0, "reason": "only QoS 0"}`,
		`decision := {"allow": input.properties.user.k != ["b"], "retain": "refuse"}` + "\n\n" + `decision := {"allow": true} if not input.properties.user.k`,
	} {
		bundles = append(bundles, mustNarrow(t, module(map[string]string{"publish": rules})))
	}
	return append(bundles, nil, mustNarrow(t, module(map[string]string{"receive": text})))
}

// Over any edits of both layers, an answer from memory is the one that a fresh
// evaluation gives; and no answer allows what the platform's bundle alone denies.
func TestNarrowedEqualsFreshOverEdits(t *testing.T) {
	t.Parallel()
	platform, own := honestBundles(t), ownBundles(t)
	var facts []*policy.Facts
	for _, id := range []string{"d1", "d2"} {
		for _, groups := range [][]string{nil, {"ops"}} {
			f := deviceFacts(t)
			f.Principal.ID, f.Principal.Groups = policy.ID(id), groups
			facts = append(facts, f)
		}
	}
	org := facts[0].Principal.Org
	options := Options{MemoryEntries: 4, Timeout: 10 * time.Second, NarrowingTimeout: 10 * time.Second, NarrowingShare: 1000}
	e, alone := New(options), New(options)
	defer e.Close()
	defer alone.Close()
	e.Activate(platform[0])
	alone.Activate(platform[0])
	e.Narrow(org, own[0])
	narrowed := 0
	rapid.Check(t, func(t *rapid.T) {
		judges := map[*policy.Facts]policy.Judge{}
		for range rapid.IntRange(10, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 79).Draw(t, "edit") {
			case 79:
				b := rapid.SampledFrom(platform).Draw(t, "bundle")
				e.Activate(b)
				alone.Activate(b)
			case 77, 78:
				e.Narrow(org, rapid.SampledFrom(own).Draw(t, "own bundle"))
			}
			f := facts[max(0, rapid.IntRange(-9, len(facts)-1).Draw(t, "facts"))]
			if judges[f] == nil || rapid.IntRange(0, 19).Draw(t, "new session") == 0 {
				judges[f] = e.Judge(f)
			}
			r := drawMessage(t, string(f.Principal.ID))
			generation := judges[f].Generation()
			got := judges[f].Decide(t.Context(), r)
			want := e.Judge(f).Decide(t.Context(), r)
			if got.Allow != want.Allow || got.Cause != want.Cause || got.Reason != want.Reason || got.Retain != want.Retain ||
				got.Revision != want.Revision || got.OrgRevision != want.OrgRevision || !slices.Equal(got.Covers, want.Covers) {
				t.Fatalf("remembered %s\nfresh      %s\nrequest %+v", show(got), show(want), r)
			}
			most := alone.Judge(f).Decide(t.Context(), r)
			if got.Allow && !most.Allow || stricterRetain(most.Retain, got.Retain) != got.Retain && got.Allow {
				t.Fatalf("narrowed %s\nalone    %s", show(got), show(most))
			}
			if !got.Allow && most.Allow {
				narrowed++
			}
			if judges[f].Generation() < generation {
				t.Fatal("the generation went back")
			}
			e.checks.working.Wait()
			alone.checks.working.Wait()
		}
	})
	// A short run may be too short for any.
	if s := e.Stats(); s.CoverMismatches != 0 || !testing.Short() && (s.Covered == 0 || narrowed == 0) {
		t.Errorf("%d covered answers, %d mismatches, %d narrowed; want many, none, many", s.Covered, s.CoverMismatches, narrowed)
	}
}

// The limits of two layers are never looser than those of either.
func TestNarrowerLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) (l policy.Limits) {
			n := func(name string, least int) int { return rapid.IntRange(least, 5).Draw(t, label+name) }
			l.PublishRate, l.BytesRate = float64(n("rate", 0))/2, float64(n("bytes", 0))
			l.PublishBurst, l.ConnectionsMax, l.KeepAliveMax = n("burst", 0), n("connections", 0), time.Duration(n("keepalive", 0))*time.Second
			l.PayloadMax, l.InflightMax, l.QueueMessages, l.QueueBytes, l.SubscriptionsMax = n("payload", 0), n("inflight", 1), n("queue", 0), n("queue bytes", 0), n("subs", 0)
			l.SessionExpiryMax, l.QoSMax = time.Duration(n("expiry", 0))*time.Second, byte(n("qos", 0))
			return l
		}
		p, o := draw("platform "), draw("own ")
		n := narrowerLimits(&p, &o)
		for name, looser := range map[string]bool{
			"rate": looserThan(n.PublishRate, p.PublishRate), "bytes": looserThan(n.BytesRate, p.BytesRate),
			"connections": looserThan(float64(n.ConnectionsMax), float64(p.ConnectionsMax)), "keepalive": looserThan(n.KeepAliveMax.Seconds(), p.KeepAliveMax.Seconds()),
			"burst":   p.PublishRate > 0 && burstOf(&n) > burstOf(&p),
			"payload": n.PayloadMax > p.PayloadMax, "inflight": n.InflightMax > p.InflightMax, "queue": n.QueueMessages > p.QueueMessages,
			"queue bytes": n.QueueBytes > p.QueueBytes, "subscriptions": n.SubscriptionsMax > p.SubscriptionsMax,
			"expiry": n.SessionExpiryMax > p.SessionExpiryMax, "qos": n.QoSMax > p.QoSMax, "overflow": n.QueueOverflow != p.QueueOverflow,
		} {
			if looser {
				t.Fatalf("%s is looser: %+v and %+v make %+v", name, p, o, n)
			}
		}
	})
}

// looserThan compares limits of which 0 is none.
func looserThan(a, b float64) bool { return b != 0 && (a == 0 || a > b) }

func burstOf(l *policy.Limits) int {
	if l.PublishBurst > 0 {
		return l.PublishBurst
	}
	return secondOf(l.PublishRate)
}

// What both layers cover is what a filter of each covers.
func TestCoveredByBoth(t *testing.T) {
	t.Parallel()
	level := rapid.SampledFrom([]string{"a", "b", "", "$s"})
	filters := rapid.Custom(func(t *rapid.T) []topic.RoutedFilter {
		var list []topic.RoutedFilter
		for range rapid.IntRange(0, 3).Draw(t, "filters") {
			levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "$s", "+", "+"}), 1, 4).Draw(t, "levels")
			if rapid.Bool().Draw(t, "rest") {
				levels = append(levels, "#")
			}
			if f, err := topic.ParseRoutedFilter(strings.Join(levels, "/")); err == nil {
				list = append(list, f)
			}
		}
		return list
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := filters.Draw(t, "a"), filters.Draw(t, "b")
		both := coveredByBoth(a, b)
		one := func(list []topic.RoutedFilter, levels []string) bool {
			return slices.ContainsFunc(list, func(f topic.RoutedFilter) bool { return covered(f.Levels(), levels) })
		}
		for range 20 {
			levels := rapid.SliceOfN(level, 1, 5).Draw(t, "topic")
			if got, want := one(both, levels), one(a, levels) && one(b, levels); got != want {
				t.Fatalf("%v and %v make %v, which covers %q: %v", a, b, both, levels, got)
			}
		}
	})
}
