package plugins_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// speaker leads exchanges of one method: it asks for a word as often as it has
// words, remembers in its state how far it is, and then is sure.
type speaker struct {
	method string
	words  []string
	as     policy.Principal
	state  int // bytes of state; 0: one for each word
	fails  error
}

func (s speaker) Verify(context.Context, *plugins.Credential) (policy.Principal, error) {
	return policy.Principal{}, plugins.ErrNotMine
}

func (s speaker) Converse(_ context.Context, _ *plugins.Credential, turn plugins.Turn) (plugins.Reply, error) {
	at := len(turn.State)
	switch {
	case turn.Method != s.method:
		return plugins.Reply{}, plugins.ErrNotMine
	case at > 0 && s.fails != nil:
		return plugins.Reply{}, s.fails
	case at > 0 && string(turn.Data) != s.words[at-1]:
		return plugins.Reply{}, plugins.ErrBad
	case at == len(s.words):
		return plugins.Reply{Done: true, Principal: s.as, Data: []byte("welcome"), State: []byte("nobody's")}, nil
	}
	n := at + 1
	if s.state > 0 {
		n = s.state
	}
	return plugins.Reply{Data: []byte("say " + s.words[at]), State: []byte(strings.Repeat("s", n))}, nil
}

func TestExchange(t *testing.T) {
	t.Parallel()
	device := policy.Principal{Org: organisation(t, "acme01"), Kind: policy.KindDevice, Type: "t", ID: "d"}
	anonymous := device
	anonymous.Verifier = plugins.AnonymousName
	many := strings.Fields(strings.Repeat("a ", plugins.TurnsMost))
	ref := func(name string) policy.VerifierRef { return policy.VerifierRef{Verifier: "plugin", Name: name} }
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		ref("silent"):   verifier(func() (policy.Principal, error) { return device, nil }), // leads no exchange
		ref("other"):    speaker{method: "other", as: device},
		ref("words"):    speaker{method: "words", words: []string{"one", "two"}, as: device},
		ref("at once"):  speaker{method: "words", as: device},
		ref("gives up"): speaker{method: "words", words: []string{"one"}, fails: plugins.ErrNotMine},
		ref("hoards"):   speaker{method: "words", words: []string{"one"}, state: plugins.StateMost + 1},
		ref("nobody"):   speaker{method: "words"},
		ref("claims"):   speaker{method: "words", as: anonymous},
		ref("talks"):    speaker{method: "words", words: many, as: device},
		ref("down"):     speaker{method: "words", words: []string{"one"}, fails: plugins.ErrUnavailable},
	}, nil)
	for _, tt := range []struct {
		ask, says string // data of the turns
		want      policy.Cause
		turns     int // that were answered without an error
	}{
		{"words", "- one two", policy.CauseNone, 3},
		{"silent other words", "- one two", policy.CauseNone, 3},
		{"at+once", "-", policy.CauseNone, 1},
		{"words at+once", "- two", policy.CauseBad, 1}, // who leads, refuses for all
		{"silent other", "-", policy.CauseNotSupported, 0},
		{"", "-", policy.CauseNotSupported, 0},
		{"missing words", "-", policy.CauseUnavailable, 0},
		{"gives+up words", "- one", policy.CauseUnavailable, 1},
		{"down words", "- one", policy.CauseUnavailable, 1},
		{"hoards", "-", policy.CauseUnavailable, 0},
		{"nobody", "-", policy.CauseUnavailable, 0},
		{"claims", "-", policy.CauseUnavailable, 0},
		{"talks", "- " + strings.Join(many, " "), policy.CauseBad, plugins.TurnsMost},
	} {
		var refs []policy.VerifierRef
		for _, name := range strings.Fields(tt.ask) {
			refs = append(refs, ref(strings.ReplaceAll(name, "+", " ")))
		}
		e := set.Begin(refs, &plugins.Credential{Password: plugins.NewSecret([]byte(password))}, "words")
		var reply plugins.Reply
		var err error
		turns := 0
		for _, data := range strings.Fields(tt.says) {
			if reply, err = e.Next(t.Context(), []byte(data)); err != nil {
				break
			}
			turns++
			if reply.State != nil {
				t.Errorf("%q: the state leaves the exchange", tt.ask)
			}
		}
		if plugins.CauseOf(err) != tt.want || turns != tt.turns || errors.Is(err, plugins.ErrMethod) != (tt.want == policy.CauseNotSupported) {
			t.Errorf("%q says %q: %v after %d turns; want cause %q after %d", tt.ask, tt.says, err, turns, tt.want, tt.turns)
		}
		if reply.Done != (tt.want == policy.CauseNone) || reply.Done != (reply.Principal.Kind == policy.KindDevice) {
			t.Errorf("%q: %+v", tt.ask, reply)
		}
		if _, err := e.Next(t.Context(), nil); plugins.CauseOf(err) != policy.CauseProtocol {
			t.Errorf("%q: one more turn: %v", tt.ask, err)
		}
	}
}

// A source is asked for what is not fixed, with the organisation of the policy,
// and what it finds is held to that.
func TestSetAsksItsSource(t *testing.T) {
	t.Parallel()
	acme, beta := organisation(t, "acme01"), organisation(t, "beta02")
	of := func(org policy.OrgID) policy.Principal {
		return policy.Principal{Org: org, Kind: policy.KindDevice, Type: "t", ID: "d", Verifier: "found"}
	}
	var asked []policy.VerifierRef
	set := plugins.NewSet(map[policy.VerifierRef]plugins.Verifier{
		{Verifier: "token"}: verifier(func() (policy.Principal, error) { return of(acme), nil }),
	}, func(ref policy.VerifierRef) (plugins.Verifier, bool) {
		asked = append(asked, ref)
		return verifier(func() (policy.Principal, error) { return of(acme), nil }), ref.Verifier == "plugin" && ref.Name != "gone"
	})
	for _, tt := range []struct {
		ref   policy.VerifierRef
		want  policy.Cause
		asked bool
	}{
		{policy.VerifierRef{Verifier: "token"}, policy.CauseNone, false},
		{policy.VerifierRef{Verifier: "token", Org: acme}, policy.CauseUnavailable, false},
		{policy.VerifierRef{Verifier: "plugin", Name: "found"}, policy.CauseNone, true},
		{policy.VerifierRef{Verifier: "plugin", Name: "found", Org: acme}, policy.CauseNone, true},
		{policy.VerifierRef{Verifier: "plugin", Name: "found", Org: beta}, policy.CauseUnavailable, true},
		{policy.VerifierRef{Verifier: "plugin", Name: "gone"}, policy.CauseUnavailable, true},
		{policy.VerifierRef{Verifier: "plugin", Name: "token"}, policy.CauseUnavailable, false},
		{policy.VerifierRef{Verifier: "certificate"}, policy.CauseUnavailable, true},
	} {
		asked = nil
		_, err := set.Verify(t.Context(), []policy.VerifierRef{tt.ref}, &plugins.Credential{})
		if plugins.CauseOf(err) != tt.want || (len(asked) == 1 && asked[0] == tt.ref) != tt.asked {
			t.Errorf("%+v: %v, asked %+v; want cause %q, asked is %t", tt.ref, err, asked, tt.want, tt.asked)
		}
	}
}
