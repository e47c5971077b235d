package management

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of a request's parameters.
const (
	maxParameters = 64
	maxValue      = 4 << 10  // bytes of one
	maxSize       = 16 << 10 // and of all
)

// sendStep is how many devices are asked before others have their turn.
const sendStep = 50

// NewRequest asks devices to do something.
type NewRequest = ledger.NewRequest

func invalid(field, rule string) error {
	return &policy.Error{Kind: policy.KindInvalid, Op: "initiate request", Field: field, Public: rule}
}

func notFound(what string) error {
	return &policy.Error{Kind: policy.KindNotFound, Op: "find " + what, Public: "no such " + what}
}

// Initiate makes a request and returns its ID. It is stored with everything that it
// asks when it returns, and sent after that. Every device has to be managed, awake
// and able to do it, or nobody is asked: policy.KindInvalid. policy.KindConflict is a
// device whose firmware is being changed already, policy.KindLimit too many requests.
func (m *Management) Initiate(ctx context.Context, t ledger.Tenant, n NewRequest) (string, error) {
	d := m.desk(t)
	d.turn.Lock()
	defer d.turn.Unlock()
	if m.stopping() {
		return "", &policy.Error{Kind: policy.KindUnavailable, Op: "initiate request", Public: "shutting down"}
	}
	if err := d.load(ctx); err != nil {
		return "", err
	}
	now := m.now().UTC().Truncate(time.Millisecond)
	timeout := n.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	if timeout < MinTimeout || timeout > MaxTimeout {
		return "", invalid("timeout", "must be 60 seconds to 7 days")
	}
	parameters, err := d.parameters(ctx, &n)
	if err != nil {
		return "", err
	}
	tasks, err := d.tasks(ctx, &n, now)
	if err != nil {
		return "", err
	}
	b := m.ledger.Batch()
	if err := d.makeRoom(ctx, b, len(tasks)); err != nil {
		return "", err
	}
	r := &ledger.Request{
		ID: rand.Text(), Action: n.Action, Parameters: parameters, By: n.By,
		Began: now, Deadline: now.Add(timeout), Devices: len(tasks), Open: len(tasks),
	}
	if err := d.store(ctx, b, r, tasks); err != nil {
		return "", err
	}
	d.requests[r.ID] = r
	d.timed()
	d.put(job{send: r.ID})
	return r.ID, nil
}

