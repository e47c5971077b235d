package management

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Actions of the platform's own. Any other is BUNDLE/ACTION.
const (
	reboot       = "device/reboot"
	factoryReset = "device/factoryReset"
	download     = "firmware/download"
	update       = "firmware/update"
)

// Steps of a task, in the order in which they come: firmware is told what to get,
// then observed, then told to begin; anything else only begins.
const (
	stepUpdate   = "u"
	stepObserve  = "o"
	stepInitiate = "i"
	stepCancel   = "c" // of what ended; its answer means nothing
)

func isFirmware(action string) bool { return action == download || action == update }

// supportOf is what a device has to support for an action.
func supportOf(action string) string {
	switch action {
	case reboot, factoryReset:
		return registry.SupportsDeviceActions
	case download, update:
		return registry.SupportsFirmwareActions
	default:
		bundle, _, _ := strings.Cut(action, "/")
		return bundle
	}
}

// firstStep is what an action begins with.
func firstStep(action string) string {
	switch action {
	case download:
		return stepUpdate
	case update:
		return stepObserve
	default:
		return stepInitiate
	}
}

// nextStep is what follows step, once the device agreed to it; empty: nothing.
func nextStep(step string) string {
	switch step {
	case stepUpdate:
		return stepObserve
	case stepObserve:
		return stepInitiate
	default:
		return ""
	}
}

// reqID names a step of a request; parseReqID reads it.
func reqID(request, step string) string { return request + "-" + step }

func parseReqID(text string) (request, step string, ok bool) {
	return strings.Cut(text, "-")
}

// field is an attribute, or a parameter, in a message to a device.
type field struct {
	Field string `json:"field"`
	Value any    `json:"value,omitempty"`
}

type fields struct {
	Fields []field `json:"fields"`
}

// question is what a device is asked.
type question struct {
	D     *fields `json:"d,omitempty"`
	ReqID string  `json:"reqId"`
}

// firmwareOrder is the firmware that a device is to get.
type firmwareOrder struct {
	Version      string `json:"version"`
	Name         string `json:"name"`
	URI          string `json:"uri"`
	Verifier     string `json:"verifier"`
	State        int    `json:"state"`
	UpdateStatus int    `json:"updateStatus"`
	Updated      string `json:"updatedDateTime"`
}

// ask is where a step is said, and what.
func ask(r *ledger.Request, step string) (what string, said question) {
	said.ReqID = reqID(r.ID, step)
	observed := &fields{[]field{{Field: firmwareField}}}
	switch step {
	case stepUpdate:
		var order firmwareOrder
		for _, p := range r.Parameters {
			switch p.Name {
			case "version":
				order.Version = p.Value
			case "name":
				order.Name = p.Value
			case "uri":
				order.URI = p.Value
			case "verifier":
				order.Verifier = p.Value
			}
		}
		said.D = &fields{[]field{{firmwareField, order}}}
		return "device/update", said
	case stepObserve:
		said.D = observed
		return "observe", said
	case stepCancel:
		said.D = observed
		return "cancel", said
	}
	switch r.Action {
	case reboot, download, update:
		return "mgmt/initiate/" + r.Action, said
	case factoryReset:
		return "mgmt/initiate/device/factory_reset", said
	default:
		said.D = &fields{[]field{}}
		for _, p := range r.Parameters {
			said.D.Fields = append(said.D.Fields, field{p.Name, p.Value})
		}
		return "mgmt/custom/" + r.Action, said
	}
}

// send says the present step of a task, which is stored, and notes who heard it.
func (d *desk) send(ctx context.Context, r *ledger.Request, t *ledger.Task) error {
	what, said := ask(r, t.Step)
	heard, err := d.m.tell(ctx, d.tenant, t.Type, t.ID, what, said)
	if err != nil || heard.Sessions == 0 {
		return nil //nolint:nilerr // it is said again when the device is there
	}
	t.Sent, t.Kept, t.Updated = true, heard.Kept, d.m.now().UTC()
	return d.keep(ctx, r, t)
}

// keep stores a task that is not complete.
func (d *desk) keep(ctx context.Context, r *ledger.Request, t *ledger.Task) error {
	b := d.m.ledger.Batch()
	if err := b.PutTask(d.tenant, r.ID, t); err != nil {
		return err
	}
	return b.Commit(ctx)
}

// end completes a task.
func (d *desk) end(ctx context.Context, r *ledger.Request, t *ledger.Task, status ledger.TaskStatus, text string) error {
	b := d.m.ledger.Batch()
	after := *r
	if err := d.endIn(b, &after, t, status, text); err != nil {
		return err
	}
	if err := b.PutRequest(d.tenant, &after); err != nil {
		return err
	}
	if err := b.Commit(ctx); err != nil {
		return err
	}
	*r = after
	if r.Open == 0 {
		d.timed()
	}
	return nil
}

// endIn is end as part of a larger write, which stores r.
func (d *desk) endIn(b *ledger.Batch, r *ledger.Request, t *ledger.Task, status ledger.TaskStatus, text string) error {
	now := d.m.now().UTC()
	t.Status, t.Message, t.Updated = status, text, now
	r.Open--
	if status != ledger.TaskSucceeded {
		r.Failed++
	}
	if r.Open <= 0 {
		r.Open, r.Ended = 0, now
	}
	return b.PutTask(d.tenant, r.ID, t)
}

