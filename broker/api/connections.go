package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// ConnectionPolicy is what the organisation demands of its clients' connections.
type ConnectionPolicy struct {
	Level        string            `json:"level" enum:"tls_optional,tls_token,tls_certificate,tls_token_and_certificate,tls_certificate_or_token" doc:"Of every client that types does not name."`
	Chosen       bool              `json:"chosen" doc:"False where the organisation has never chosen a level."`
	Types        map[string]string `json:"types" doc:"Levels of device types that have one of their own."`
	Registration bool              `json:"certificateRegistration" doc:"A device of an existing type is registered when it first connects with a certificate."`
}

// ConnectionPolicyPatch is what is to change of it.
type ConnectionPolicyPatch struct {
	Level        *string           `json:"level,omitempty" nullable:"true" doc:"tls_optional, tls_token, tls_certificate, tls_token_and_certificate or tls_certificate_or_token."`
	Types        map[string]string `json:"types,omitempty" nullable:"true" doc:"All levels of device types, at most 100; they take the place of those before."`
	Registration *bool             `json:"certificateRegistration,omitempty" nullable:"true"`
}

func showConnectionPolicy(o *registry.Organisation, effective string) ConnectionPolicy {
	shown := ConnectionPolicy{
		Level: o.ConnectionLevel, Chosen: o.ConnectionLevel != "", Types: map[string]string{}, Registration: o.Connections.CertificateRegistration,
	}
	if !shown.Chosen {
		shown.Level = effective
	}
	if shown.Level == registry.LevelTLS {
		shown.Level = registry.LevelEither
	}
	for typ, level := range o.Connections.Levels {
		shown.Types[string(typ)] = level
	}
	return shown
}

func (p *ConnectionPolicyPatch) apply(o *registry.Organisation) error {
	if p.Level != nil && (*p.Level == "" || *p.Level == registry.LevelTLS) {
		return invalid("level", "must be one that can be chosen")
	}
	keep(&o.ConnectionLevel, p.Level)
	keep(&o.Connections.CertificateRegistration, p.Registration)
	if p.Types == nil {
		return nil
	}
	o.Connections.Levels = make(map[policy.ID]string, len(p.Types))
	for typ, level := range p.Types {
		o.Connections.Levels[policy.ID(typ)] = level
	}
	return nil
}

// AddressPolicy is the list of addresses that connections may come from, or may not.
type AddressPolicy struct {
	Mode    string   `json:"mode" enum:"off,allow,deny" doc:"allow: from these alone; deny: from any others."`
	Entries []string `json:"entries" nullable:"false" doc:"At most 100 of IPv4 or IPv6: 192.0.2.7, 192.0.2.0/24, 192.0.2.7-192.0.2.9."`
}

func showAddressPolicy(l *registry.AddressList) AddressPolicy {
	if l.IsZero() {
		return AddressPolicy{"off", []string{}}
	}
	return AddressPolicy{l.Mode, l.Entries()}
}

// ListStatus says which lists are in use.
type ListStatus struct {
	Allow bool `json:"whitelistActive"`
	Deny  bool `json:"blacklistActive"`
}

// ViolationReport is which clients were refused for how they connected.
type ViolationReport struct {
	Violations []ViolationObject `json:"violations" nullable:"false" doc:"How many of each kind there were."`
	Clients    []ViolatorObject  `json:"clients" nullable:"false" doc:"The last 100 clients, the latest first."`
}

// ViolationObject counts violations of one kind.
type ViolationObject struct {
	Violation string    `json:"violation" doc:"connection_level or address, unless the policy is another one."`
	Count     uint64    `json:"count"`
	First     timestamp `json:"first"`
	Last      timestamp `json:"last"`
}

// ViolatorObject is a client that was verified and refused all the same.
type ViolatorObject struct {
	ClientID  string    `json:"clientId"`
	TypeID    string    `json:"typeId,omitempty"`
	DeviceID  string    `json:"deviceId,omitempty"`
	Violation string    `json:"violation"`
	Reason    string    `json:"reason"`
	Address   string    `json:"address" doc:"Of the last time."`
	Listener  string    `json:"listener" doc:"Of the last time."`
	Count     uint64    `json:"count"`
	Last      timestamp `json:"last"`
}

const (
	connectionPath = "/riskmgmt/policies/connection"
	addressPath    = "/riskmgmt/policies/addresses"
	violationPath  = "/riskmgmt/violations"
)

