package management

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Whatever a device says is read or refused, within bounds.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", "1", `{"reqId":"1"}`, `{"reqId":7}`, `{"rc":"202","reqId":"a-i"}`, `{"rc":1e9}`,
		`{"d":{"lifetime":3600,"supports":{"deviceActions":true},"metadata":{"a":[1]}},"reqId":"x"}`,
		`{"d":{"fields":[{"field":"mgmt.firmware","value":{"state":1}}]}}`, `{"d":{"fields":[{"field":"mgmt.firmware"}]}}`,
		`{"d":{"errorCode":99999999999999999999}}`, `{"d":null}`, `{"d":3}`, `{"d":{}} {}`, "{\"reqId\":\"\xff\"}",
		strings.Repeat("[", 100), `{"d":` + strings.Repeat(`{"a":`, 30) + "1" + strings.Repeat("}", 31),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		said, err := parseMessage(payload)
		if len(said.ReqID) > maxReqID || !utf8.ValidString(said.ReqID) || said.Code < 0 || said.Code > 999 {
			t.Errorf("%q was read as %+v", payload, said)
		}
		if err != nil {
			if r := refusalOf(err); r.code != badInput {
				t.Errorf("%q: %v", payload, r)
			}
			return
		}
		for _, v := range []any{&infoPatch{}, &firmwarePatch{}, &attributes{}} {
			if err := said.body(v); err != nil && refusalOf(err).code != badInput {
				t.Errorf("%q: %v", payload, err)
			}
		}
		if p, err := said.firmware(); err == nil && p != nil && !json.Valid(said.D) {
			t.Errorf("%q has firmware", payload)
		}
	})
}

func FuzzSpeaker(f *testing.F) {
	for _, seed := range []string{
		"iotdevice-1/type/T/id/D/mgmt/manage", "iotdevice-1/type/T/id/D/", "iotdevice-1/type/T/id/D", "iotdevice-1/type//id/D/notify",
		"iotdevice-1/type/T/di/D/notify", "iotdm-1/type/T/id/D/response", "iotdevice-1/type/T/id/type/id/D", "x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := topic.ParseName(text)
		if err != nil {
			return
		}
		mounts, err := topic.NewMounts([]topic.Mount{{}})
		if err != nil {
			t.Fatal(err)
		}
		name, _, err := mounts.In(n)
		if err != nil {
			return
		}
		if s, ok := speakerOf(name); ok {
			if again := Prefix + "type/" + string(s.typ) + "/id/" + string(s.id) + "/" + s.what; again != text {
				t.Errorf("%q was read as %q", text, again)
			}
		}
	})
}
