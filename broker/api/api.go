package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// minOperatorToken is the fewest bytes an operator token may have.
const minOperatorToken = 32

// Where the two surfaces lie.
const (
	v0002Prefix    = "/api/v0002"
	operatorPrefix = "/api/operator/v1"
)

// Config is what the interface needs to know.
type Config struct {
	Log     *slog.Logger     // nil: nothing is logged
	Now     func() time.Time // nil: time.Now
	MaxBody int64            // bytes of a request body; 0: 512 KiB
	Version string           // of the program, for the documents and the status
	// CallRate is how many REST calls a second each organisation may make; 0: unlimited.
	// Messages over HTTP count as messages instead.
	CallRate float64
	// Domain is what organisations' host names end in. Where it is set, a host
	// name ORG.Domain or ORG.messaging.Domain, or a TLS server name of that form,
	// has to agree with the credential. Empty: names are not looked at.
	Domain string
}

// Deps are the parts of the broker that the interface works on.
type Deps struct {
	Registry Registry
	Decider  policy.Decider
	// Verifiers check Bearer tokens; nil: there is no other way in than Basic.
	Verifiers Verifiers
	// OperatorToken opens /api/operator/v1 on the HTTPS listener. The zero Secret
	// leaves it shut; a short one is an error.
	OperatorToken plugins.Secret
	// Failures remembers addresses whose credentials were wrong; nil: none are.
	Failures Failures
	// Ready says why the broker cannot serve yet; nil counts as always ready.
	Ready func() error
	// Metrics answers /metrics once the operator is let in; nil: there is no such
	// path.
	Metrics http.Handler
	// Revisions is the history of the policy, and Gate what checks a revision and
	// makes it live. Without them the operator has no routes for it.
	Revisions *revision.Book
	Gate      PolicyGate
	// Messaging carries messages of clients that have no MQTT connection; nil:
	// there are no routes for them.
	Messaging Messaging
	// Decisions are those on record, and Reviews judge candidates; nil: there are no
	// routes for them.
	Decisions Decisions
	Reviews   Reviews
	// Narrowings keeps the policies of organisations; nil: there are no routes for
	// them.
	Narrowings Narrowings
	// Ledger is what is noted about clients, and Clients who can do something about
	// them; nil: there are no routes for either.
	Ledger  *ledger.Ledger
	Clients Clients
	// ServerCertificates are those of organisations; nil: there are no routes for them.
	ServerCertificates ServerCertificates
	// Management asks devices to do something; nil: there are no routes for it.
	Management Management
}

// Registry is what the interface asks of the registry; *registry.Registry is one.
type Registry interface {
	Credentials
	Types
	Devices
	Groups
	BulkDevices
	APIKeys
	Roles
	Users
	Authorities
	Claims
	Organisations
	Transfers
	ManagedDevices
}

// Failures bounds how often an address may be wrong. Both methods are safe for
// concurrent use.
type Failures interface {
	// Allowed reports whether a credential from addr is to be verified at all.
	Allowed(addr netip.Addr) bool
	// Record notes a credential that failed.
	Record(addr netip.Addr)
}

// API answers requests. It is safe for concurrent use and owns no goroutine.
type API struct {
	log      *slog.Logger
	now      func() time.Time
	maxBody  int64
	version  string
	domain   string
	failures Failures
	registry Registry
	decider  policy.Decider
	bearers  Verifiers
	token    plugins.Secret
	ready    func() error

	revisions  *revision.Book
	gate       PolicyGate
	messaging  Messaging
	narrowings Narrowings
	decisions  Decisions
	reviews    Reviews
	streams    streams
	refusals   refusals
	rates      rates

	ledger     *ledger.Ledger
	clients    Clients
	management Management
	shown      ServerCertificates
	noted      sync.Mutex // edits of what is noted, one at a time

	https, socket http.Handler
	operations    []operation // of /api/v0002
	document      []byte      // its OpenAPI document
	// undescribed is told where a handler asks for a parameter that its operation does
	// not describe. Tests set it.
	undescribed func(*operation, string)
}

