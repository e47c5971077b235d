package config

import (
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"strings"
)

// OrgPlaceholder stands for every organisation in a name of ACMEDomain.
const OrgPlaceholder = "{org}"

// ACMENames are the names of a valid c to get certificates for, for these
// organisations, as they are called.
func (c Config) ACMENames(organisations []string) []string {
	if len(c.ACMEDomain) == 0 {
		return []string{c.Domain}
	}
	var names []string
	for _, name := range c.ACMEDomain {
		if !strings.Contains(name, OrgPlaceholder) {
			names = append(names, name)
			continue
		}
		for _, org := range organisations {
			names = append(names, strings.ReplaceAll(name, OrgPlaceholder, org))
		}
	}
	return names
}

func (c Config) validateACME() []error {
	var problems []error
	report := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf(name+": "+format, args...))
	}
	if c.ACMEDirectory == "" {
		for _, other := range []struct {
			name  string
			given bool
		}{{"acme-email", c.ACMEEmail != ""}, {"acme-domain", len(c.ACMEDomain) > 0}, {"acme-ca", c.ACMECA != ""}, {"acme-http", c.ACMEHTTP != ""}} {
			if other.given {
				report(other.name, "needs acme-directory")
			}
		}
		return problems
	}
	if u, err := url.Parse(c.ACMEDirectory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		report("acme-directory", "must be an https URL without credentials")
	}
	if a, err := mail.ParseAddress(c.ACMEEmail); err != nil || a.Address != c.ACMEEmail {
		report("acme-email", "%q is not an e-mail address", c.ACMEEmail)
	}
	for _, name := range c.ACMEDomain {
		switch {
		case strings.Contains(name, "*"):
			report("acme-domain", "%q has a star, which takes changes in DNS; name each host, or write %s for every organisation", name, OrgPlaceholder)
		case !validDomain(strings.ReplaceAll(name, OrgPlaceholder, "x")):
			report("acme-domain", "%q is not a DNS name in lower case", name)
		}
	}
	if len(c.ACMEDomain) == 0 && (c.Domain == "localhost" || strings.HasSuffix(c.Domain, ".localhost")) {
		report("acme-domain", "missing, and nobody issues certificates for the domain %q", c.Domain)
	}
	switch a, err := parseAddress(c.ACMEHTTP); {
	case c.ACMEHTTP != "" && (err != nil || a.off || a.port == 0):
		report("acme-http", "%q is not HOST:PORT", c.ACMEHTTP)
	case c.ACMEHTTP == "" && c.HTTPS == Off && c.MQTTS == Off:
		problems = append(problems, errors.New("acme-directory: needs https or mqtts, or acme-http, to prove names"))
	}
	return problems
}
