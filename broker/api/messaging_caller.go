package api

import (
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// tokenUser is the username of devices and gateways, as over MQTT.
const tokenUser = "use-token-auth"

// enter lets in who sends r, if it is one that path is for.
func (a *API) enter(r *http.Request, path *messagePath) (Messenger, error) {
	c, err := a.credentialOf(r, path)
	if err != nil {
		a.logMessaging(r, nil, policy.CauseUnknown, err.Error())
		return nil, &policy.Error{Kind: policy.KindUnauthenticated, Public: policy.CauseUnknown.Public()}
	}
	m, err := a.messaging.Enter(r.Context(), c, hostOf(r))
	if err != nil {
		return nil, err
	}
	if detail := path.foreignTo(m.Principal()); detail != "" {
		a.logMessaging(r, m.Principal(), policy.CauseTopic, detail)
		m.Leave()
		return nil, &policy.Error{Kind: policy.KindForbidden, Public: detail}
	}
	return m, nil
}

// foreignTo says why a path is not who's; empty: it is.
func (p *messagePath) foreignTo(who *policy.Principal) string {
	switch {
	case p.application && who.Kind != policy.KindApplication:
		return "this path is for applications"
	case p.application:
		return ""
	case who.Kind == policy.KindDevice && (p.typeID != string(who.Type) || p.devID != string(who.ID)):
		return "the path names another device"
	case who.Kind != policy.KindDevice && who.Kind != policy.KindGateway:
		return "this path is for devices and gateways"
	default:
		return ""
	}
}

// credentialOf makes of what r shows what a CONNECT would have: a client ID, a
// username and a password.
//
// "use-token-auth" is the device that the path names, of the organisation that
// the host names: this is the only place where a host chooses whose tokens are
// consulted, and the token has to hold there. d/ORG/TYPE/ID says the same where
// no host can, and g/ORG/TYPE/ID is a gateway; an API key says its organisation
// itself. What is none of these the policy's verifiers may know.
func (a *API) credentialOf(r *http.Request, path *messagePath) (*plugins.Credential, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return &plugins.Credential{Client: *clientOf(r, "")}, nil
	}
	if len(headers) > 1 {
		return nil, errCredential("more than one Authorization header")
	}
	if token, ok := bearer(r); ok {
		names := r.Header.Values(pluginHeader)
		switch {
		case len(names) > 1 || len(names) == 1 && len(names[0]) > nameMost:
			return nil, errCredential("no name of a plugin")
		case len(names) == 1 && names[0] != "":
			return credential(r, "", pluginUser+names[0], token), nil
		}
		return credential(r, "", "", token), nil
	}
	username, password, ok := r.BasicAuth()
	if !ok {
		return nil, errCredential("neither Basic nor Bearer")
	}
	if username == tokenUser {
		org, ok := policy.OrgOfHost(hostOf(r), a.domain)
		if !ok || path.application {
			return nil, errCredential("the host names no organisation whose devices these could be")
		}
		return credential(r, "d:"+org.String()+":"+path.typeID+":"+path.devID, username, password), nil
	}
	if id, key := clientNamed(username); id != "" {
		return credential(r, id, key, password), nil
	}
	return credential(r, "", username, password), nil
}

// errCredential is what is wrong with the form of a credential, for the log.
type errCredential string

func (e errCredential) Error() string { return string(e) }

func credential(r *http.Request, id, username, password string) *plugins.Credential {
	client := clientOf(r, username)
	client.ID = policy.ClientID(id)
	return &plugins.Credential{Client: *client, Password: plugins.NewSecret([]byte(password)), HasPassword: true}
}

// clientNamed is the client ID that a username names, and the username that goes
// with it over MQTT: d/ORG/TYPE/ID, g/ORG/TYPE/ID, also with hyphens, and an API
// key, which is an application of its own name. Empty: it names none.
func clientNamed(username string) (id, user string) {
	if len(username) < 2 || len(username) > 256 {
		return "", ""
	}
	class, separator := username[:1], username[1:2]
	if separator != "/" && separator != "-" {
		return "", ""
	}
	parts := strings.SplitN(username, separator, 4)
	if class == "a" {
		if len(parts) != 3 {
			return "", ""
		}
		key := strings.Join(parts, "-")
		_, orgErr := policy.ParseOrgID(parts[1])
		if _, err := policy.ParseID("", key); err != nil || orgErr != nil {
			return "", ""
		}
		return "a:" + parts[1] + ":" + key, key
	}
	if class != "d" && class != "g" || len(parts) != 4 || parts[0] != class {
		return "", ""
	}
	_, orgErr := policy.ParseOrgID(parts[1])
	_, typErr := policy.ParseID("", parts[2])
	_, idErr := policy.ParseID("", parts[3])
	if orgErr != nil || typErr != nil || idErr != nil {
		return "", ""
	}
	return class + ":" + parts[1] + ":" + parts[2] + ":" + parts[3], tokenUser
}

// hostOf is the host that was asked for, without its port.
func hostOf(r *http.Request) string {
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		return name
	}
	return r.Host
}

// logMessaging logs a refusal that the broker does not see; who is nil where
// nobody was verified.
func (a *API) logMessaging(r *http.Request, who *policy.Principal, cause policy.Cause, detail string) {
	org, client := "", ""
	if who != nil {
		org, client = who.Org.String(), publicName(who)
	}
	a.log.LogAttrs(r.Context(), slog.LevelWarn, "refused",
		slog.String("action", policy.ActionConnect.String()),
		slog.String("org", org),
		slog.String("client", client),
		slog.String("topic", ""),
		slog.String("reason", string(cause)),
		slog.String("decision", ""),
		slog.String("cause", string(cause)),
		slog.String("method", r.Method),
		slog.String("address", addressOf(r).String()),
		slog.String("detail", detail),
	)
}