// New builds the routes.
func New(cfg Config, d Deps) (*API, error) {
	if d.Registry == nil || d.Decider == nil {
		return nil, errors.New("the REST interface needs a registry and a decider")
	}
	if n := d.OperatorToken.Len(); n > 0 && n < minOperatorToken {
		return nil, errors.New("the operator token is too short")
	}
	a := &API{
		log: cfg.Log, now: cfg.Now, maxBody: cfg.MaxBody, version: cfg.Version, domain: cfg.Domain,
		registry: d.Registry, decider: d.Decider, bearers: d.Verifiers, token: d.OperatorToken, failures: d.Failures, ready: d.Ready,
		revisions: d.Revisions, gate: d.Gate, messaging: d.Messaging, decisions: d.Decisions, reviews: d.Reviews, narrowings: d.Narrowings,
		ledger: d.Ledger, clients: d.Clients, management: d.Management, shown: d.ServerCertificates,
		rates: rates{perSecond: cfg.CallRate},
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.maxBody <= 0 {
		a.maxBody = defaultMaxBody
	}
	if a.ready == nil {
		a.ready = func() error { return nil }
	}

	mux := http.NewServeMux()
	if err := a.mountV0002(mux); err != nil {
		return nil, err
	}
	if err := a.mountOperator(mux, bearerGate{a}); err != nil {
		return nil, err
	}
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.readiness)
	a.mountMetrics(mux, d.Metrics, bearerGate{a})
	a.https = &front{a, mux}

	mux = http.NewServeMux()
	if err := a.mountOperator(mux, socketGate{a}); err != nil {
		return nil, err
	}
	a.mountMetrics(mux, d.Metrics, socketGate{a})
	a.socket = &front{a, mux}
	return a, nil
}

// Handler serves the HTTPS listener: /api/v0002, /api/operator/v1 with the
// operator token, /metrics with the same, /healthz and /readyz. Every other path
// is 404.
func (a *API) Handler() http.Handler { return a.https }

// OperatorHandler serves the control socket: /api/operator/v1 and /metrics
// without a token.
// It must be reachable by the operator alone.
func (a *API) OperatorHandler() http.Handler { return a.socket }

// mountV0002 registers the routes of an organisation's administrators.
func (a *API) mountV0002(mux *http.ServeMux) error {
	s := newSurface(a, mux, v0002Prefix, &door{a})
	a.organisationRoutes(s)
	a.typeRoutes(s)
	a.deviceRoutes(s)
	a.bulkRoutes(s)
	a.apiKeyRoutes(s)
	a.roleRoutes(s)
	a.groupRoutes(s)
	a.certificateRoutes(s)
	a.claimRoutes(s, mux)
	a.connectionRoutes(s)
	a.serverCertificateRoutes(s)
	a.userRoutes(s)
	a.authorizationRoutes(s)
	a.behindRoutes(s)
	a.serviceRoutes(s)
	if a.ledger != nil && a.clients != nil {
		a.clientRoutes(s)
		a.eventRoutes(s)
		a.diagnosticRoutes(s)
		a.usageRoutes(s)
		a.violationRoutes(s)
	}
	if a.management != nil {
		a.managementRoutes(s)
	}
	if a.messaging != nil {
		a.messagingRoutes(s, mux)
	}
	if a.narrowings != nil {
		a.narrowingRoutes(s)
	}
	ownOrg := func(c *call) policy.OrgID { return c.org }
	if a.decisions != nil {
		a.decisionRoutes(s, ownOrg)
	}
	if a.reviews != nil {
		a.reviewRoutes(s, ownOrg, maxPolicyBody)
	}
	a.operations = s.operations
	var err error
	a.document, err = a.mountDocument(s, mux, nil)
	return err
}

// mountOperator registers the routes of the operator, behind g.
func (a *API) mountOperator(mux *http.ServeMux, g gate) error {
	s := newSurface(a, mux, operatorPrefix, g)
	a.operatorRoutes(s)
	_, err := a.mountDocument(s, mux, g)
	return err
}

type statusBody struct {
	Status string `json:"status"`
}

// health says that the process answers at all.
func (a *API) health(w http.ResponseWriter, r *http.Request) {
	a.write(w, r, http.StatusOK, statusBody{"ok"})
}

// readiness says whether it should be sent work. Why not is the operator's
// business, and in the log.
func (a *API) readiness(w http.ResponseWriter, r *http.Request) {
	if err := a.ready(); err != nil {
		a.fail(w, r, &policy.Error{Kind: policy.KindUnavailable, Public: "not ready", Err: err})
		return
	}
	a.write(w, r, http.StatusOK, statusBody{"ready"})
}
