package main

import (
	"slices"
	"strings"
	"testing"
)

// demonstration is a broker that serves the demonstration, and how to get in.
type demonstration struct {
	doors
	appKey, appToken, deviceToken string
}

// What its clients are called and speak of.
const (
	appID      = "a:" + demoOrg + ":interop"
	deviceID   = "d:" + demoOrg + ":" + string(demoType) + ":" + string(demoDevice)
	deviceUser = "use-token-auth"

	devicesOwn    = "iot-2/type/" + string(demoType) + "/id/" + string(demoDevice) + "/"
	event         = "iot-2/evt/status/fmt/json" // as the device writes it
	eventInside   = devicesOwn + "evt/status/fmt/json"
	command       = "iot-2/cmd/reboot/fmt/json"
	commandInside = devicesOwn + "cmd/reboot/fmt/json"
	notItsOwn     = "iot-2/cmd/forged/fmt/json" // a device does not publish commands
)

// startDemonstration opens the door for MQTT alone.
func startDemonstration(t *testing.T) *demonstration {
	t.Helper()
	return &startWeb(t, "CORDON_HTTPS=off").demonstration
}

// TestInteropCredentials has a device and an application of every library speak
// with the built-in policies, and be refused what is not their own. TestPubAndSub
// has the same of Cordon's commands.
func TestInteropCredentials(t *testing.T) {
	t.Parallel()
	w := startWeb(t)
	s := newSite(t, w.doors, w.log)
	for _, l := range presentLibraries(t) { // one after the other: there is one device
		if l.onlyText {
			continue
		}
		t.Run(l.String(), func(t *testing.T) {
			w.events(t, s, l)
			w.commands(t, s, l)
			w.refusals(t, s, l)
		})
	}
}

func (d *demonstration) app(filters ...string) greeting {
	return greeting{id: appID, user: d.appKey, password: d.appToken, filters: filters, qos: 2}
}

func (d *demonstration) device(filters ...string) greeting {
	return greeting{id: deviceID, user: deviceUser, password: d.deviceToken, filters: filters, qos: 2}
}

// goes sends a message at every QoS, and a long one, under two spellings.
func goes(t *testing.T, from *peer, written string, to *peer, read string) {
	t.Helper()
	for qos := range byte(3) {
		for _, payload := range []string{`{"d":{"t":21}}`, longPayload()} {
			from.sends(t, message{topic: written, payload: payload, qos: qos})
			to.wants(t, message{topic: read, payload: payload, qos: qos})
		}
	}
}

func (w *web) events(t *testing.T, s *site, l library) {
	app, device := s.join(t, l, w.app("iot-2/type/+/id/+/evt/+/fmt/+")), s.join(t, l, w.device())
	goes(t, device, event, app, eventInside)
	app.leave()
	device.leave()
}

func (w *web) commands(t *testing.T, s *site, l library) {
	app, device := s.join(t, l, w.app()), s.join(t, l, w.device("iot-2/cmd/+/fmt/+"))
	goes(t, app, commandInside, device, command)
	app.leave()
	device.leave()
}

// refusals say why, in the words of the library.
func (w *web) refusals(t *testing.T, s *site, l library) {
	wrong := w.device("iot-2/cmd/+/fmt/+")
	wrong.password = "wrong-token"
	if _, err := s.tries(t, l, wrong); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authori") {
		t.Errorf("connect: %v", err)
	}

	device := s.join(t, l, w.device("iot-2/cmd/+/fmt/+", "iot-2/evt/#"))
	refused := byte(0x80)
	if l.version == "5" {
		refused = 0x87
	}
	if got, want := device.granted(), []byte{2, refused}; !slices.Equal(got, want) {
		t.Errorf("SUBACK has %x, want %x", got, want)
	}
	device.leave()

	for qos := byte(1); qos <= 2; qos++ {
		forger := s.join(t, l, w.device())
		// Another topic each time: by the third refusal of one, MQTT 3 gets no sign.
		err := forger.publish(message{topic: "iot-2/cmd/" + s.name() + "/fmt/json", payload: "no", qos: qos})
		if err == nil || l.version == "5" && !explains(l, err) {
			t.Errorf("publish with QoS %d: %v", qos, err)
		}
		forger.leave()
	}
}

// explains tells whether an error has what its library shows of a refusal.
func explains(l library, err error) bool {
	if l.product.name == paho5Product().name {
		return strings.Contains(err.Error(), "0x87") && strings.Contains(err.Error(), "(decision ")
	}
	return strings.Contains(err.Error(), "Not authorized")
}
