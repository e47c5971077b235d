package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/config"
)

func TestACME(t *testing.T) {
	t.Parallel()
	good := func(c *config.Config) {
		c.Domain, c.ACMEDirectory, c.ACMEEmail = "example.com", "https://acme.example.net/dir", "ops@example.com"
	}
	for _, tt := range []struct {
		name   string
		change func(*config.Config)
		want   string // in the error; empty: none
	}{
		{"the least", func(*config.Config) {}, ""},
		{"names", func(c *config.Config) {
			c.ACMEDomain = []string{"mqtt.example.com", "{org}.messaging.example.com"}
		}, ""},
		{"no directory", func(c *config.Config) { c.ACMEDirectory = "" }, "acme-email: needs acme-directory"},
		{"no TLS", func(c *config.Config) { c.ACMEDirectory = "http://acme.example.net/dir" }, "https URL"},
		{"credentials", func(c *config.Config) { c.ACMEDirectory = "https://me:secret@acme.example.net/dir" }, "without credentials"},
		{"no e-mail", func(c *config.Config) { c.ACMEEmail = "" }, "acme-email"},
		{"a name with it", func(c *config.Config) { c.ACMEEmail = "Ops <ops@example.com>" }, "acme-email"},
		{"a star", func(c *config.Config) { c.ACMEDomain = []string{"*.example.com"} }, "changes in DNS"},
		{"an address", func(c *config.Config) { c.ACMEDomain = []string{"192.0.2.1"} }, "not a DNS name"},
		{"localhost", func(c *config.Config) { c.Domain = "localhost" }, "nobody issues"},
		{"HTTP", func(c *config.Config) { c.ACMEHTTP, c.HTTPS, c.MQTTS, c.MQTT = ":80", config.Off, config.Off, ":1883" }, ""},
		{"HTTP off", func(c *config.Config) { c.ACMEHTTP = "off" }, "acme-http"},
		{"nothing to prove on", func(c *config.Config) { c.HTTPS, c.MQTTS, c.MQTT = config.Off, config.Off, ":1883" }, "to prove names"},
	} {
		c := config.Defaults()
		good(&c)
		tt.change(&c)
		err := c.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	c := config.Defaults()
	good(&c)
	if got := c.ACMENames([]string{"acme01"}); !slices.Equal(got, []string{"example.com"}) {
		t.Errorf("by default %q", got)
	}
	c.ACMEDomain = []string{"mqtt.example.com", "{org}.example.com"}
	if got := c.ACMENames([]string{"acme01", "rival1"}); !slices.Equal(got, []string{"mqtt.example.com", "acme01.example.com", "rival1.example.com"}) {
		t.Errorf("names %q", got)
	}
}
