package config

import (
	"errors"
	"fmt"

	"github.com/cordon-mq/cordon/policy/audit"
)

// Bounds of what is kept of decisions: ten years, and a TiB.
const (
	maxRetention   = 10 * 366 * 24
	maxDecisionLog = 1 << 20
	maxSample      = 1_000_000
)

// validateDecisions judges where decisions are recorded. It never repeats a URL,
// whose query may be what authorises the request.
func (c Config) validateDecisions() []error {
	var problems []error
	if c.DecisionLogURL != "" {
		if err := audit.CheckURL(c.DecisionLogURL); err != nil {
			problems = append(problems, fmt.Errorf("decision-log-url: %w", err))
		}
	}
	if c.DecisionLogTokenFile != "" && c.DecisionLogURL == "" {
		problems = append(problems, errors.New("decision-log-token-file: only a URL needs a token"))
	}
	for _, limit := range []struct {
		name             string
		value, min, most int
	}{
		{"decision-log-retention", c.DecisionLogRetention, 1, maxRetention},
		{"decision-log-size", c.DecisionLogSize, 0, maxDecisionLog},
		{"decision-log-sample", c.DecisionLogSample, 0, maxSample},
	} {
		if limit.value < limit.min || limit.value > limit.most {
			problems = append(problems, fmt.Errorf("%s: %d is not between %d and %d", limit.name, limit.value, limit.min, limit.most))
		}
	}
	return problems
}
