package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Clients is who can do something about the clients of an organisation.
type Clients interface {
	// Disconnect ends every connection of a client ID and says how many there were.
	Disconnect(t ledger.Tenant, id policy.ClientID) int
	// SetNoting changes what is noted about clients.
	SetNoting(ctx context.Context, t ledger.Tenant, n ledger.Noting) error
}

// maxStates is the largest page of connection states; the default, too.
const maxStates = 25

// ClientStateObject is what is known of the connections of a client ID.
type ClientStateObject struct {
	ID                string     `json:"id"`
	ClientType        string     `json:"clientType" enum:"Device,Gateway,Application,User"`
	ConnectionStatus  string     `json:"connectionStatus" enum:"connected,disconnected"`
	LastConnect       *timestamp `json:"lastConnectTime"`
	LastDisconnect    *timestamp `json:"lastDisconnectTime"`
	LastActivityEvent string     `json:"lastActivityEvent" enum:"Connect,Disconnect"`
	LastActivity      *timestamp `json:"lastActivityTime"`
	Protocol          string     `json:"mqttConnectProtocol"`
	Address           string     `json:"clientAddress"`
	Port              uint16     `json:"port"`
	Secure            bool       `json:"secure"`
	CloseCode         *int       `json:"closeCode" doc:"Of the last disconnect."`
	Reason            *string    `json:"reason" doc:"Of the last disconnect, in words."`
}

func showState(s *ledger.State) ClientStateObject {
	o := ClientStateObject{
		ID: s.ClientID, ClientType: clientType(s.Kind), ConnectionStatus: connection(s),
		LastConnect: instant(s.ConnectTime), LastDisconnect: instant(s.DisconnectTime),
		LastActivityEvent: s.ActivityEvent, LastActivity: instant(s.ActivityTime),
		Protocol: s.Protocol, Address: s.Address, Port: s.Port, Secure: s.Secure,
	}
	if !s.DisconnectTime.IsZero() {
		o.CloseCode, o.Reason = &s.CloseCode, &s.Reason
	}
	return o
}

