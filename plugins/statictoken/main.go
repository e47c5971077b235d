// Command statictoken is the smallest plugin: each device has a secret in a file,
// and presents it as its password. README.md beside this file walks through it.
package main

import "github.com/cordon-mq/cordon/plugins/guest"

var _ = guest.Serve(configure)

// main is never run: the host calls the module's exports.
func main() {}

// device is one that may connect, and what it has to know.
type device struct {
	subject guest.Subject
	secret  []byte
}

// configure reads the list of devices.
func configure(config *guest.Config) (guest.Verify, error) {
	var devices []device
	for _, f := range config.Settings.List("devices") {
		d := device{
			subject: guest.Subject{Kind: guest.Device, Type: f.String("type"), ID: f.String("id")},
			secret:  config.Secrets[f.String("secret")],
		}
		if len(d.secret) < 16 {
			f.Fail("secret", "has to name a secret of at least 16 bytes")
		}
		devices = append(devices, d)
	}
	verify := func(r *guest.Request) guest.Answer { return find(devices, r.Token) }
	return verify, config.Settings.Err()
}

// find compares with every secret, so that its time says nothing of which one
// was near.
func find(devices []device, token []byte) guest.Answer {
	answer := guest.Refuse("no device has this token")
	for _, d := range devices {
		if guest.Equal(d.secret, token) {
			answer = guest.Accept(d.subject)
		}
	}
	return answer
}
