package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// A policy may deny because something is not registered, and say so: see
// policy.Decision.Register. Where that is the device that a gateway speaks or
// listens for, the broker has it registered and asks again, once.
//
// All of this happens on the goroutine of the connection or of the call whose
// message it is, while it holds no lock. So nobody else waits for it, the messages
// of a gateway keep their order, and a connection that ends takes nothing along: a
// registration is one commit. What several connections and calls of one gateway
// may have under way is bounded, and what failed is not tried again for a while.

// Registrar is a Registry that can create devices.
type Registrar interface {
	// Attach creates a device of an existing type behind a gateway, as a whole or not
	// at all. The error is a *policy.Error: policy.KindExists for a device that is
	// there, policy.KindUnavailable or policy.KindInternal where another try may
	// succeed, any other where it would not.
	Attach(ctx context.Context, gateway *policy.Principal, typ, id policy.ID) error
}

// Bounds of registering on demand.
const (
	attachPending  = 10               // of one gateway, under way at once
	attachForget   = 10 * time.Minute // a failure is not tried again before
	attachFull     = 10 * time.Second // nor anything of a gateway that has all it may
	attachFailures = 4096             // remembered, of one organisation
	attachTime     = 10 * time.Second // for one
)

// attachments are what gateways of one organisation have under way, and what
// failed.
type attachments struct {
	guarded struct {
		sync.Mutex
		pending map[policy.Subject]int
		failed  map[attachment]failedAttachment
	}
}

// attachment is a device behind a gateway; no device: all of them.
type attachment struct {
	gateway policy.Subject
	device  deviceName
}

type failedAttachment struct {
	until  time.Time
	code   CloseCode
	public string
}

// begin counts one in, or says why it may not be tried.
func (as *attachments) begin(a attachment, now time.Time) *failedAttachment {
	as.guarded.Lock()
	defer as.guarded.Unlock()
	for _, key := range []attachment{a, {gateway: a.gateway}} {
		if f, ok := as.guarded.failed[key]; ok {
			if now.Before(f.until) {
				return &f
			}
			delete(as.guarded.failed, key)
		}
	}
	if as.guarded.pending[a.gateway] >= attachPending {
		return &failedAttachment{code: ClosedForCapacity, public: "too many registrations of this gateway at once"}
	}
	if as.guarded.pending == nil {
		as.guarded.pending = make(map[policy.Subject]int)
	}
	as.guarded.pending[a.gateway]++
	return nil
}

// end counts it out, and remembers a failure.
func (as *attachments) end(a attachment, failed *failedAttachment, now time.Time) {
	as.guarded.Lock()
	defer as.guarded.Unlock()
	if as.guarded.pending[a.gateway]--; as.guarded.pending[a.gateway] <= 0 {
		delete(as.guarded.pending, a.gateway)
	}
	if failed == nil || !now.Before(failed.until) {
		return
	}
	if failed.code == ClosedForCapacity { // what holds for this device holds for any
		as.keepLocked(attachment{gateway: a.gateway}, failedAttachment{now.Add(attachFull), failed.code, failed.public}, now)
	}
	as.keepLocked(a, *failed, now)
}

func (as *attachments) keepLocked(a attachment, f failedAttachment, now time.Time) {
	if as.guarded.failed == nil {
		as.guarded.failed = make(map[attachment]failedAttachment)
	}
	if len(as.guarded.failed) >= attachFailures {
		for other, old := range as.guarded.failed {
			if !now.Before(old.until) {
				delete(as.guarded.failed, other)
			}
		}
		for other := range as.guarded.failed { // in no order, so nobody can aim at one
			if len(as.guarded.failed) < attachFailures {
				break
			}
			delete(as.guarded.failed, other)
		}
	}
	as.guarded.failed[a] = f
}

// registers reports whether r says that a device is to be registered, and asked
// about again.
func (r *refusal) registers() bool {
	return r != nil && r.decision != nil && r.decision.Register && r.device != nil && !r.device.Registered
}

// register has the device that r is about registered behind p. What it returns
// takes the place of r; nil: ask again.
func (sp *space) register(ctx context.Context, p *policy.Principal, r *refusal) *refusal {
	registrar, ok := sp.b.registry.(Registrar)
	if !ok || p.Kind != policy.KindGateway {
		return r
	}
	a := attachment{p.Subject(), deviceName{r.device.Type, r.device.ID}}
	failed := sp.attachments.begin(a, time.Now())
	if failed != nil {
		return r.unregistered(failed, "not tried")
	}
	// Whatever becomes of the connection: what is begun has an outcome.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attachTime)
	defer cancel()
	defer func() { sp.attachments.end(a, failed, time.Now()) }()
	failed = &failedAttachment{code: ClosedUnavailable, public: policy.CauseUnavailable.Public()} // and where it panics
	err := registrar.Attach(ctx, p, a.device.typ, a.device.id)
	if err == nil || policy.KindOf(err) == policy.KindExists {
		failed = nil
		sp.epoch.Add(1) // nothing that was looked up before holds
		return nil
	}
	failed = failedAttachmentOf(err, time.Now())
	if failed.until.IsZero() {
		no := *r
		no.cause, no.decision, no.detail, no.onDeny = policy.CauseUnavailable, nil, err.Error(), policy.Refuse
		return &no // it can be sent again: it is not acknowledged
	}
	return r.unregistered(failed, err.Error())
}

// failedAttachmentOf is the one table from why a device cannot be registered to the
// code of the notice. What may succeed in a moment is not remembered.
func failedAttachmentOf(err error, now time.Time) *failedAttachment {
	f := &failedAttachment{until: now.Add(attachForget)}
	var known *policy.Error
	if errors.As(err, &known) {
		f.public = known.Public
	}
	switch policy.KindOf(err) {
	case policy.KindLimit:
		f.code = ClosedForCapacity
	case policy.KindNotFound, policy.KindInvalid, policy.KindTooLarge, policy.KindExists, policy.KindConflict:
		f.code = ClosedBadData
	case policy.KindForbidden, policy.KindUnauthenticated:
		f.code = ClosedNotAuthorised
	case policy.KindUnavailable, policy.KindInternal:
		f.code, f.until, f.public = ClosedUnavailable, time.Time{}, policy.CauseUnavailable.Public()
	}
	return f
}

// unregistered is r with the reason why nothing was registered.
func (r *refusal) unregistered(f *failedAttachment, detail string) *refusal {
	no := *r
	no.detail = joinDetail(no.detail, "the device is not registered: "+detail)
	no.notice.Code = int(f.code)
	no.message = "the device could not be registered: " + f.public
	return &no
}

// register has the device that r is about registered, for p to be judged again under
// what its sender stands under by then. A refusal takes the place of r.
func (p *publication) register(ctx context.Context, r *refusal) *refusal {
	if p.payer != nil {
		p.payer.flushTouched() // nobody waits for what is written already
	}
	if r = p.space.register(ctx, p.standing.principal, r); r != nil {
		return r
	}
	switch {
	case p.payer != nil:
		p.standing = p.payer.session.current(ctx)
	case p.caller != nil:
		st, r := p.caller.known.current(ctx)
		if r != nil {
			return r
		}
		p.standing = st
	}
	if !p.standing.connect.Allow {
		return &refusal{action: policy.ActionPublish, cause: policy.CauseRejudged, topic: p.name.String(), onDeny: policy.Close}
	}
	p.in = nil // what the topic meant before
	return nil
}
