package config

import (
	"strings"
	"testing"
)

func TestPolicySettings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		change       func(*Config)
		want         string // in the problem; empty: none
		url, archive bool
	}{
		{"built-in", func(*Config) {}, "", false, false},
		{"a folder", func(c *Config) { c.Policy = "my-policies" }, "", false, false},
		{"an archive", func(c *Config) { c.Policy, c.PolicyKey = "b/bundle.tar.gz", "key.pem" }, "", false, true},
		{"a URL", func(c *Config) { c.Policy, c.PolicyTokenFile = "https://a.example/bundle.tar.gz?s=sesame", "t" }, "", true, false},
		{"a URL without TLS", func(c *Config) { c.Policy = "http://a.example/sesame" }, "policy: a URL has to be https", true, false},
		{"a URL without a host", func(c *Config) { c.Policy = "https:///sesame" }, "policy: a URL has to be https", true, false},
		{"a URL with a password", func(c *Config) { c.Policy = "https://u:sesame@a.example/b" }, "policy: a URL holds no user name", true, false},
		{"a key for a folder", func(c *Config) { c.Policy, c.PolicyKey = "d", "k" }, "policy-key: ", false, false},
		{"a key for nothing", func(c *Config) { c.PolicyKey = "k" }, "policy-key: ", false, false},
		{"a token for an archive", func(c *Config) { c.Policy, c.PolicyTokenFile = "b.tar.gz", "t" }, "policy-token-file: ", false, true},
		{"no interval", func(c *Config) { c.PolicyInterval = 0 }, "policy-interval: 0", false, false},
		{"a long interval", func(c *Config) { c.PolicyInterval = 86401 }, "policy-interval: 86401", false, false},
	}
	for _, test := range tests {
		c := Defaults()
		test.change(&c)
		err := c.Validate()
		if (err == nil) != (test.want == "") || err != nil && (!strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "sesame")) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
		if c.PolicyIsURL() != test.url || c.PolicyIsArchive() != test.archive {
			t.Errorf("%s: URL %v, archive %v", test.name, c.PolicyIsURL(), c.PolicyIsArchive())
		}
	}
}