func (a *API) connectionRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: connectionPath, id: "readConnectionPolicy", summary: "What connections have to bring",
		status: http.StatusOK,
	}, a.readConnectionPolicy)
	handle(s, operation{
		method: "PUT", path: connectionPath, id: "updateConnectionPolicy", summary: "Choose what connections have to bring; whoever does not bring it is disconnected",
		status: http.StatusOK, body: true,
	}, a.updateConnectionPolicy)
	handle(s, operation{
		method: "GET", path: addressPath, id: "readAddressPolicy", summary: "Addresses that connections may come from, or may not",
		status: http.StatusOK,
	}, a.readAddressPolicy)
	handle(s, operation{
		method: "PUT", path: addressPath, id: "replaceAddressPolicy", summary: "Choose where connections may come from; whoever is connected from elsewhere is disconnected",
		status: http.StatusOK, body: true,
	}, a.replaceAddressPolicy)
	handle(s, operation{
		method: "GET", path: "/riskmgmt/policies/lists/status", id: "readAddressListStatus", summary: "Which list of addresses is in use",
		status: http.StatusOK,
	}, a.readListStatus)
}

func (a *API) violationRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: violationPath, id: "readViolations", summary: "Clients that were refused for how they connected, of the last 30 days",
		status: http.StatusOK,
	}, a.readViolations)
}

func (a *API) shownConnectionPolicy(ctx context.Context, o *registry.Organisation) (ConnectionPolicy, error) {
	facts, err := a.registry.OrganisationFacts(ctx, o.ID)
	if err != nil {
		return ConnectionPolicy{}, err
	}
	return showConnectionPolicy(o, facts.ConnectionLevel), nil
}

func (a *API) readConnectionPolicy(ctx context.Context, c *call, _ *none) (ConnectionPolicy, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	if err != nil {
		return ConnectionPolicy{}, err
	}
	return a.shownConnectionPolicy(ctx, &o)
}

func (a *API) updateConnectionPolicy(ctx context.Context, c *call, in *ConnectionPolicyPatch) (ConnectionPolicy, error) {
	o, err := a.registry.UpdateOrganisation(ctx, c.org, in.apply)
	if err != nil {
		return ConnectionPolicy{}, err
	}
	return a.shownConnectionPolicy(ctx, &o)
}

func (a *API) readAddressPolicy(ctx context.Context, c *call, _ *none) (AddressPolicy, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	return showAddressPolicy(&o.Connections.Addresses), err
}

func (a *API) replaceAddressPolicy(ctx context.Context, c *call, in *AddressPolicy) (AddressPolicy, error) {
	mode := in.Mode
	switch mode {
	case "":
		return AddressPolicy{}, invalid("mode", "is required")
	case "off":
		mode = ""
	}
	list, err := registry.NewAddressList(mode, in.Entries)
	if err != nil {
		return AddressPolicy{}, err
	}
	o, err := a.registry.UpdateOrganisation(ctx, c.org, func(o *registry.Organisation) error {
		o.Connections.Addresses = list
		return nil
	})
	return showAddressPolicy(&o.Connections.Addresses), err
}

func (a *API) readListStatus(ctx context.Context, c *call, _ *none) (ListStatus, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	mode := o.Connections.Addresses.Mode
	return ListStatus{mode == registry.AddressesAllowed, mode == registry.AddressesDenied}, err
}

func (a *API) readViolations(ctx context.Context, c *call, _ *none) (ViolationReport, error) {
	t, err := a.tenant(ctx, c)
	if err != nil {
		return ViolationReport{}, err
	}
	found, err := a.ledger.Violations(t, a.now().Add(-ledger.LogKept))
	return showViolations(&found), err
}

func showViolations(found *ledger.Violations) ViolationReport {
	report := ViolationReport{Violations: []ViolationObject{}, Clients: []ViolatorObject{}}
	for _, v := range found.Kinds {
		report.Violations = append(report.Violations, ViolationObject{v.Kind, v.Count, stampOf(v.First), stampOf(v.Last)})
	}
	for i := range found.Clients {
		v := &found.Clients[i]
		report.Clients = append(report.Clients, ViolatorObject{
			ClientID: v.ClientID, TypeID: string(v.Device.Type), DeviceID: string(v.Device.ID), Violation: v.Kind, Reason: v.Reason,
			Address: v.Address, Listener: v.Listener, Count: v.Count, Last: stampOf(v.Last),
		})
	}
	return report
}

func stampOf(t time.Time) timestamp { return timestamp{t} }
