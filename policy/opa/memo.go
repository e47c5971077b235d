package opa

import "github.com/cordon-mq/cordon/policy"

// note is what a judge leaves in a policy.Memo: the answer it gave last to one
// topic, or the covering that gave it. All requests of a Memo name the same
// topic, so that the rest of the request is all there is to compare.
type note struct {
	judge    *judge
	answer   *remembered // nil: covering
	covering *covering
}

// recallNoted answers from r's Memo.
func (j *judge) recallNoted(snap *snapshot, entry *entryPoint, r *policy.Request) *policy.Decision {
	n, ok := r.Memo.Note.(*note)
	if !ok || n.judge != j {
		return nil
	}
	m, c := n.answer, n.covering
	if m == nil {
		if m = &c.remembered; snap.coversDistrusted() || c.state.Load() != proven {
			return nil
		}
	}
	const theName = readTopic | readLevels | readFilter
	if m.generation != snap.generation || m.request.Action != r.Action ||
		!(entry.reads&^theName).same(&m.request, r) || !m.until.IsZero() && !m.holds(j.engine, r) {
		return nil
	}
	if c != nil {
		j.sampleCovered(snap, entry, c, r)
	}
	return m.decision
}

// noteAnswer leaves in r's Memo, if it has one, where its answer is.
func (j *judge) noteAnswer(r *policy.Request, m *remembered, c *covering) {
	if r.Memo != nil {
		r.Memo.Note = &note{j, m, c}
	}
}
