package registry

import (
	"strings"

	"github.com/cordon-mq/cordon/policy"
)

// clientID is a client identifier of the forms
//
//	d:{org}:{type}:{id}   g:{org}:{type}:{id}
//	a:{org}:{app}         A:{org}:{app}         A:{org}:{app}:{instance}
type clientID struct {
	kind     policy.PrincipalKind
	org      policy.OrgID
	typ, id  policy.ID // device or gateway
	app      policy.ID // application
	instance policy.ID // of an application, may be empty
	unnamed  bool      // A:{org}:{app}, which any number of instances may use
}

// parseClientID reads s. The kind of the result is KindNobody when s is of
// another form altogether; with an error, s claims that kind and is ill-formed.
func parseClientID(s string) (clientID, error) {
	var c clientID
	class, rest, _ := strings.Cut(s, ":")
	switch class {
	case "d":
		c.kind = policy.KindDevice
	case "g":
		c.kind = policy.KindGateway
	case "a", "A":
		c.kind = policy.KindApplication
	}
	if c.kind == policy.KindNobody || len(s) == len(class) {
		return clientID{}, nil
	}
	parts := strings.Split(rest, ":")
	want := map[string]int{"d": 3, "g": 3, "a": 2, "A": 2}[class]
	if len(parts) != want && !(class == "A" && len(parts) == 3) {
		return c, invalid("client ID", "must be d:org:type:id, g:org:type:id, a:org:app or A:org:app:instance")
	}
	var err error
	if c.org, err = policy.ParseOrgID(parts[0]); err != nil {
		return c, err
	}
	var ids [2]policy.ID
	for i, part := range parts[1:] {
		if ids[i], err = policy.ParseID("client ID", part); err != nil {
			return c, err
		}
	}
	if c.kind == policy.KindApplication {
		c.app, c.instance = ids[0], ids[1]
		c.unnamed = class == "A" && c.instance == ""
	} else {
		c.typ, c.id = ids[0], ids[1]
	}
	return c, nil
}

// parseGatewayName reads the REST username of a gateway, g/{org}/{type}/{id}, or
// g-{org}-{type}-{id} for a type without a hyphen.
func parseGatewayName(s string) (org policy.OrgID, typ, id policy.ID, ok bool) {
	if len(s) < 2 || s[0] != 'g' || s[1] != '/' && s[1] != '-' {
		return org, "", "", false
	}
	parts := strings.SplitN(s, s[1:2], 4)
	if len(parts) != 4 {
		return org, "", "", false
	}
	org, orgErr := policy.ParseOrgID(parts[1])
	typ, typErr := policy.ParseID("type", parts[2])
	id, idErr := policy.ParseID("id", parts[3])
	return org, typ, id, orgErr == nil && typErr == nil && idErr == nil
}
