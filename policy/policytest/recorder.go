package policytest

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/cordon-mq/cordon/policy"
)

// Question is one request that a Recorder was asked, and on whose behalf.
type Question struct {
	Facts   *policy.Facts
	Request policy.Request // a copy that the asker cannot change any more
}

// Answer decides one question. It runs on the asker's goroutine and may block.
type Answer func(*policy.Facts, *policy.Request) *policy.Decision

// Recorder is a Decider that a test scripts. Its zero value allows everything,
// as [AllowAll] does. It never remembers an answer, so every question is seen.
// It is safe for concurrent use.
type Recorder struct {
	script struct {
		sync.Mutex
		answers    map[policy.Action]Answer
		verifiers  func(*policy.Client) ([]policy.VerifierRef, error)
		asked      []Question
		generation policy.Generation // activations so far
	}
}

var _ policy.Decider = (*Recorder)(nil)

// On makes answer the one for every later question about a. A nil answer, or a
// nil decision from it, allows.
func (r *Recorder) On(a policy.Action, answer Answer) {
	r.script.Lock()
	defer r.script.Unlock()
	if r.script.answers == nil {
		r.script.answers = map[policy.Action]Answer{}
	}
	r.script.answers[a] = answer
}

// Deny makes every later question about a a denial for reason.
func (r *Recorder) Deny(a policy.Action, reason string) {
	r.On(a, func(*policy.Facts, *policy.Request) *policy.Decision { return Denied(reason) })
}

// OnVerifiers makes f choose the verifiers.
func (r *Recorder) OnVerifiers(f func(*policy.Client) ([]policy.VerifierRef, error)) {
	r.script.Lock()
	defer r.script.Unlock()
	r.script.verifiers = f
}

// Activate counts one more generation, as a policy change does.
func (r *Recorder) Activate() policy.Generation {
	r.script.Lock()
	defer r.script.Unlock()
	r.script.generation++
	return r.script.generation + 1
}

// Asked returns the questions about a so far, oldest first.
func (r *Recorder) Asked(a policy.Action) []Question {
	r.script.Lock()
	defer r.script.Unlock()
	var asked []Question
	for _, q := range r.script.asked {
		if q.Request.Action == a {
			asked = append(asked, q)
		}
	}
	return asked
}

// Forget drops what was asked so far.
func (r *Recorder) Forget() {
	r.script.Lock()
	defer r.script.Unlock()
	r.script.asked = nil
}

// Verifiers names the token verifier unless OnVerifiers says otherwise.
func (r *Recorder) Verifiers(_ context.Context, c *policy.Client, _ *policy.Organisation) ([]policy.VerifierRef, error) {
	r.script.Lock()
	f := r.script.verifiers
	r.script.Unlock()
	if f == nil {
		return []policy.VerifierRef{{Verifier: "token"}}, nil
	}
	return f(c)
}

// Judge records and answers.
func (r *Recorder) Judge(f *policy.Facts) policy.Judge {
	return recordedJudge{r, f}
}

type recordedJudge struct {
	*Recorder
	facts *policy.Facts
}

func (j recordedJudge) Decide(_ context.Context, q *policy.Request) *policy.Decision {
	return j.decide(j.facts, q)
}

func (r *Recorder) decide(f *policy.Facts, q *policy.Request) *policy.Decision {
	kept := *q
	kept.Levels = slices.Clone(q.Levels)
	kept.Target = maps.Clone(q.Target)
	if q.Properties != nil {
		p := *q.Properties
		p.User = slices.Clone(p.User)
		kept.Properties = &p
	}

	r.script.Lock()
	r.script.asked = append(r.script.asked, Question{f, kept})
	answer := r.script.answers[q.Action]
	r.script.Unlock()

	if answer != nil {
		if d := answer(f, q); d != nil {
			return d
		}
	}
	return Allowed(q.Action)
}

// Generation is 1 until the first Activate.
func (r *Recorder) Generation() policy.Generation {
	r.script.Lock()
	defer r.script.Unlock()
	return r.script.generation + 1
}

// Decides reports whether a is one of the four that every bundle decides, or
// the test gave an answer for it.
func (r *Recorder) Decides(a policy.Action) bool {
	r.script.Lock()
	defer r.script.Unlock()
	return a != policy.ActionReceive || r.script.answers[a] != nil
}
