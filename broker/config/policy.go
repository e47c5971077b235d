package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxPolicyInterval is a day, in seconds.
const maxPolicyInterval = 24 * 60 * 60

// PolicyIsURL reports whether c's policy is fetched from a server.
func (c Config) PolicyIsURL() bool { return strings.Contains(c.Policy, "://") }

// PolicyIsArchive reports whether c's policy is a file and not a folder.
func (c Config) PolicyIsArchive() bool { return !c.PolicyIsURL() && IsArchive(c.Policy) }

// IsArchive reports whether path is called as an archive of policies is.
func IsArchive(path string) bool { return strings.HasSuffix(path, ".tar.gz") }

// validatePolicy judges where policies come from. It never repeats a URL, whose
// query may be what authorises the request.
func (c Config) validatePolicy() []error {
	var problems []error
	if c.PolicyIsURL() {
		u, err := url.Parse(c.Policy)
		switch {
		case err != nil || u.Scheme != "https" || u.Host == "":
			problems = append(problems, errors.New("policy: a URL has to be https://HOST/PATH"))
		case u.User != nil:
			problems = append(problems, errors.New("policy: a URL holds no user name or password; policy-token-file is for that"))
		}
	}
	if c.PolicyKey != "" && !c.PolicyIsURL() && !c.PolicyIsArchive() {
		problems = append(problems, errors.New("policy-key: only an archive or a URL is signed"))
	}
	if c.PolicyTokenFile != "" && !c.PolicyIsURL() {
		problems = append(problems, errors.New("policy-token-file: only a URL needs a token"))
	}
	if c.PolicyInterval < 1 || c.PolicyInterval > maxPolicyInterval {
		problems = append(problems, fmt.Errorf("policy-interval: %d is not between 1 and %d", c.PolicyInterval, maxPolicyInterval))
	}
	return problems
}
