package main

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/cordon-mq/cordon/plugins/guest"
)

const (
	secretD1 = "d1-0123456789abcdef"
	secretD2 = "d2-0123456789abcdef"
)

// configuration is settings with the secrets of both devices.
func configuration(settings string) []byte {
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return []byte(`{"v":1,"settings":` + settings + `,"secrets":{"d1":"` + encode(secretD1) + `","d2":"` + encode(secretD2) +
		`","short":"` + encode("short") + `"},"jwks":{}}`)
}

const twoDevices = `{"devices":[{"type":"sensor","id":"d1","secret":"d1"},{"type":"door","id":"d2","secret":"d2"}]}`

// tokens are all that clients may present, with the answers.
func tokens() map[string]string {
	refused := `{"ok":false,"reason":"no device has this token"}`
	return map[string]string{
		secretD1:       `{"ok":true,"subject":{"kind":"device","type":"sensor","id":"d1"}}`,
		secretD2:       `{"ok":true,"subject":{"kind":"device","type":"door","id":"d2"}}`,
		secretD1 + "x": refused,
		secretD1[1:]:   refused,
		"d1":           refused,
		"":             refused,
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	p := guest.New(configure)
	if err := p.Configure(configuration(twoDevices)); err != nil {
		t.Fatal(err)
	}
	for token, want := range tokens() {
		request, err := json.Marshal(map[string]any{"v": 1, "token": []byte(token), "now_ms": 5})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Verify(request); err != nil || string(got) != want {
			t.Errorf("%q: %s, %v; want %s", token, got, err, want)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for settings, want := range map[string]string{
		twoDevices:                          "",
		`{}`:                                "",
		`{"devices":[{}]}`:                  "settings.devices[0].secret has to name a secret of at least 16 bytes",
		`{"devices":[{"secret":"short"}]}`:  "settings.devices[0].secret has to name a secret of at least 16 bytes",
		`{"devices":[{"secret":"absent"}]}`: "settings.devices[0].secret has to name a secret of at least 16 bytes",
		`{"devices":[{"secret":"d1","token":"x"}]}`: "settings.devices[0].token is not known",
		`{"device":[]}`: "settings.device is not known",
	} {
		got := ""
		if err := guest.New(configure).Configure(configuration(settings)); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
}

// Without settings there is no device, and nobody is let in.
func TestNoSettings(t *testing.T) {
	t.Parallel()
	p := guest.New(configure)
	if got, err := p.Verify([]byte(`{"v":1,"now_ms":5}`)); err != nil || string(got) != tokens()[""] {
		t.Errorf("%s, %v", got, err)
	}
}
