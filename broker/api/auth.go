package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"strings"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// realm is what a browser or tool shows when it asks for a credential.
const realm = `Basic realm="Cordon", charset="UTF-8"`

// door is the gate of /api/v0002: credential, body, credential again, policy.
type door struct{ api *API }

var _ gate = (*door)(nil)

// admit lets r through or says why not.
func (d *door) admit(w http.ResponseWriter, r *http.Request, op *operation) (*call, error) {
	ctx := r.Context()
	failures, address := d.api.failures, addressOf(r)
	if failures != nil && !failures.Allowed(address) {
		d.log(r, op, refusal{cause: policy.CauseLimit, detail: "too many wrong credentials from this address"})
		return nil, &policy.Error{Kind: policy.KindLimit, Public: "too many wrong credentials; try again later"}
	}
	p, username, err := d.verify(r)
	if err != nil {
		if failures != nil && d.presents(r) && errors.Is(err, plugins.ErrBad) {
			failures.Record(address)
		}
		return nil, d.refuseCredential(r, op, err)
	}
	if d.strangeHost(r, p.Org) {
		d.log(r, op, refusal{principal: &p, cause: policy.CauseMismatch})
		return nil, &policy.Error{Kind: policy.KindForbidden, Public: policy.CauseMismatch.Public()}
	}
	if ok, tell := d.api.rates.take(p.Org, d.api.now()); !ok {
		d.tooMany(r, op, &p, tell)
		return nil, &policy.Error{Kind: policy.KindLimit, Public: "too many calls of this organisation; try again later"}
	}
	var body []byte
	packed := false
	if op.body {
		if body, packed, err = readBodyOf(w, r, op, d.api); err != nil {
			return nil, err
		}
		// A body takes as long as its sender likes; the credential may be gone.
		if p, err = d.stands(d.api.registry.Refresh(ctx, &p)); err != nil {
			return nil, d.refuseCredential(r, op, err)
		}
	}
	denied, groups, err := d.judge(r, op, &p, username, body)
	if err != nil {
		return nil, err
	}
	return &call{
		org: p.Org, caller: publicName(&p), params: r.PathValue, query: d.api.query(op, r.URL), body: body, packed: packed, denied: denied, groups: groups,
		still: d.still(r, op, p, username, body),
	}, nil
}

// tooMany counts a call beyond the rate of its organisation, and logs some of them.
func (d *door) tooMany(r *http.Request, op *operation, p *policy.Principal, tell bool) {
	if !tell {
		d.api.refusals.count(surfaceOrganisation, policy.CauseLimit)
		return
	}
	d.log(r, op, refusal{principal: p, cause: policy.CauseLimit, detail: "too many calls of the organisation"})
}

// still looks again at who was admitted: at the credential, and where that or the
// policy is another one, at what the policy says.
func (d *door) still(r *http.Request, op *operation, p policy.Principal, username string, body []byte) func(context.Context) error {
	generation := func() policy.Generation { return d.api.decider.Judge(&policy.Facts{Principal: &p}).Generation() }
	judged := generation()
	return func(ctx context.Context) error {
		now, err := d.stands(d.api.registry.Refresh(ctx, &p))
		if err != nil {
			return d.refuseCredential(r, op, err)
		}
		live := generation()
		if live == judged && reflect.DeepEqual(now, p) {
			return nil
		}
		if _, _, err := d.judge(r, op, &now, username, body); err != nil {
			return err
		}
		p, judged = now, live
		return nil
	}
}

func (d *door) done(*http.Request, *operation, *call, int) {}

// verify checks the credential of r, and says what the policy is told of who
// presents it.
func (d *door) verify(r *http.Request) (policy.Principal, string, error) {
	if token, ok := bearer(r); ok && d.api.bearers != nil {
		return d.verifyBearer(r, token)
	}
	username, password, ok := r.BasicAuth()
	if !ok || len(r.Header.Values("Authorization")) != 1 {
		return policy.Principal{}, "", &plugins.Refusal{Cause: policy.CauseUnknown}
	}
	p, err := d.stands(d.api.registry.VerifyBasic(r.Context(), username, plugins.NewSecret([]byte(password))))
	return p, username, err
}

