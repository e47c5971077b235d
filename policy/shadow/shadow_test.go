package shadow_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
	"github.com/cordon-mq/cordon/policy/shadow"
)

// asked is one question about publishing that the live policy answered so.
func asked(allow bool, weight uint64) shadow.Question {
	d := &policy.Decision{Allow: allow}
	if !allow {
		d.Cause = policy.CausePolicy
	}
	return shadow.Question{
		Facts:   &policy.Facts{Principal: &policy.Principal{}},
		Request: policy.Request{Action: policy.ActionPublish, Time: time.Unix(1, 0)},
		Answer:  d, Weight: weight,
	}
}

// spent fails the test when a shadow spends an organisation's evaluations.
type spent struct{ t *testing.T }

func (s spent) Spend() bool { s.t.Error("a quota was spent"); return false }

func TestDifferencesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		candidate := &policytest.Recorder{}
		candidate.On(policy.ActionPublish, func(f *policy.Facts, r *policy.Request) *policy.Decision {
			if f.Budget != nil || r.Time != time.Unix(1, 0) || r.Memo != nil {
				t.Errorf("asked %+v of %+v", r, f)
			}
			return nil
		})
		s := shadow.New(shadow.Options{Candidate: candidate, Examples: 2})
		seen, _ := s.Watch()
		same := asked(true, 1)
		same.Facts.Budget, same.Request.Memo = spent{t}, &policy.Memo{}
		same.Answer = policytest.Allowed(policy.ActionPublish)
		s.Observe(same)
		for range 3 {
			s.Observe(asked(false, 10))
		}
		synctest.Wait()
		candidate.Deny(policy.ActionPublish, "closed")
		s.Observe(asked(true, 100))
		synctest.Wait()
		r := s.Report()
		if want := (shadow.Count{Compared: 5, Denied: 100, Given: 30}); r.Total != want || r.Actions[policy.ActionPublish] != want {
			t.Errorf("counted %+v, want %+v", r.Total, want)
		}
		if r.State != shadow.Running || len(r.Examples) != 2 || r.Examples[1].After.Reason != "closed" || r.Examples[1].Difference.Verdict != policy.VerdictDenied {
			t.Errorf("%+v", r)
		}
		s.Close()
		n := 0
		for range seen {
			n++
		}
		if n != 4 || s.Report().State != shadow.Ended {
			t.Errorf("%d differences watched, state %v", n, s.Report().State)
		}
		if late, _ := s.Watch(); late != nil {
			if _, open := <-late; open {
				t.Error("an ended shadow is watched")
			}
		}
	})
}

// A candidate without rules for receive lets everything through, as a live one does.
func TestReceiveMayBeMissing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := shadow.New(shadow.Options{Candidate: policytest.AllowAll{}})
		q := asked(true, 1)
		q.Request.Action = policy.ActionReceive
		s.Observe(q)
		synctest.Wait()
		if r := s.Report(); r.Total != (shadow.Count{Compared: 1}) {
			t.Errorf("%+v", r.Total)
		}
		s.Close()
	})
}

func TestThresholds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		o        shadow.Options
		err      error
		state    shadow.State
		promoted int
	}{
		"too many differences":      {shadow.Options{StopAfter: 25, PromoteAfter: 4}, nil, shadow.Stopped, 0},
		"enough without too many":   {shadow.Options{StopAfter: 1000, PromoteAfter: 2}, nil, shadow.Promoted, 1},
		"promotion that is refused": {shadow.Options{PromoteAfter: 2}, errors.New("pinned"), shadow.Failed, 1},
		"no thresholds":             {shadow.Options{}, nil, shadow.Running, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				promoted := 0
				test.o.Candidate = policytest.AllowAll{}
				test.o.Promote = func() error { promoted++; return test.err }
				s := shadow.New(test.o)
				for range 10 {
					s.Observe(asked(false, 10))
				}
				synctest.Wait()
				if r := s.Report(); r.State != test.state || promoted != test.promoted || !errors.Is(r.Err, test.err) {
					t.Errorf("%v, promoted %d times, %v", r.State, promoted, r.Err)
				}
				s.Observe(asked(false, 1))
				s.Close()
			})
		})
	}
}

// A candidate that is slow costs nobody but the shadow.
func TestObserveNeverBlocks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		candidate := &policytest.Recorder{}
		candidate.On(policy.ActionPublish, func(*policy.Facts, *policy.Request) *policy.Decision { <-release; return nil })
		s := shadow.New(shadow.Options{Candidate: candidate, Queue: 2})
		s.Observe(asked(true, 1))
		synctest.Wait()
		for range 5 {
			s.Observe(asked(true, 1))
		}
		if r := s.Report(); r.Dropped != 3 || r.Total.Compared != 0 {
			t.Errorf("%+v", r)
		}
		close(release)
		synctest.Wait()
		if r := s.Report(); r.Total.Compared != 3 {
			t.Errorf("%+v", r)
		}
		s.Close()
	})
}

// What the candidate has no quota left for was not asked of its rules, so it is no
// difference.
func TestAnswersWithoutARuleAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		candidate := &policytest.Recorder{}
		candidate.On(policy.ActionPublish, func(*policy.Facts, *policy.Request) *policy.Decision {
			return &policy.Decision{Cause: policy.CauseQuota}
		})
		s := shadow.New(shadow.Options{Candidate: candidate, StopAfter: 1})
		s.Observe(asked(true, 1))
		synctest.Wait()
		if r := s.Report(); r.State != shadow.Running || r.Dropped != 1 || r.Total != (shadow.Count{}) {
			t.Errorf("%+v", r)
		}
		s.Close()
	})
}
