package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cordon-mq/cordon/policy"
)

// Bounds of one exchange.
const (
	TurnsMost = 8       // packets of the client that are answered
	StateMost = 4 << 10 // bytes that a verifier has kept between two of them
)

// Conversation is a Verifier that also leads MQTT 5 AUTH exchanges (MQTT 5 §4.12).
type Conversation interface {
	Verifier
	// Converse takes what the client sent and returns what to answer. Its errors are
	// those of Verify; [ErrNotMine] is for the first turn alone, and says that it
	// does not speak the method.
	Converse(ctx context.Context, c *Credential, turn Turn) (Reply, error)
}

// Turn is what the client sent: with CONNECT or with AUTH.
type Turn struct {
	Method string // Authentication Method, the same in every turn
	Data   []byte // Authentication Data; may be secret
	State  []byte // of the last Reply; nil in the first turn
}

// Reply goes back to the client: in AUTH, or in CONNACK when Done.
type Reply struct {
	Done      bool
	Principal policy.Principal // when Done
	Data      []byte           // Authentication Data; may be empty
	// State is at most StateMost bytes. It is kept with the exchange and given to
	// nobody but the next Converse.
	State []byte
}

// ErrMethod says that none of the verifiers that the policy names speaks the
// Authentication Method. Test with errors.Is.
var ErrMethod = errors.New("no verifier speaks the authentication method")

// Exchange is one authentication in several turns. Whoever first answers anything
// but [ErrNotMine] leads it to its end, so that a later verifier can never accept
// what an earlier one has begun to refuse. It belongs to one goroutine.
type Exchange struct {
	set        *Set
	refs       []policy.VerifierRef
	credential Credential
	method     string

	leader Conversation // nil before the first turn
	ref    policy.VerifierRef
	state  []byte
	turns  int
	over   bool
}

// Begin makes an exchange with the verifiers that refs name. It keeps c until the
// exchange is over.
func (s *Set) Begin(refs []policy.VerifierRef, c *Credential, method string) *Exchange {
	return &Exchange{set: s, refs: slices.Clone(refs), credential: *c, method: method}
}

// Next answers what the client sent. A Reply that is Done has a principal that
// verifiers of that reference may make, and ends the exchange, as any error does.
func (e *Exchange) Next(ctx context.Context, data []byte) (Reply, error) {
	if e.over {
		return Reply{}, &Refusal{Cause: policy.CauseProtocol, Err: errors.New("the exchange is over")}
	}
	reply, err := e.answer(ctx, data)
	e.state, reply.State = reply.State, nil
	if err != nil || reply.Done {
		e.over, e.state, e.credential = true, nil, Credential{} // no secret outlives its use
	}
	return reply, err
}

func (e *Exchange) answer(ctx context.Context, data []byte) (Reply, error) {
	turn := Turn{Method: e.method, Data: data, State: e.state}
	e.turns++
	var reply Reply
	var err error
	switch {
	case e.turns > TurnsMost:
		return Reply{}, &Refusal{Cause: policy.CauseBad, Err: fmt.Errorf("more than %d turns", TurnsMost)}
	case e.leader == nil:
		reply, err = e.lead(ctx, turn)
	default:
		if reply, err = e.leader.Converse(ctx, &e.credential, turn); errors.Is(err, ErrNotMine) {
			err = &Refusal{Cause: policy.CauseUnavailable, Err: errors.New("the verifier gave up an exchange that it leads")}
		}
	}
	switch {
	case err != nil:
		return Reply{}, err
	case reply.Done:
		reply.Principal, err = e.set.confirm(ctx, e.ref, reply.Principal, &e.credential)
	case len(reply.State) > StateMost:
		err = &Refusal{Cause: policy.CauseUnavailable, Err: fmt.Errorf("state of %d bytes, at most %d", len(reply.State), StateMost)}
	}
	if err != nil {
		return Reply{}, err
	}
	return reply, nil
}

// lead finds who leads. A verifier that leads no exchanges speaks no method.
func (e *Exchange) lead(ctx context.Context, turn Turn) (Reply, error) {
	for _, ref := range e.refs {
		v, ok := e.set.find(ref)
		if !ok {
			return Reply{}, notConfigured(ref)
		}
		leader, speaks := v.(Conversation)
		if !speaks {
			continue
		}
		reply, err := leader.Converse(ctx, &e.credential, turn)
		if !errors.Is(err, ErrNotMine) {
			e.leader, e.ref = leader, ref
			return reply, err
		}
	}
	return Reply{}, &Refusal{Cause: policy.CauseNotSupported, Err: ErrMethod}
}
