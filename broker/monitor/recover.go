package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// recovered is why a client is disconnected that was connected when the process
// died.
const recovered = "The connection was closed because the server was restarted."

// recover brings an organisation up to date that an earlier run left: who was
// connected is not, and what was retained is again.
func (m *Monitor) recover(ctx context.Context, t broker.Tenant) error {
	var found []ledger.State
	flush := func() error {
		r := m.round(ctx)
		for i := range found {
			r.recover(t, &found[i])
		}
		// Where several client IDs are of one device, the last word is the newest.
		slices.SortStableFunc(r.says, func(a, b utterance) int { return a.message.ended.Compare(b.message.ended) })
		found = found[:0]
		return r.end()
	}
	after := ""
	for more := true; more; {
		more = false
		err := m.ledger.States(ledger.Tenant(t), after, func(s *ledger.State) bool {
			after = s.ClientID
			if s.Connected || m.disagrees(t, s) {
				found = append(found, *s)
			}
			more = len(found) >= batchMost
			return !more
		})
		if err != nil {
			return err
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

// disagrees reports whether what is retained does not say that s is disconnected,
// or says it of an earlier time.
func (m *Monitor) disagrees(t broker.Tenant, s *ledger.State) bool {
	name, err := topic.ParseName(stateTopic(s))
	if err != nil {
		return false
	}
	payload, had := m.voice.Retained(t, name)
	if !had {
		return ofDevice(s)
	}
	var said struct {
		Action action
		Time   string
	}
	if json.Unmarshal(payload, &said) != nil {
		return false
	}
	return said.Action == connect || ofDevice(s) && said.Time < string(appendMoment(nil, s.DisconnectTime))
}

func (r *round) recover(t broker.Tenant, s *ledger.State) {
	device := ledger.Device{Type: s.Type, ID: s.ID, Incarnation: s.Device}
	if !r.exists(t) || ofDevice(s) && !r.sameDevice(t, device) {
		r.batch.DropState(ledger.Tenant(t), s.ClientID)
		return
	}
	if s.Connected {
		now := r.m.now()
		s.Connected, s.DisconnectTime, s.CloseCode, s.Reason = false, now, int(broker.ClosedByServer), recovered
		s.ReadBytes, s.ReadMessages, s.WrittenBytes, s.WrittenMessages = 0, 0, 0, 0 // nobody knows
		s.ActivityEvent, s.ActivityTime = string(disconnect), now
		n := r.note(client{t, policy.ClientID(s.ClientID)})
		n.state, n.noted, n.whole = *s, true, true
		r.line(t, device, recovered, now)
	}
	keep := broker.KeepAgain
	if !ofDevice(s) {
		keep = broker.KeepNoMore
	}
	if name := stateTopic(s); name != "" {
		r.says = append(r.says, utterance{tenant: t, topic: name, message: lastWord(s), keep: keep})
	}
}

// correct compares who is connected with what was noted, after something was
// dropped.
func (m *Monitor) correct(ctx context.Context) error {
	now := map[uint64]*broker.Visit{}
	m.broker.Visits(func(v *broker.Visit) { now[v.Number] = v })
	r := m.round(ctx)
	var errs []error
	step := func(err error) {
		errs = append(errs, err)
		if len(r.notes) >= batchMost {
			errs = append(errs, r.end())
		}
	}
	for number, v := range m.visits {
		if now[number] == nil {
			step(r.offline(v.visit, &broker.Leaving{At: m.now(), Code: broker.ClosedByClient, Reason: broker.ClosedByClient.String()}))
		}
	}
	for number, v := range now {
		if m.visits[number].visit == nil {
			r.online(v)
			step(nil)
		}
	}
	return errors.Join(append(errs, r.end())...)
}
