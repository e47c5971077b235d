package config

import (
	"strings"
	"testing"
)

func TestValidateDecisions(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string // of the error; empty: none
	}{
		"defaults":     {func(*Config) {}, ""},
		"a server":     {func(c *Config) { c.DecisionLogURL, c.DecisionLogTokenFile = "https://logs.example.com/opa", "token" }, ""},
		"loopback":     {func(c *Config) { c.DecisionLogURL = "http://127.0.0.1:8080" }, ""},
		"in the clear": {func(c *Config) { c.DecisionLogURL = "http://logs.example.com/?key=canary" }, "decision-log-url: has to be https://"},
		"a password":   {func(c *Config) { c.DecisionLogURL = "https://canary:canary@logs.example.com" }, "decision-log-url: has to be https://"},
		"a token":      {func(c *Config) { c.DecisionLogTokenFile = "token" }, "decision-log-token-file: only a URL"},
		"no time":      {func(c *Config) { c.DecisionLogRetention = 0 }, "decision-log-retention: 0 is not between 1 and"},
		"not kept":     {func(c *Config) { c.DecisionLogSize = 0 }, ""},
		"no permits":   {func(c *Config) { c.DecisionLogSample = 0 }, ""},
		"below zero":   {func(c *Config) { c.DecisionLogSample = -1 }, "decision-log-sample: -1"},
	} {
		c := Defaults()
		tt.change(&c)
		err := c.Validate()
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("%s: %v", name, err)
		case err != nil && strings.Contains(err.Error(), "canary"):
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
}
