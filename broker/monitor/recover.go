package monitor

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy/topic"
)

// recovered is why a client is disconnected that was connected when the process
// died.
const recovered = "The connection was closed because the server was restarted."

// recover brings an organisation up to date that an earlier run left.
func (m *Monitor) recover(ctx context.Context, t broker.Tenant) error {
	var stale []ledger.State
	flush := func() error {
		r := m.round(ctx)
		var errs []error
		for i := range stale {
			errs = append(errs, r.recover(t, &stale[i]))
		}
		stale = stale[:0]
		return errors.Join(append(errs, r.end())...)
	}
	after := ""
	for more := true; more; {
		more = false
		err := m.ledger.States(ledger.Tenant(t), after, func(s *ledger.State) bool {
			after = s.ClientID
			if s.Connected || m.disagrees(t, s) {
				stale = append(stale, *s)
			}
			more = len(stale) >= batchMost
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

// disagrees reports whether what is retained does not say that s is disconnected.
func (m *Monitor) disagrees(t broker.Tenant, s *ledger.State) bool {
	name, err := topic.ParseName(topicOf(s))
	if err != nil {
		return false
	}
	payload, had := m.voice.Retained(t, name)
	if !had {
		return isDevice(s) // it was not said any more
	}
	var said struct{ Action action }
	return json.Unmarshal(payload, &said) == nil && said.Action == connect
}

func (r *round) recover(t broker.Tenant, s *ledger.State) error {
	if !r.stands(t, s) {
		r.batch.DropState(ledger.Tenant(t), s.ClientID)
		return nil
	}
	if s.Connected {
		now := r.m.now()
		s.Connected, s.DisconnectTime, s.CloseCode, s.Reason = false, now, int(broker.ClosedByServer), recovered
		s.ActivityEvent, s.ActivityTime = string(disconnect), now
	}
	keep := broker.KeepThis
	if !isDevice(s) {
		keep = broker.KeepNoMore
	}
	return r.record(t, s, disconnect, nil, keep, recovered)
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
		if r.batch.Full() {
			errs = append(errs, r.end())
		}
	}
	for number, v := range m.visits {
		if now[number] == nil {
			step(r.offline(v, &broker.Leaving{At: m.now(), Code: broker.ClosedByClient, Reason: broker.ClosedByClient.String()}))
		}
	}
	for number, v := range now {
		if m.visits[number] == nil {
			step(r.online(v))
		}
	}
	return errors.Join(append(errs, r.end())...)
}