// task finds an open task of a device; nil: there is none.
func (d *desk) task(ctx context.Context, s speaker, request string) (*ledger.Request, *ledger.Task, error) {
	if err := d.load(ctx); err != nil {
		return nil, nil, err
	}
	r := d.requests[request]
	if r == nil {
		return nil, nil, nil
	}
	t, ok, err := d.m.ledger.Task(d.tenant, request, s.typ, s.id)
	if err != nil || !ok || t.Complete() {
		return nil, nil, err
	}
	return r, &t, nil
}

// response takes what a device answers.
func (d *desk) response(ctx context.Context, s speaker, said *message) error {
	request, step, ok := parseReqID(said.ReqID)
	if !ok {
		return nil
	}
	r, t, err := d.task(ctx, s, request)
	if err != nil || r == nil || t.Step != step {
		return err // of something that is over
	}
	if err := d.active(ctx, s); err != nil {
		return err
	}
	t.Code, t.Message = int(said.Code), shortened(said.Message)
	if said.Code < 200 || said.Code > 299 {
		status := ledger.TaskRejected
		if t.Accepted {
			status = ledger.TaskFailed
		}
		return d.end(ctx, r, t, status, rejection(t))
	}
	if step == stepObserve {
		if p, err := said.firmware(); err == nil && p != nil {
			if err := d.noteFirmware(ctx, s, p); refusalOf(err) != nil && refusalOf(err).code == conflict {
				return err
			}
		}
	}
	if next := nextStep(step); next != "" {
		t.Step, t.Sent, t.Kept, t.Updated = next, false, false, d.m.now().UTC()
		if err := d.keep(ctx, r, t); err != nil {
			return err
		}
		return d.send(ctx, r, t)
	}
	if said.Code == 202 || isFirmware(r.Action) {
		t.Accepted, t.Updated = true, d.m.now().UTC()
		return d.keep(ctx, r, t)
	}
	return d.end(ctx, r, t, ledger.TaskSucceeded, t.Message)
}

func rejection(t *ledger.Task) string {
	if t.Message != "" {
		return t.Message
	}
	return "the device answered " + strconv.Itoa(t.Code)
}

// shortened bounds what a device says of an error.
func shortened(text string) string {
	const most = 1024
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// observed looks what news of the firmware mean for a request.
func (d *desk) observed(ctx context.Context, s speaker, request string, p *firmwarePatch) error {
	r, t, err := d.task(ctx, s, request)
	if err != nil || r == nil || !isFirmware(r.Action) || t.Step != stepInitiate {
		return err
	}
	switch {
	case p.UpdateStatus != nil && *p.UpdateStatus >= 2:
		err = d.end(ctx, r, t, ledger.TaskFailed, firmwareError(*p.UpdateStatus))
	case r.Action == download && p.State != nil && *p.State == 2:
		err = d.end(ctx, r, t, ledger.TaskSucceeded, "")
	case r.Action == update && t.Accepted && p.UpdateStatus != nil && *p.UpdateStatus == 0:
		err = d.end(ctx, r, t, ledger.TaskSucceeded, "")
	default:
		return nil
	}
	if err == nil {
		d.cancel(ctx, r, t)
	}
	return err
}

// cancel ends the observation that a task needed. Nobody waits for the answer.
func (d *desk) cancel(ctx context.Context, r *ledger.Request, t *ledger.Task) {
	what, said := ask(r, stepCancel)
	_, _ = d.m.tell(ctx, d.tenant, t.Type, t.ID, what, said) // a device that is away observes nothing
}

// firmwareError says in words what went wrong.
func firmwareError(status int) string {
	switch status {
	case 2:
		return "out of memory"
	case 3:
		return "the connection was lost"
	case 4:
		return "the firmware did not pass verification"
	case 5:
		return "the image is not supported"
	case 6:
		return "the URI is not valid"
	default:
		return "the firmware could not be updated"
	}
}

// managed goes through the open tasks of a device that just said that it manages
// itself: what waited for that is complete, and what it did not hear is said again.
func (d *desk) managed(ctx context.Context, s speaker, m *registry.Managed) error {
	requests, err := d.m.ledger.OpenRequests(d.tenant, s.typ, s.id, maxOpenOfDevice)
	var errs []error
	for _, id := range requests {
		r, t, err := d.task(ctx, s, id)
		switch {
		case err != nil || r == nil:
		case !supports(m, r.Action):
			err = d.end(ctx, r, t, ledger.TaskUnmanaged, "the device does not support the action any more")
		case t.Accepted && (r.Action == reboot || r.Action == factoryReset):
			err = d.end(ctx, r, t, ledger.TaskSucceeded, "")
		case !t.Accepted && !t.Kept:
			err = d.send(ctx, r, t)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, err)...)
}

func supports(m *registry.Managed, action string) bool {
	want := supportOf(action)
	for _, name := range m.Supports {
		if name == want {
			return true
		}
	}
	return false
}

// endOf ends every open task of a device; of one incarnation, unless that is 0.
func (d *desk) endOf(ctx context.Context, typ, id policy.ID, incarnation uint64, text string) error {
	requests, err := d.m.ledger.OpenRequests(d.tenant, typ, id, maxOpenOfDevice)
	var errs []error
	for _, request := range requests {
		r, t, err := d.task(ctx, speaker{typ: typ, id: id}, request)
		if err == nil && r != nil && (incarnation == 0 || t.Device == incarnation) {
			err = d.end(ctx, r, t, ledger.TaskUnmanaged, text)
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, err)...)
}

// leave ends what a device was asked that was deleted.
func (d *desk) leave(ctx context.Context, g *goneDevice) error {
	return d.endOf(ctx, g.typ, g.id, g.incarnation, "the device was deleted")
}