// stands refuses what no verifier should have returned, too.
func (d *door) stands(p policy.Principal, err error) (policy.Principal, error) {
	switch {
	case err != nil:
		return policy.Principal{}, err
	case p.Org.IsZero() || p.Kind == policy.KindNobody || p.Kind == policy.KindSystem:
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseUnavailable, Err: errors.New("the registry answered without a principal")}
	case p.Expired(d.api.now()):
		return policy.Principal{}, &plugins.Refusal{Cause: policy.CauseExpired}
	default:
		return p, nil
	}
}

// refuseCredential logs why and tells the caller nothing: whoever guesses learns
// the same from a wrong token, an unknown key and a suspended organisation.
func (d *door) refuseCredential(r *http.Request, op *operation, err error) error {
	cause := plugins.CauseOf(err)
	d.log(r, op, refusal{cause: cause, detail: err.Error()})
	if cause == policy.CauseUnavailable {
		return &policy.Error{Kind: policy.KindUnavailable, Public: cause.Public()}
	}
	return &fault{
		status:  http.StatusUnauthorized,
		message: policy.CauseUnknown.Public(),
		header:  http.Header{"Www-Authenticate": d.challenges()},
	}
}

// judge asks the policy: once, or in a bulk call once for each device type. The
// types that it denies come back; where it denies all, that is the error. Groups are
// those whose devices the call is about, nil for all.
func (d *door) judge(r *http.Request, op *operation, p *policy.Principal, username string, body []byte) (denied map[policy.ID]error, groups []string, err error) {
	ctx := r.Context()
	org, err := d.api.registry.OrganisationFacts(ctx, p.Org)
	if err != nil && policy.KindOf(err) == policy.KindNotFound {
		return nil, nil, d.refuseCredential(r, op, &plugins.Refusal{Cause: policy.CauseRevoked}) // deleted just now
	}
	if err != nil {
		return nil, nil, fmt.Errorf("facts of the organisation: %w", err)
	}
	request := policy.Request{
		Action: policy.ActionAdminister,
		Time:   d.api.now(),
		Method: op.method,
		Route:  op.path,
		Target: map[string]string{},
	}
	for _, name := range parameters(op.path) {
		request.Target[name] = r.PathValue(name)
	}
	if request.Device, err = d.judgedDevice(ctx, p.Org, request.Target); err != nil {
		return nil, nil, fmt.Errorf("facts of the device: %w", err)
	}
	if err := d.given(ctx, op, &target{org: p.Org, params: r.PathValue, body: body}, request.Target); err != nil {
		return nil, nil, err
	}
	facts := &policy.Facts{Principal: p, Org: org, Client: clientOf(r, username)}
	judge := d.api.decider.Judge(facts)
	var types []policy.ID
	if op.types != nil {
		if types, err = op.types(&target{org: p.Org, params: r.PathValue, body: body}); err != nil {
			return nil, nil, err
		}
	}
	if len(types) == 0 {
		groups, err = d.decide(r, op, judge, p, &request)
		return nil, groups, err
	}
	denied = map[policy.ID]error{}
	for _, typ := range types {
		request.Target = map[string]string{"typeId": string(typ)}
		within, err := d.decide(r, op, judge, p, &request)
		if err != nil {
			denied[typ] = err
			continue
		}
		groups = narrower(groups, within)
	}
	if len(denied) == len(types) {
		return nil, nil, denied[types[0]]
	}
	return denied, groups, nil
}

// given says what the call would give somebody, or let the caller take: roles, and
// what those of them permit that the organisation made itself.
func (d *door) given(ctx context.Context, op *operation, t *target, into map[string]string) error {
	if op.roles == nil && op.permissions == nil {
		return nil
	}
	var roles, permissions []string
	var err error
	if op.roles != nil {
		if roles, err = op.roles(ctx, t); err != nil {
			return err
		}
		into["roles"] = strings.Join(roles, ",")
		permissions, err = d.api.registry.RolePermissions(ctx, t.org, roles)
	} else {
		permissions, err = op.permissions(ctx, t)
	}
	if len(permissions) > 0 {
		into["permissions"] = strings.Join(permissions, ",")
	}
	return err
}

