package management

import (
	"context"
	"slices"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/policy"
)

// Requests are those of an organisation, the newest first.
func (m *Management) Requests(_ context.Context, t ledger.Tenant) ([]ledger.Request, error) {
	all, err := m.ledger.Requests(t)
	all = slices.DeleteFunc(all, func(r ledger.Request) bool { return r.Unfinished })
	slices.Reverse(all)
	for i := range all {
		m.overdue(&all[i])
	}
	return all, err
}

// Request is one of them; policy.KindNotFound if there is none.
func (m *Management) Request(_ context.Context, t ledger.Tenant, id string) (ledger.Request, error) {
	r, ok, err := m.ledger.Request(t, id)
	if err == nil && (!ok || r.Unfinished) {
		err = notFound("request")
	}
	m.overdue(&r)
	return r, err
}

// overdue shows a request whose time is over as it will be when somebody has
// ended it.
func (m *Management) overdue(r *ledger.Request) bool {
	if r.Open == 0 || m.now().Before(r.Deadline) {
		return false
	}
	r.Failed, r.Open, r.Ended = r.Failed+r.Open, 0, r.Deadline
	return true
}

// Tasks are those of a request after a device, in the order of types and IDs, n at
// most.
func (m *Management) Tasks(ctx context.Context, t ledger.Tenant, id string, typ, device policy.ID, n int) ([]ledger.Task, error) {
	r, ok, err := m.ledger.Request(t, id)
	if err != nil || !ok || r.Unfinished {
		return nil, either(err, notFound("request"))
	}
	tasks, err := m.ledger.Tasks(t, id, typ, device, n)
	if m.overdue(&r) {
		for i := range tasks {
			late(&tasks[i])
		}
	}
	return tasks, err
}

// Task is that of one device; policy.KindNotFound if there is none.
func (m *Management) Task(_ context.Context, t ledger.Tenant, id string, typ, device policy.ID) (ledger.Task, error) {
	r, ok, err := m.ledger.Request(t, id)
	if err != nil || !ok || r.Unfinished {
		return ledger.Task{}, either(err, notFound("request"))
	}
	task, ok, err := m.ledger.Task(t, id, typ, device)
	if err != nil || !ok {
		return task, either(err, notFound("device in this request"))
	}
	if m.overdue(&r) {
		late(&task)
	}
	return task, nil
}

func late(t *ledger.Task) {
	if !t.Complete() {
		t.Status, t.Message = ledger.TaskTimedOut, timedOut
	}
}

// either is err, or other where there is none.
func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