func clientType(kind string) string {
	if kind == "" {
		return ""
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}

func connection(s *ledger.State) string {
	if s.Connected {
		return "connected"
	}
	return "disconnected"
}

// instant is t, or null where it never was.
func instant(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return &timestamp{t}
}

// Disconnected says what a forced disconnect did.
type Disconnected struct {
	ClientID    string `json:"clientId"`
	Connections int    `json:"connections" doc:"That were closed."`
}

// ClientStateSetting switches the connection states.
type ClientStateSetting struct {
	Enabled *bool `json:"enabled" nullable:"true"`
}

// LastEventSetting switches the last event cache.
type LastEventSetting struct {
	Enabled *bool `json:"enabled,omitempty" nullable:"true"`
	TTLDays *int  `json:"ttlDays,omitempty" nullable:"true" minimum:"1" maximum:"45"`
}

// maxTTLDays is how many days last events may be kept.
const maxTTLDays = 45

// LogLine is one line of a connection log.
type LogLine struct {
	Message   string    `json:"message"`
	Timestamp timestamp `json:"timestamp"`
}

func (a *API) clientRoutes(s *surface) {
	const one = "/clientconnectionstates/{clientId}"
	handle(s, operation{
		method: "GET", path: "/clientconnectionstates", id: "listClientStates", summary: "Whether clients are connected, by client ID",
		status: http.StatusOK, list: true, queries: []parameter{
			sortParameter(stateOrder()),
			{"connectionStatus", "connected or disconnected."},
			{"connectedAfter", "Those whose last connection began after this moment, in ISO 8601."},
			{"deviceType", "Those of this device type."},
			{"deviceId", "Those of devices with this identifier."},
		},
	}, a.listStates)
	handle(s, operation{
		method: "GET", path: one, id: "readClientState", summary: "Whether a client is connected",
		status: http.StatusOK,
	}, a.readState)
	handle(s, operation{
		method: "POST", path: one + "/disconnect", id: "disconnectClient", summary: "Close every connection of a client ID; it may come back",
		status: http.StatusOK,
	}, a.disconnect)
	handle(s, operation{
		method: "GET", path: "/config/clientstate", id: "readClientStateSetting", summary: "Whether connection states are shown",
		status: http.StatusOK,
	}, a.readStateSetting)
	handle(s, operation{
		method: "PUT", path: "/config/clientstate", id: "updateClientStateSetting", summary: "Show connection states, or do not",
		status: http.StatusOK, body: true,
	}, a.updateStateSetting)
	handle(s, operation{
		method: "GET", path: "/config/lec", id: "readLastEventSetting", summary: "Whether last events are kept, and for how long",
		status: http.StatusOK,
	}, a.readEventSetting)
	handle(s, operation{
		method: "PUT", path: "/config/lec", id: "updateLastEventSetting", summary: "Keep last events, or forget them all",
		status: http.StatusOK, body: true,
	}, a.updateEventSetting)
	handle(s, operation{
		method: "GET", path: "/logs/connection", id: "readConnectionLog", summary: "The connection log of a device, the newest line first",
		status: http.StatusOK, queries: []parameter{{"typeId", "Required."}, {"deviceId", "Required."}},
	}, a.connectionLog)
}

// tenant is the organisation of the call, in its incarnation.
func (a *API) tenant(ctx context.Context, c *call) (ledger.Tenant, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	return ledger.Tenant{Org: c.org, Incarnation: o.Incarnation}, err
}

// states is the tenant of a call for connection states.
func (a *API) states(ctx context.Context, c *call) (ledger.Tenant, error) {
	t, err := a.tenant(ctx, c)
	if err != nil {
		return t, err
	}
	noting, err := a.ledger.Noting(t)
	if err == nil && !noting.ClientState {
		err = &fault{status: http.StatusForbidden, message: "connection states are switched off; PUT /config/clientstate switches them on"}
	}
	return t, err
}

// stands reports whether s is of a device that still is the one it was, and that the
// call finds.
func (a *API) stands(ctx context.Context, c *call, s *ledger.State) bool {
	if s.Device == 0 {
		return c.groups == nil
	}
	if found, err := a.finds(ctx, c, s.Type, s.ID); err != nil || !found {
		return false
	}
	d, err := a.registry.Device(ctx, c.org, s.Type, s.ID)
	return err == nil && d.Incarnation == s.Device
}

func (a *API) listStates(ctx context.Context, c *call, _ *none) (List[ClientStateObject], error) {
	none := List[ClientStateObject]{}
	t, err := a.states(ctx, c)
	if err != nil {
		return none, err
	}
	page, err := c.pageOf(maxStates, maxStates)
	if err != nil {
		return none, err
	}
	match, err := stateMatch(c)
	if err != nil {
		return none, err
	}
	order := stateOrder()
	compare, err := order.sorting(c)
	if err != nil {
		return none, err
	}
	fetch := func(page registry.Page) ([]ledger.State, string, error) { return a.fetchStates(ctx, c, t, page, match) }
	if compare != nil {
		return sorted(page, fetch, nil, compare, showState)
	}
	found, next, err := fetch(page)
	return listed(found, next, err, showState)
}

// fetchStates is a page of the states that match, by client ID.
func (a *API) fetchStates(ctx context.Context, c *call, t ledger.Tenant, page registry.Page, match func(*ledger.State) bool) (found []ledger.State, next string, err error) {
	after := ""
	if page.After != "" {
		raw, err := base64.RawURLEncoding.DecodeString(page.After)
		if after = strings.TrimPrefix(string(raw), "client/"); err != nil || makeStateBookmark(after) != page.After || len(after) > maxClientID {
			return nil, "", invalid("_bookmark", "must be the bookmark of the page before")
		}
	}
	if c.groups != nil {
		return a.statesFor(ctx, c, t, after, page.Limit, match)
	}
	looked, last, more := 0, after, false
	err = a.ledger.States(t, after, func(s *ledger.State) bool {
		if more = len(found) == page.Limit || looked == maxLooked; more {
			return false
		}
		looked++
		last = s.ClientID
		if match(s) && a.stands(ctx, c, s) {
			found = append(found, *s)
		}
		return true
	})
	if more {
		next = makeStateBookmark(last)
	}
	return found, next, err
}

// maxClientID is the longest client ID, in bytes.
const maxClientID = 256

func makeStateBookmark(client string) string {
	return base64.RawURLEncoding.EncodeToString([]byte("client/" + client))
}

func stateOrder() order[ledger.State] {
	return order[ledger.State]{natural: []string{"id"}, fields: map[string]func(a, b *ledger.State) int{
		"id":                 by(func(s *ledger.State) string { return s.ClientID }),
		"connectionStatus":   by(connection),
		"lastConnectTime":    byTime(func(s *ledger.State) time.Time { return s.ConnectTime }),
		"lastDisconnectTime": byTime(func(s *ledger.State) time.Time { return s.DisconnectTime }),
		"lastActivityTime":   byTime(func(s *ledger.State) time.Time { return s.ActivityTime }),
	}}
}

// stateMatch is what the query restricts the list to.
func stateMatch(c *call) (func(*ledger.State) bool, error) {
	status, after := c.query.Get("connectionStatus"), time.Time{}
	if status != "" && status != "connected" && status != "disconnected" {
		return nil, invalid("connectionStatus", "must be connected or disconnected")
	}
	if text := c.query.Get("connectedAfter"); text != "" {
		var err error
		if after, err = parseTime("connectedAfter", text); err != nil {
			return nil, err
		}
	}
	typ, id := c.query.Get("deviceType"), c.query.Get("deviceId")
	return func(s *ledger.State) bool {
		return (status == "" || connection(s) == status) && (after.IsZero() || s.ConnectTime.After(after)) &&
			(typ == "" || string(s.Type) == typ) && (id == "" || s.Type != "" && string(s.ID) == id)
	}, nil
}

func (a *API) readState(ctx context.Context, c *call, _ *none) (ClientStateObject, error) {
	t, err := a.states(ctx, c)
	if err != nil {
		return ClientStateObject{}, err
	}
	s, err := a.stateOf(ctx, c, t)
	return showState(&s), err
}

func (a *API) stateOf(ctx context.Context, c *call, t ledger.Tenant) (ledger.State, error) {
	id := c.params("clientId")
	if len(id) > maxClientID {
		return ledger.State{}, notFound("client")
	}
	s, ok, err := a.ledger.State(t, id)
	if err == nil && !(ok && a.stands(ctx, c, &s)) {
		err = notFound("client")
	}
	return s, err
}

func (a *API) disconnect(ctx context.Context, c *call, _ *none) (Disconnected, error) {
	t, err := a.tenant(ctx, c)
	if err != nil {
		return Disconnected{}, err
	}
	id, err := policy.ParseClientID(c.params("clientId"))
	if err != nil {
		return Disconnected{}, notFound("client")
	}
	n := a.clients.Disconnect(t, id)
	if n == 0 {
		_, err = a.stateOf(ctx, c, t)
	}
	return Disconnected{ClientID: string(id), Connections: n}, err
}

func (a *API) readStateSetting(ctx context.Context, c *call, _ *none) (ClientStateSetting, error) {
	n, _, err := a.noting(ctx, c)
	return ClientStateSetting{Enabled: &n.ClientState}, err
}

func (a *API) noting(ctx context.Context, c *call) (ledger.Noting, ledger.Tenant, error) {
	t, err := a.tenant(ctx, c)
	if err != nil {
		return ledger.Noting{}, t, err
	}
	n, err := a.ledger.Noting(t)
	return n, t, err
}

func (a *API) updateStateSetting(ctx context.Context, c *call, in *ClientStateSetting) (ClientStateSetting, error) {
	n, err := a.editNoting(ctx, c, func(n *ledger.Noting) error {
		keep(&n.ClientState, in.Enabled)
		return nil
	})
	return ClientStateSetting{Enabled: &n.ClientState}, err
}

// editNoting changes what is noted about clients, one call after the other.
func (a *API) editNoting(ctx context.Context, c *call, edit func(*ledger.Noting) error) (ledger.Noting, error) {
	a.noted.Lock()
	defer a.noted.Unlock()
	n, t, err := a.noting(ctx, c)
	if err != nil {
		return n, err
	}
	if err := edit(&n); err != nil {
		return n, err
	}
	return n, a.clients.SetNoting(ctx, t, n)
}

func (a *API) readEventSetting(ctx context.Context, c *call, _ *none) (LastEventSetting, error) {
	n, _, err := a.noting(ctx, c)
	return LastEventSetting{Enabled: &n.LastEvents, TTLDays: &n.TTLDays}, err
}

func (a *API) updateEventSetting(ctx context.Context, c *call, in *LastEventSetting) (LastEventSetting, error) {
	n, err := a.editNoting(ctx, c, func(n *ledger.Noting) error {
		keep(&n.LastEvents, in.Enabled)
		if keep(&n.TTLDays, in.TTLDays); n.TTLDays < 1 || n.TTLDays > maxTTLDays {
			return invalid("ttlDays", "must be 1 to 45")
		}
		return nil
	})
	return LastEventSetting{Enabled: &n.LastEvents, TTLDays: &n.TTLDays}, err
}

// connectionLog answers nothing for a device that there is not: the log of one may
// outlive the wish to see it.
func (a *API) connectionLog(ctx context.Context, c *call, _ *none) ([]LogLine, error) {
	lines := []LogLine{}
	for _, name := range []string{"typeId", "deviceId"} {
		if c.query.Get(name) == "" {
			return nil, invalid(name, "is required")
		}
	}
	typ, typErr := policy.ParseID("typeId", c.query.Get("typeId"))
	id, idErr := policy.ParseID("deviceId", c.query.Get("deviceId"))
	if typErr != nil || idErr != nil {
		return lines, nil //nolint:nilerr // it names nothing
	}
	found, err := a.finds(ctx, c, typ, id)
	if err != nil || !found {
		return lines, err
	}
	t, d, err := a.deviceIn(ctx, c, typ, id)
	if policy.KindOf(err) == policy.KindNotFound {
		return lines, nil
	}
	if err != nil {
		return nil, err
	}
	log, err := a.ledger.Lines(t, d, a.now().Add(-ledger.LogKept))
	for _, line := range log {
		lines = append(lines, LogLine{line.Message, timestamp{line.Time}})
	}
	return lines, err
}

// deviceIn is a device as the ledger knows it.
func (a *API) deviceIn(ctx context.Context, c *call, typ, id policy.ID) (ledger.Tenant, ledger.Device, error) {
	t, err := a.tenant(ctx, c)
	if err != nil {
		return t, ledger.Device{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	return t, ledger.Device{Type: typ, ID: id, Incarnation: d.Incarnation}, err
}

// pathDevice is the device that the path names.
func (a *API) pathDevice(ctx context.Context, c *call) (ledger.Tenant, ledger.Device, error) {
	typ, id, err := c.device()
	if err != nil {
		return ledger.Tenant{}, ledger.Device{}, err
	}
	return a.deviceIn(ctx, c, typ, id)
}