// decide asks one question. An absent decision denies, and what is hidden is answered
// here as what is not there: see hiddenAs.
func (d *door) decide(r *http.Request, op *operation, judge policy.Judge, p *policy.Principal, request *policy.Request) (groups []string, err error) {
	decision := judge.Decide(r.Context(), request)
	if decision == nil {
		decision = &policy.Decision{Cause: policy.CauseError}
	}
	if decision.Allow {
		return decision.Groups, nil
	}
	d.log(r, op, refusal{
		principal: p, cause: decision.Cause, decision: decision.ID,
		words: decision.Reason, detail: decision.Detail,
	})
	if decision.OnDeny == policy.Hide {
		return nil, hiddenAs(op)
	}
	return nil, &policy.Error{Kind: policy.KindForbidden, Public: decision.PublicReason()}
}

// refusal is what the log says of one.
type refusal struct {
	principal *policy.Principal // nil: nobody was verified
	cause     policy.Cause
	decision  string
	words     string // the policy's own
	detail    string
}

func (d *door) log(r *http.Request, op *operation, why refusal) {
	d.api.refusals.count(surfaceOrganisation, why.cause)
	org, client := "", guessedKey(r)
	if why.principal != nil {
		org, client = why.principal.Org.String(), publicName(why.principal)
	}
	d.api.log.LogAttrs(r.Context(), slog.LevelWarn, "refused",
		slog.String("action", policy.ActionAdminister.String()),
		slog.String("org", org),
		slog.String("client", client),
		slog.String("topic", ""),
		slog.String("reason", string(why.cause)),
		slog.String("decision", why.decision),
		slog.String("route", op.path),
		slog.String("method", op.method),
		slog.String("address", addressOf(r).String()),
		slog.String("words", why.words),
		slog.String("detail", why.detail),
	)
}

// publicName is what the caller is called in logs and records.
func publicName(p *policy.Principal) string {
	switch p.Kind {
	case policy.KindApplication:
		if p.APIKey == "" { // a plugin's
			return p.Verifier + "/" + string(p.App)
		}
		return p.APIKey
	case policy.KindUser:
		return string(p.ID) + "@" + p.Org.String()
	case policy.KindGateway:
		return "g:" + p.Org.String() + ":" + string(p.Type) + ":" + string(p.ID)
	case policy.KindDevice:
		return "d:" + p.Org.String() + ":" + string(p.Type) + ":" + string(p.ID)
	default:
		return ""
	}
}

// guessedKey is the username of a caller who was not verified, if it has the
// form of an API key. Anything else may be a token in the wrong place.
func guessedKey(r *http.Request) string {
	username, _, _ := r.BasicAuth()
	parts := strings.Split(username, "-")
	if len(parts) != 3 || parts[0] != "a" || len(parts[2]) != 10 {
		return ""
	}
	if _, err := policy.ParseOrgID(parts[1]); err != nil {
		return ""
	}
	if strings.Trim(parts[2], "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return ""
	}
	return username
}

// strangeHost reports whether the host name or the TLS server name is one of
// another organisation.
func (d *door) strangeHost(r *http.Request, org policy.OrgID) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	names := []string{host}
	if r.TLS != nil {
		names = append(names, r.TLS.ServerName)
	}
	for _, name := range names {
		named, ok := policy.OrgOfHost(name, d.api.domain)
		if !ok || named == org {
			continue
		}
		if _, err := d.api.registry.OrganisationFacts(r.Context(), named); policy.KindOf(err) != policy.KindNotFound {
			return true
		}
	}
	return false
}

// clientOf is what policies may know of the connection.
func clientOf(r *http.Request, username string) *policy.Client {
	return &policy.Client{Username: username, Listener: "https", Address: addressOf(r), TLS: policy.DescribeTLS(r.TLS)}
}

func addressOf(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Credentials verifies callers by Basic, and looks at all of them again.
type Credentials interface {
	// VerifyBasic checks an API key and its token or a user and the password. Its
	// error is one of the sentinels of package plugins.
	VerifyBasic(ctx context.Context, username string, password plugins.Secret) (policy.Principal, error)
	// Refresh returns p as it is now, or an error if it no longer stands.
	Refresh(ctx context.Context, p *policy.Principal) (policy.Principal, error)
	// OrganisationFacts are what policies may know of an organisation.
	OrganisationFacts(ctx context.Context, org policy.OrgID) (*policy.Organisation, error)
}
