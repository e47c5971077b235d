package certificate

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/policy"
)

// maxNames is how many names of a certificate are looked at.
const maxNames = 32

// identity is who somebody is inside an organisation.
type identity struct {
	kind    policy.PrincipalKind
	typ, id policy.ID // device or gateway; an empty id in a certificate is any
	app     policy.ID // application
}

// stands reports whether a certificate with the name n is one of who.
func (n identity) stands(who identity) bool {
	return n == who || n.kind != policy.KindApplication && n.kind == who.kind && n.typ == who.typ && n.id == ""
}

// parseName reads d:{type}:{id}, g:{type}:{id} or a:{app}; the id may be empty.
func parseName(s string) (identity, bool) {
	parts := strings.Split(s, ":")
	switch {
	case len(parts) == 3 && (parts[0] == "d" || parts[0] == "g"):
		n := identity{kind: policy.KindDevice, typ: policy.ID(parts[1]), id: policy.ID(parts[2])}
		if parts[0] == "g" {
			n.kind = policy.KindGateway
		}
		return n, isID(parts[1]) && (parts[2] == "" || isID(parts[2]))
	case len(parts) == 2 && parts[0] == "a":
		return identity{kind: policy.KindApplication, app: policy.ID(parts[1])}, isID(parts[1])
	default:
		return identity{}, false
	}
}

func isID(s string) bool {
	_, err := policy.ParseID("name", s)
	return err == nil
}

// namesOf are the identities that a certificate stands for.
func namesOf(c *x509.Certificate) (names []identity) {
	written := append([]string{c.Subject.CommonName}, c.EmailAddresses...)
	for _, s := range written[:min(len(written), maxNames)] {
		if n, ok := parseName(s); ok && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}

// claim is what a client identifier says.
type claim struct {
	org policy.OrgID
	identity
	unnamed bool // A:{org}:{app}, which any number of instances may use
}

// parseClientID reads d:{org}:{type}:{id}, g:…, a:{org}:{app} and
// A:{org}:{app}[:{instance}]. It is not mine when s does not name an organisation in
// one of these ways; with an error, s does and is ill-formed all the same.
func parseClientID(s string) (c claim, mine bool, err error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts[0]) != 1 || !strings.Contains("dgaA", parts[0]) {
		return claim{}, false, nil
	}
	org, unnamed := policy.ParseOrgID(parts[1])
	if c.org = org; unnamed != nil {
		return claim{}, false, nil //nolint:nilerr // it names nobody's organisation, which is no mistake
	}
	class, rest := parts[0], parts[2:]
	if class == "A" && (len(rest) == 1 || len(rest) == 2 && isID(rest[1])) {
		c.unnamed = len(rest) == 1
		class, rest = "a", rest[:1]
	}
	who, ok := parseName(class + ":" + strings.Join(rest, ":"))
	if !ok || who.kind != policy.KindApplication && who.id == "" {
		return c, true, errors.New("must be d:org:type:id, g:org:type:id, a:org:app or A:org:app:instance")
	}
	c.identity = who
	return c, true, nil
}
