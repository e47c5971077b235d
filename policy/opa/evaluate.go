package opa

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/cordon-mq/cordon/policy"
)

// stop ends one evaluation. It is a topdown.Cancel.
type stop struct{ flag atomic.Bool }

func (s *stop) Cancel()         { s.flag.Store(true) }
func (s *stop) Cancelled() bool { return s.flag.Load() }

var (
	errUndefined = errors.New("no rule gives it a value")
	errNoValue   = errors.New("no single value")
)

// evaluate asks one entry point. The value counts when the cause is CauseNone.
// It runs on the caller's goroutine: a timer and the context only set a flag
// that the evaluation looks at.
func (e *Engine) evaluate(ctx context.Context, entry *entryPoint, input ast.Value, now time.Time) (v ast.Value, cause policy.Cause, err error) {
	if entry == nil {
		return nil, policy.CauseUndefined, errUndefined
	}
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("policy evaluation panicked", "rule", entry.ref.String(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			v, cause, err = nil, policy.CausePanic, fmt.Errorf("panic: %v", p)
		}
	}()
	e.counters.evaluations.Add(1)
	defer e.timed(time.Now())

	cancel := new(stop)
	timer := time.AfterFunc(e.timeout, cancel.Cancel)
	defer timer.Stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}

	v, err = entry.value(ctx, input, now, cancel, e.log)
	switch {
	case err != nil && (topdown.IsCancel(err) || cancel.Cancelled()):
		return nil, policy.CauseTimeout, fmt.Errorf("%s took longer than %v", entry.ref, e.timeout)
	case errors.Is(err, errNoValue):
		return nil, policy.CauseMalformed, err
	case err != nil:
		return nil, policy.CauseError, located(err)
	case v == nil:
		return nil, policy.CauseUndefined, fmt.Errorf("%s: %w", entry.ref, errUndefined)
	case measureValue(v, e.outputMax) < 0:
		return nil, policy.CauseOutputSize, fmt.Errorf("%s has an answer of more than %d bytes", entry.ref, e.outputMax)
	}
	return v, policy.CauseNone, nil
}

// located writes an evaluation's error with its position as file:line:col.
func located(err error) error {
	var t *topdown.Error
	if !errors.As(err, &t) || t.Location == nil {
		return err
	}
	return fmt.Errorf("%s:%s:%s: %s: %s", t.Location.File, strconv.Itoa(t.Location.Row), strconv.Itoa(t.Location.Col), t.Code, t.Message)
}

// decodeVerifiers reads the answer of cordon.connect.verifiers as strictly as
// decode reads a decision.
func decodeVerifiers(v ast.Value) ([]policy.VerifierRef, error) {
	list, ok := v.(*ast.Array)
	if !ok {
		return nil, fmt.Errorf("verifiers %w", want("an array", v))
	}
	var refs []policy.VerifierRef
	err := each(list, 16, func(v ast.Value) error {
		ref, err := verifierOf(v)
		refs = append(refs, ref)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("verifiers: %w", err)
	}
	return refs, nil
}

func verifierOf(v ast.Value) (ref policy.VerifierRef, err error) {
	o, ok := v.(ast.Object)
	if !ok {
		return ref, want("an object", v)
	}
	err = eachField(o, "verifier", func(name string, v ast.Value) error {
		s, err := textOf(v, maxName)
		switch name {
		case "verifier":
			ref.Verifier = s
		case "name":
			ref.Name = s
		case "and":
			ref.And = s
		case "org":
			if err == nil {
				ref.Org, err = policy.ParseOrgID(s)
			}
		default:
			return errUnknownField
		}
		return err
	})
	if err != nil {
		return ref, err
	}
	named, anonymous := ref.Verifier == "plugin", ref.Verifier == "anonymous"
	switch {
	case !named && !anonymous && ref.Verifier != "token" && ref.Verifier != "certificate" && ref.Verifier != "claim":
		return ref, fmt.Errorf("%q is no verifier; there are token, certificate, claim, plugin, anonymous", shorten(ref.Verifier))
	case named != (ref.Name != ""):
		return ref, errors.New("a name belongs to a plugin, and a plugin needs one")
	case ref.And != "" && (ref.And != "certificate" || ref.And == ref.Verifier || anonymous):
		return ref, errors.New("and is certificate, and belongs to token, claim or a plugin")
	case anonymous && ref.Org.IsZero(), !anonymous && !named && !ref.Org.IsZero():
		return ref, errors.New("an org belongs to anonymous, which needs one, or to a plugin")
	}
	return ref, nil
}
