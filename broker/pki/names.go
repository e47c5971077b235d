package pki

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Names says what the server certificate vouches for, besides localhost,
// 127.0.0.1 and ::1.
type Names struct {
	// Domain is the NAME in NAME, *.NAME and *.messaging.NAME; "" is localhost.
	// An IP address stands for itself alone.
	Domain string
	// Organisations add ORG.NAME and ORG.messaging.NAME each. One that is not a
	// DNS label is skipped. See maxOrganisations for very many.
	Organisations []string
	// Hosts are more host names or IP addresses, such as the machine's own name.
	// One that is neither is skipped.
	Hosts []string

	Log *slog.Logger // told of what is issued and why; nil discards
}

// maxOrganisations bounds the organisations with names of their own in the
// certificate. Small devices cannot take a large one: many TLS libraries for
// them stop at 16 KiB, and 100 organisations already make about 6 KiB.
//
// The first ones in alphabetical order are named, and all others are left to
// the wildcards *.NAME and *.messaging.NAME. These are as good if NAME has two
// labels or more. Under a single label, such as localhost, OpenSSL accepts
// *.messaging.NAME but not *.NAME, since it wants two dots after the star; Go
// accepts both.
const maxOrganisations = 100

// altNames are the subject alternative names of a certificate.
type altNames struct {
	dns     []string
	ips     []net.IP
	omitted int // organisations beyond maxOrganisations
}

// altNames returns what n stands for, in an order that depends only on the sets
// of organisations and hosts.
func (n Names) altNames() altNames {
	var out altNames
	out.add("localhost", "127.0.0.1", "::1", n.Domain)
	organisations := slices.DeleteFunc(sorted(n.Organisations), func(org string) bool { return !isLabel(org) })
	if len(organisations) > maxOrganisations {
		out.omitted = len(organisations) - maxOrganisations
		organisations = organisations[:maxOrganisations]
	}
	if _, err := netip.ParseAddr(n.Domain); err != nil {
		out.addDNS("*."+n.Domain, "*.messaging."+n.Domain)
		for _, org := range organisations {
			out.add(org+"."+n.Domain, org+".messaging."+n.Domain)
		}
	}
	out.add(sorted(n.Hosts)...)
	return out
}

// add appends those names that are host names or addresses.
func (a *altNames) add(names ...string) {
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			ip := net.IP(addr.Unmap().WithZone("").AsSlice())
			if !slices.ContainsFunc(a.ips, ip.Equal) {
				a.ips = append(a.ips, ip)
			}
		} else if isHostName(name) {
			a.addDNS(name)
		}
	}
}

// addDNS appends the names that are not too long and not there yet.
func (a *altNames) addDNS(names ...string) {
	for _, name := range names {
		if len(name) <= maxHostName && !slices.Contains(a.dns, name) {
			a.dns = append(a.dns, name)
		}
	}
}

func (a altNames) equal(dns []string, ips []net.IP) bool {
	return slices.Equal(a.dns, dns) && slices.EqualFunc(a.ips, ips, net.IP.Equal)
}

// sorted returns the canonical forms of names, each once.
func sorted(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, canonical(name))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// parseDomain returns the canonical form of a domain.
func parseDomain(s string) (string, error) {
	domain := canonical(s)
	if domain == "" {
		return "localhost", nil
	}
	if addr, err := netip.ParseAddr(domain); err == nil {
		return addr.Unmap().String(), nil
	}
	if !isHostName(domain) {
		return "", fmt.Errorf("domain %q: neither a DNS name (one outside ASCII is written xn--…) nor an IP address", s)
	}
	return domain, nil
}

const (
	maxHostName = 253 // bytes, as DNS has it
	maxLabel    = 63
)

func isHostName(s string) bool {
	if len(s) > maxHostName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !isLabel(label) {
			return false
		}
	}
	return true
}

// isLabel reports whether s is a label of a host name in lower case. DNS host
// names have no underscore, but container networks do, and clients accept it.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// IsHostName reports whether s is a DNS host name in lower case.
func IsHostName(s string) bool { return isHostName(s) }
