package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// domainMax leaves room for a 20-character organisation and ".messaging." in
// the 253 characters of a DNS name.
const domainMax = 222

// limitMax is above what one machine can do.
const limitMax = 10_000_000

// Validate reports every problem of c in one error, one line each, starting
// with the name of the setting. It opens nothing.
func (c Config) Validate() error {
	var problems []error
	report := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf(name+": "+format, args...))
	}

	if c.Data == "" {
		report("data", "names no folder")
	}
	if !validDomain(c.Domain) {
		report("domain", "%q is not a DNS name in lower case of at most %d characters", c.Domain, domainMax)
	}
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		report("tls-key", "missing beside tls-cert")
	case c.TLSCert == "" && c.TLSKey != "":
		report("tls-cert", "missing beside tls-key")
	}
	problems = append(problems, c.validateACME()...)
	problems = append(problems, c.validateListeners()...)
	problems = append(problems, c.validatePolicy()...)
	problems = append(problems, c.validateDecisions()...)
	for _, origin := range c.WSOrigin {
		if !validOrigin(origin) {
			report("ws-origin", "%q is neither HOST, http://HOST, https://HOST nor *", origin)
		}
	}
	for _, network := range c.ProxyProtocol {
		if _, ok := parseNetwork(network); !ok {
			report("proxy-protocol", "%q is neither a network (192.0.2.0/24) nor an address", network)
		}
	}
	for _, limit := range []struct {
		name       string
		value, min int
	}{
		{"max-connections", c.MaxConnections, 0},
		{"max-pending", c.MaxPending, 1},
		{"max-pending-per-address", c.MaxPendingPerAddress, 1},
		{"connect-rate-per-address", c.ConnectRate, 1},
		{"rest-rate", c.RESTRate, 1},
		{"min-free-space", c.MinFreeSpace, 0},
		{"max-buffer", c.MaxBuffer, 16},
		{"policy-keep", c.PolicyKeep, 1},
	} {
		if limit.value < limit.min || limit.value > limitMax {
			report(limit.name, "%d is not between %d and %d", limit.value, limit.min, limitMax)
		}
	}
	if !slices.Contains([]string{"process", "power"}, c.Durability) {
		report("durability", "%q is neither process nor power", c.Durability)
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		report("log-format", "%q is neither text nor json", c.LogFormat)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		report("log-level", "%q is not one of debug, info, warn, error", c.LogLevel)
	}
	if c.DemoReset && !c.Demo {
		report("demo-reset", "needs demo")
	}
	return errors.Join(problems...)
}

// validateListeners judges the three addresses alone and beside each other.
func (c Config) validateListeners() []error {
	var problems []error
	open := map[address]string{}
	allOff := true
	for _, l := range []struct{ name, value string }{{"mqtts", c.MQTTS}, {"https", c.HTTPS}, {"mqtt", c.MQTT}} {
		a, err := parseAddress(l.value)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", l.name, err))
			allOff = false
			continue
		}
		if a.off {
			continue
		}
		allOff = false
		if c.Demo && !a.loopback() {
			problems = append(problems, fmt.Errorf("%s: %q is not a loopback address, and demo listens on no other", l.name, l.value))
		}
		if other, taken := open[a]; taken && a.port != 0 {
			problems = append(problems, fmt.Errorf("%s: %q is the address of %s", l.name, l.value, other))
		}
		open[a] = l.name
	}
	if allOff {
		problems = append(problems, errors.New("mqtts, https, mqtt: all are off, so nothing would listen"))
	}
	return problems
}

// address is a listener's address once parsed.
type address struct {
	off  bool
	host string // empty: every address of the machine
	port uint16 // 0: a free one
}

// parseAddress reads "off", ":PORT" or "HOST:PORT" with a numeric port.
func parseAddress(s string) (address, error) {
	if s == Off {
		return address{off: true}, nil
	}
	host, digits, err := net.SplitHostPort(s)
	if err != nil {
		return address{}, fmt.Errorf("%q is neither HOST:PORT, :PORT nor off", s)
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return address{}, fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !validHost(strings.ToLower(host)) {
		return address{}, fmt.Errorf("%q has a host that is neither an IP address nor a name", s)
	}
	return address{host: host, port: uint16(port)}, nil
}

// loopback says whether nobody outside this machine can reach a. An empty host
// counts, because with Demo it becomes 127.0.0.1. A name other than localhost
// does not, since whoever runs its DNS decides where it points.
func (a address) loopback() bool {
	if a.host == "" || a.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.host)
	return err == nil && ip.IsLoopback()
}

// parseNetwork reads a network or a single address. IPv4 has to be written as
// such: peers are compared in that form.
func parseNetwork(s string) (netip.Prefix, bool) {
	network, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		network = netip.PrefixFrom(a, a.BitLen())
	}
	return network.Masked(), !network.Addr().Is4In6()
}

// validOrigin accepts *, or a host with an optional port and scheme, in which a
// * stands for anything.
func validOrigin(s string) bool {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "*" {
			return false
		}
		host = name
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Is4() // an IPv6 address in brackets would be read as a pattern
	}
	return validHost(strings.ToLower(strings.ReplaceAll(host, "*", "x")))
}

func validDomain(s string) bool {
	_, err := netip.ParseAddr(s)
	return err != nil && len(s) <= domainMax && validHost(s)
}

// validHost reports whether s is labels of letters, digits and inner hyphens,
// at most 63 characters each and 253 in all, in lower case.
func validHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			b := label[i]
			if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' {
				return false
			}
		}
	}
	return true
}
