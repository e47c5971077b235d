package broker

import (
	"slices"

	"github.com/cordon-mq/cordon/policy/topic"
)

// target is one delivery that a topic causes: a session, and the filters of one
// mount by which it matches. Filters under different mounts deliver apart,
// because each spelling was asked for.
type target struct {
	session *session
	subs    []*subscription
	name    topic.Name // how the client spells it
	group   *group     // a shared subscription; then all else is chosen per message
}

// fewTargets are looked through one by one.
const fewTargets = 8

// targets returns who receives what in names, from memory while nothing
// that concerns it has changed.
func (sp *space) targets(in *inbound) []target {
	now := sp.generation()
	if in.hasTargets && (in.targetsAt == now || !sp.changed(in.targetsAt, now, in.routed)) {
		in.targetsAt = now
		return in.targets
	}
	in.targets = gather(sp, in.routed)
	in.targetsAt, in.hasTargets = now, true
	return in.targets
}

func gather(sp *space, routed topic.RoutedName) []target {
	type by struct {
		session *session
		mount   string
	}
	var targets []target
	var place map[by]int // of targets, once there are many
	sp.index.Match(routed, func(sub *subscription) {
		name, ok := sub.spell(routed)
		if !ok {
			return
		}
		at := by{sub.session, sub.mount.Client}
		i, met := place[at]
		if place == nil {
			i = slices.IndexFunc(targets, func(t target) bool { return t.session == at.session && t.subs[0].mount.Client == at.mount })
			met = i >= 0
		}
		if !met {
			i = len(targets)
			targets = append(targets, target{session: sub.session, name: name})
			if place != nil {
				place[at] = i
			}
		}
		targets[i].subs = append(targets[i].subs, sub)
		if place == nil && len(targets) > fewTargets {
			place = make(map[by]int, 4*fewTargets)
			for i := range targets {
				place[by{targets[i].session, targets[i].subs[0].mount.Client}] = i
			}
		}
	})
	sp.shared.Match(routed, func(g *group) { targets = append(targets, target{group: g}) })
	return targets
}

// spell is how the subscriber writes routed, if its filter and mount have a
// spelling for it. A filter that starts with a wildcard does not match what the
// client would write with a leading $ [MQTT-4.7.2-1].
func (sub *subscription) spell(routed topic.RoutedName) (topic.Name, bool) {
	name, ok := sub.mounts.Out(sub.mount, routed)
	if !ok || sub.filter.StartsWithWildcard() && name.IsDollar() {
		return topic.Name{}, false
	}
	return name, true
}
