package opa

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
)

// The short way reads what this program writes, and leaves everything else to the long
// one.
func TestInputsAreReadInOnePass(t *testing.T) {
	t.Parallel()
	e := engineOf(t, builtinBundle(), Options{})
	b := live(e)
	for _, r := range []*policy.Request{
		publishTo(t, "iot-2/evt/a/fmt/json"), subscribeTo(t, "iot-2/cmd/+/fmt/+"),
		{Action: policy.ActionConnect},
		{Action: policy.ActionAdminister, Method: "GET", Route: "/device/types/{typeId}", Target: map[string]string{"typeId": "x"}},
	} {
		ev := recordOf(t, e, deviceFacts(t), r)
		sameInput(t, b, r.Action, ev.Input, true)
	}
	const begin = `{"action":"publish","principal":{"kind":"device"},"levels":["a"]`
	for text, short := range map[string]bool{
		begin + `}`:                             true,
		begin + `,"qos":1,"size":12345}`:        true,
		begin + `,"topic":"é"}`:                 true,
		begin + `,"topic":"a\u0062"}`:           false,
		begin + `,"size":1.5}`:                  false,
		begin + `,"size":-0}`:                   false,
		begin + `,"size":01}`:                   false,
		begin + `,"size":"1"}`:                  false,
		begin + `,"size":1e5}`:                  false,
		begin + `, "qos":1}`:                    false,
		begin + `,"levels":["b"]}`:              false,
		begin + `,"toppic":"x"}`:                false,
		begin + `,"qos":null}`:                  false,
		begin + `,}`:                            false,
		begin + `}}`:                            false,
		begin + `} `:                            false,
		begin:                                   false,
		`{}`:                                    true,
		`[]`:                                    false,
		`{"principal":{"kind":"devise"}}`:       false,
		`{"principal":{"kind":true}}`:           false,
		`{"principal":{"claims":{"a":[1,{}]}}}`: true,
		`{"principal":{"claims":{"a":tru}}}`:    false,
		`{"principal":{"claims":{"a":"` + "\xff" + `"}}}`:                                                false,
		`{"principal":{"claims":` + strings.Repeat(`{"a":`, 300) + `1` + strings.Repeat(`}`, 300) + `}}`: false,
	} {
		sameInput(t, b, policy.ActionPublish, json.RawMessage(text), short)
	}
}

// sameInput reads in both ways. Where the short one answers, the long one has to
// answer the same.
func sameInput(t testing.TB, b *Bundle, action policy.Action, text json.RawMessage, short bool) {
	t.Helper()
	got, ok := b.beside().readers[action].read(text)
	if ok != short {
		t.Errorf("%.120s is read in the short way: %v", text, ok)
	}
	want, err := b.readSlowly(action, text)
	if ok && (err != nil || ast.Compare(got, want) != 0) {
		t.Errorf("%.120s\nis %v\nnot %v, %v", text, got, want, err)
	}
}

func FuzzReadInput(f *testing.F) {
	e := engineOf(f, builtinBundle(), Options{})
	b := live(e)
	f.Add([]byte(recordOf(f, e, deviceFacts(f), publishTo(f, "iot-2/evt/a/fmt/json")).Input))
	f.Add([]byte(`{"principal":{"claims":{"a":[1,-2,null,true,"x"]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, ok := b.beside().readers[policy.ActionPublish].read(text)
		if !ok {
			return
		}
		if want, err := b.readSlowly(policy.ActionPublish, text); err != nil || ast.Compare(got, want) != 0 {
			t.Fatalf("%s\nis %v\nnot %v, %v", text, got, want, err)
		}
	})
}
