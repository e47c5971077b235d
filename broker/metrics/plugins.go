package metrics

import (
	"maps"
	"strings"
	"sync"
)

type pluginMetrics struct {
	verdicts, refused, quarantined metric
	totals                         *totals
}

func newPluginMetrics(d *catalogue) pluginMetrics {
	return pluginMetrics{
		verdicts:    d.counter("cordon_plugin_verdicts_total", "Questions to a plugin, by what came of them.", "plugin", "result"),
		refused:     d.gauge("cordon_plugin_refused", "1 while a file of the plugins folder is not taken up.", "plugin"),
		quarantined: d.gauge("cordon_plugin_quarantined", "1 while a plugin is not asked because it missed its deadlines.", "plugin"),
		totals:      &totals{},
	}
}

func (m *pluginMetrics) collect(to sink, list []Plugin) {
	type state struct{ refused, quarantined bool }
	states := map[string]state{}
	for i := range list {
		p := &list[i]
		p.Name = strings.ToValidUTF8(p.Name, "_") // a file may be called anything
		s := states[p.Name]
		states[p.Name] = state{s.refused || p.Refused, s.quarantined || p.Quarantined}
	}
	for name, s := range states {
		put(to, m.refused, flag(s.refused), name)
		put(to, m.quarantined, flag(s.quarantined), name)
	}
	for at, n := range m.totals.add(list) {
		put(to, m.verdicts, n, at.name, at.result)
	}
}

// totals make counters of what begins anew with each version of a plugin, and
// sum up over the plugins that share a name: such a sum would fall when one of
// them goes. What was counted between the last scrape and the end of a version is
// lost.
type totals struct {
	guarded struct {
		sync.Mutex
		seen map[countOf]uint64
		sums map[verdict]uint64
	}
}

// countOf names one number that was read, and verdict the sum it goes into.
type (
	countOf struct{ folder, name, result string }
	verdict struct{ name, result string }
)

// add takes what was read now, and returns the sums of the names in it. Names
// that are gone are forgotten, so there are never more than the folder has.
func (t *totals) add(list []Plugin) map[verdict]uint64 {
	t.guarded.Lock()
	defer t.guarded.Unlock()
	seen, sums := map[countOf]uint64{}, map[verdict]uint64{}
	for _, p := range list {
		for result, n := range p.Verdicts {
			one, sum := countOf{p.Folder, p.Name, result}, verdict{p.Name, result}
			if _, known := sums[sum]; !known {
				sums[sum] = t.guarded.sums[sum]
			}
			before := t.guarded.seen[one]
			if n < before {
				before = 0
			}
			sums[sum] += n - before
			seen[one] = n
		}
		// While no version works nothing is counted, and nothing forgotten.
		for sum, n := range t.guarded.sums {
			if _, known := sums[sum]; !known && sum.name == p.Name {
				sums[sum] = n
			}
		}
	}
	t.guarded.seen, t.guarded.sums = seen, sums
	return maps.Clone(sums)
}