// store keeps a request with its tasks, which may be more than fit one write. Until
// the last of them is there the request is marked as one that load removes.
func (d *desk) store(ctx context.Context, b *ledger.Batch, r *ledger.Request, tasks []ledger.Task) error {
	r.Unfinished = true
	if err := b.PutRequest(d.tenant, r); err != nil {
		return err
	}
	for i := range tasks {
		if err := b.PutTask(d.tenant, r.ID, &tasks[i]); err != nil {
			return err
		}
		if b.Full() {
			if err := b.Commit(ctx); err != nil {
				return err
			}
		}
	}
	r.Unfinished = false
	if err := b.PutRequest(d.tenant, r); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// parameters are those that the action takes.
func (d *desk) parameters(ctx context.Context, n *NewRequest) ([]ledger.Parameter, error) {
	given, size := map[string]string{}, 0
	if len(n.Parameters) > maxParameters {
		return nil, invalid("parameters", "must be at most "+strconv.Itoa(maxParameters))
	}
	for _, p := range n.Parameters {
		if _, twice := given[p.Name]; twice || p.Name == "" || len(p.Name) > 255 {
			return nil, invalid("parameters", "must have names of 1 to 255 bytes, each once")
		}
		if len(p.Value) > maxValue || !utf8.ValidString(p.Value) || !utf8.ValidString(p.Name) {
			return nil, invalid("parameters", "must have values of at most "+strconv.Itoa(maxValue)+" bytes of UTF-8")
		}
		given[p.Name] = p.Value
		size += len(p.Name) + len(p.Value)
	}
	if size > maxSize {
		return nil, invalid("parameters", "must be at most "+strconv.Itoa(maxSize)+" bytes altogether")
	}
	switch n.Action {
	case reboot, factoryReset, update:
		if len(given) > 0 {
			return nil, invalid("parameters", "must be none for "+n.Action)
		}
		return nil, nil
	case download:
		for name, value := range given {
			if !slices.Contains([]string{"uri", "name", "version", "verifier"}, name) {
				return nil, invalid("parameters", "must be of uri, name, version and verifier")
			}
			if len(value) > 1024 {
				return nil, invalid("parameters", "must have values of at most 1024 bytes")
			}
		}
		if u, err := url.Parse(given["uri"]); err != nil || u.Scheme == "" {
			return nil, invalid("parameters", "must have a uri, with its scheme")
		}
		return n.Parameters, nil
	}
	return d.ownParameters(ctx, n.Action, given)
}

// ownParameters are those of an action of a bundle, in the order of the bundle.
func (d *desk) ownParameters(ctx context.Context, action string, given map[string]string) ([]ledger.Parameter, error) {
	id, name, ok := strings.Cut(action, "/")
	if !ok {
		return nil, invalid("action", "must be "+strings.Join([]string{reboot, factoryReset, download, update}, ", ")+" or BUNDLE/ACTION")
	}
	bundle, err := d.m.registry.ActionBundle(ctx, d.tenant.Org, id)
	if err != nil && policy.KindOf(err) != policy.KindNotFound {
		return nil, err
	}
	a, known := bundle.Actions[name]
	if err != nil || !known {
		return nil, invalid("action", "must be one of the platform's, or of a bundle of the organisation")
	}
	var all []ledger.Parameter
	for i := range a.Parameters {
		p := &a.Parameters[i]
		value, stated := given[p.Name]
		delete(given, p.Name)
		switch {
		case stated:
		case p.Default != nil:
			value = *p.Default
		case p.Required:
			return nil, invalid("parameters", "must have "+p.Name)
		default:
			continue
		}
		if !p.Allows(value) {
			return nil, invalid("parameters", p.Name+" must match "+p.Pattern)
		}
		all = append(all, ledger.Parameter{Name: p.Name, Value: value})
	}
	if len(given) > 0 {
		return nil, invalid("parameters", "must be those of the action")
	}
	return all, nil
}

// tasks are what the devices of n are to do.
func (d *desk) tasks(ctx context.Context, n *NewRequest, now time.Time) ([]ledger.Task, error) {
	if len(n.Devices) == 0 || len(n.Devices) > MaxDevices {
		return nil, invalid("devices", "must be 1 to "+strconv.Itoa(MaxDevices))
	}
	tasks := make([]ledger.Task, 0, len(n.Devices))
	seen := make(map[ledger.Device]bool, len(n.Devices))
	for i, ref := range n.Devices {
		where := fmt.Sprintf("devices[%d]", i)
		if n.Action == update && ref.Type != n.Devices[0].Type {
			return nil, invalid("devices", "must all be of one type for "+update)
		}
		if seen[ledger.Device{Type: ref.Type, ID: ref.ID}] {
			return nil, invalid(where, "comes twice")
		}
		seen[ledger.Device{Type: ref.Type, ID: ref.ID}] = true
		incarnation, err := d.m.registry.DeviceIncarnation(ctx, d.tenant.Org, ref.Type, ref.ID)
		if err != nil && policy.KindOf(err) != policy.KindNotFound {
			return nil, err
		}
		found := err == nil && incarnation != 0
		if found && n.Finds != nil {
			if found, err = n.Finds(ref.Type, ref.ID); err != nil {
				return nil, err
			}
		}
		if !found {
			return nil, invalid(where, "is not registered")
		}
		if err := d.able(ctx, n.Action, ref.Type, ref.ID, where, now); err != nil {
			return nil, err
		}
		tasks = append(tasks, ledger.Task{
			Type: ref.Type, ID: ref.ID, Device: incarnation, Status: ledger.TaskOpen, Step: firstStep(n.Action), Updated: now,
		})
	}
	return tasks, nil
}

// able refuses a device that cannot be asked.
func (d *desk) able(ctx context.Context, action string, typ, id policy.ID, where string, now time.Time) error {
	m, err := d.m.registry.ManagedDevice(ctx, d.tenant.Org, typ, id)
	switch {
	case policy.KindOf(err) == policy.KindNotFound && err != nil:
		return invalid(where, "is not managed")
	case err != nil:
		return err
	case m.Dormant(now):
		return invalid(where, "is dormant")
	case !supports(&m, action):
		return invalid(where, "does not support "+action)
	}
	open, err := d.m.ledger.OpenRequests(d.tenant, typ, id, maxOpenOfDevice)
	if err != nil {
		return err
	}
	if len(open) >= maxOpenOfDevice {
		return &policy.Error{Kind: policy.KindLimit, Op: "initiate request", Field: where, Public: "has too many open requests"}
	}
	for _, other := range open {
		if r := d.requests[other]; isFirmware(action) && r != nil && isFirmware(r.Action) {
			return &policy.Error{Kind: policy.KindConflict, Op: "initiate request", Field: where, Public: "has an open request about its firmware"}
		}
	}
	return nil
}

// makeRoom forgets the oldest requests that are complete, as far as a new one needs
// their room.
func (d *desk) makeRoom(ctx context.Context, b *ledger.Batch, devices int) error {
	open, tasks := 0, devices
	var complete []*ledger.Request
	for _, r := range d.requests {
		tasks += r.Devices
		if r.Open > 0 {
			open++
		} else {
			complete = append(complete, r)
		}
	}
	full := &policy.Error{Kind: policy.KindLimit, Op: "initiate request", Public: "too many requests are open"}
	if open >= MaxOpen {
		return full
	}
	slices.SortFunc(complete, func(a, b *ledger.Request) int { return cmp.Or(a.Began.Compare(b.Began), cmp.Compare(a.ID, b.ID)) })
	for len(d.requests) >= MaxRequests || tasks > MaxTasks {
		if len(complete) == 0 {
			return full
		}
		oldest := complete[0]
		complete, tasks = complete[1:], tasks-oldest.Devices
		if err := d.drop(ctx, b, oldest); err != nil {
			return err
		}
	}
	return nil
}

// drop removes a request and its tasks.
func (d *desk) drop(ctx context.Context, b *ledger.Batch, r *ledger.Request) error {
	for more := true; more; {
		tasks, err := d.m.ledger.Tasks(d.tenant, r.ID, "", "", sweepStep)
		if err != nil {
			return err
		}
		for i := range tasks {
			b.DropTask(d.tenant, r.ID, tasks[i].Type, tasks[i].ID)
		}
		more = len(tasks) == sweepStep
		if !more {
			b.DropRequest(d.tenant, r.ID)
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
	}
	delete(d.requests, r.ID)
	return nil
}

// sweepStep is how many tasks are ended or removed in one write.
const sweepStep = 1000

// sendMore asks the next devices of a request that were not asked yet.
func (d *desk) sendMore(ctx context.Context, id string, after [2]policy.ID) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	r := d.requests[id]
	if r == nil {
		return nil
	}
	tasks, err := d.m.ledger.Tasks(d.tenant, id, after[0], after[1], sendStep)
	if err != nil {
		return err
	}
	if len(tasks) == sendStep {
		last := tasks[len(tasks)-1]
		d.put(job{send: id, after: [2]policy.ID{last.Type, last.ID}})
	}
	for i := range tasks {
		if t := &tasks[i]; !t.Complete() && !t.Sent {
			if err := d.send(ctx, r, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// resume goes on where an earlier run was interrupted.
func (d *desk) resume(ctx context.Context) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	for id, r := range d.requests {
		if r.Open > 0 {
			d.put(job{send: id})
		}
	}
	return d.expire(ctx)
}

// expire ends the requests whose time is over.
func (d *desk) expire(ctx context.Context) error {
	if err := d.load(ctx); err != nil {
		return err
	}
	defer d.timed()
	now := d.m.now()
	for _, r := range d.requests {
		if r.Open == 0 || now.Before(r.Deadline) {
			continue
		}
		if err := d.endAll(ctx, r, ledger.TaskTimedOut, timedOut); err != nil {
			return err
		}
	}
	return nil
}

const timedOut = "the device did not do it in time"

// endAll ends what is open of a request.
func (d *desk) endAll(ctx context.Context, r *ledger.Request, status ledger.TaskStatus, text string) error {
	var after [2]policy.ID
	for {
		tasks, err := d.m.ledger.Tasks(d.tenant, r.ID, after[0], after[1], sweepStep)
		if err != nil {
			return err
		}
		b, so := d.m.ledger.Batch(), *r
		for i := range tasks {
			t := &tasks[i]
			after = [2]policy.ID{t.Type, t.ID}
			if t.Complete() {
				continue
			}
			if isFirmware(r.Action) && t.Step != firstStep(r.Action) {
				d.cancel(ctx, r, t)
			}
			if err := d.endIn(b, &so, t, status, text); err != nil {
				return err
			}
		}
		if err := b.PutRequest(d.tenant, &so); err != nil {
			return err
		}
		if err := b.Commit(ctx); err != nil {
			return err
		}
		*r = so
		if len(tasks) < sweepStep {
			return nil
		}
	}
}

// Delete removes a request. Devices that did not answer yet may do it all the
// same; an observation is ended.
func (m *Management) Delete(ctx context.Context, t ledger.Tenant, id string) error {
	d := m.desk(t)
	d.turn.Lock()
	defer d.turn.Unlock()
	if err := d.load(ctx); err != nil {
		return err
	}
	r := d.requests[id]
	if r == nil {
		return notFound("request")
	}
	if r.Open > 0 {
		if err := d.endAll(ctx, r, ledger.TaskWithdrawn, "the request was deleted"); err != nil {
			return err
		}
		d.timed()
	}
	return d.drop(ctx, m.ledger.Batch(), r)
}

// Located tells a managed device where somebody else said that it is.
func (m *Management) Located(ctx context.Context, t ledger.Tenant, typ, id policy.ID, l *registry.Location) {
	if managed, err := m.registry.ManagedDevice(ctx, t.Org, typ, id); err != nil || managed.Dormant(m.now()) {
		return
	}
	value := map[string]any{"latitude": l.Latitude, "longitude": l.Longitude, "measuredDateTime": l.Measured.UTC().Format(time.RFC3339Nano)}
	if l.Elevation != nil {
		value["elevation"] = *l.Elevation
	}
	if l.Accuracy != nil {
		value["accuracy"] = *l.Accuracy
	}
	said := struct {
		D fields `json:"d"`
	}{fields{[]field{{"location", value}}}}
	if _, err := m.tell(ctx, t, typ, id, "device/update", said); err != nil {
		m.log.Debug("location not sent", "org", t.Org, "err", err)
	}
}
