package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// maxGrace is how long a replaced token may stay good, in seconds.
const maxGrace = 86400

// Devices is what the device routes work on.
type Devices interface {
	CreateDevice(ctx context.Context, org policy.OrgID, d registry.Device, token plugins.Secret) (registry.Device, string, error)
	Device(ctx context.Context, org policy.OrgID, typ, id policy.ID) (registry.Device, error)
	Devices(ctx context.Context, org policy.OrgID, typ policy.ID, page registry.Page) ([]registry.Device, string, error)
	UpdateDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*registry.Device) error) (registry.Device, error)
	DeleteDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) error
	ReplaceDeviceToken(ctx context.Context, org policy.OrgID, typ, id policy.ID, token plugins.Secret, grace time.Duration) (string, error)
}

// DeviceObject is a device or gateway.
type DeviceObject struct {
	ClientID     string              `json:"clientId"`
	TypeID       string              `json:"typeId"`
	DeviceID     string              `json:"deviceId"`
	ClassID      string              `json:"classId" enum:"Device,Gateway"`
	GatewayType  string              `json:"gatewayTypeId,omitempty"`
	GatewayID    string              `json:"gatewayId,omitempty"`
	DeviceInfo   registry.DeviceInfo `json:"deviceInfo"`
	Metadata     map[string]any      `json:"metadata"`
	Registration Registration        `json:"registration"`
	Status       DeviceStatus        `json:"status"`
	Refs         DeviceRefs          `json:"refs"`
	AuthToken    string              `json:"authToken,omitempty" doc:"In the answer to the registration only."`
}

// Registration says who registered a device, and when.
type Registration struct {
	Auth *RegisteredBy `json:"auth,omitempty"`
	Date timestamp     `json:"date"`
}

// RegisteredBy names a caller.
type RegisteredBy struct {
	ID   string `json:"id"`
	Type string `json:"type" enum:"app,person,gateway"`
}

// DeviceStatus is what was noted about a device.
type DeviceStatus struct {
	Alert DeviceAlert `json:"alert"`
}

// DeviceAlert is a mark on a device.
type DeviceAlert struct {
	Enabled   bool      `json:"enabled"`
	Timestamp timestamp `json:"timestamp"`
}

// DeviceRefs are paths of what belongs to a device.
type DeviceRefs struct {
	Diag     DiagRefs `json:"diag"`
	Location string   `json:"location"`
	Mgmt     string   `json:"mgmt"`
}

// DiagRefs are paths of a device's diagnostics.
type DiagRefs struct {
	ErrorCodes string `json:"errorCodes"`
	Logs       string `json:"logs"`
}

// showDevice returns how an organisation's devices are shown.
func showDevice(org policy.OrgID) func(*registry.Device) DeviceObject {
	return func(d *registry.Device) DeviceObject {
		path := v0002Prefix + "/device/types/" + string(d.Type) + "/devices/" + string(d.ID)
		alerted := d.Status.Alert.Timestamp
		if alerted.IsZero() {
			alerted = d.Created
		}
		return DeviceObject{
			ClientID: clientID(org, d), TypeID: string(d.Type), DeviceID: string(d.ID), ClassID: d.ClassID,
			GatewayType: string(d.GatewayType), GatewayID: string(d.GatewayID),
			DeviceInfo: d.DeviceInfo, Metadata: object(d.Metadata),
			Registration: Registration{Auth: registeredBy(d.CreatedBy), Date: timestamp{d.Created}},
			Status:       DeviceStatus{DeviceAlert{d.Status.Alert.Enabled, timestamp{alerted}}},
			Refs: DeviceRefs{
				Diag:     DiagRefs{path + "/diag/errorCodes", path + "/diag/logs"},
				Location: path + "/location", Mgmt: path + "/mgmt",
			},
		}
	}
}

// clientID is what the device itself connects as.
func clientID(org policy.OrgID, d *registry.Device) string {
	class := "d:"
	if d.ClassID == registry.ClassGateway {
		class = "g:"
	}
	return class + org.String() + ":" + string(d.Type) + ":" + string(d.ID)
}

// registeredBy tells callers apart by their public names, see publicName: only a
// user's has an '@', only a gateway's a ':'.
func registeredBy(name string) *RegisteredBy {
	switch {
	case name == "":
		return nil
	case strings.Contains(name, "@"):
		return &RegisteredBy{name, "person"}
	case strings.Contains(name, ":"):
		return &RegisteredBy{name, "gateway"}
	default:
		return &RegisteredBy{name, "app"}
	}
}

// NewDevice asks for a device.
type NewDevice struct {
	DeviceID    *string          `json:"deviceId" nullable:"false" doc:"1 to 36 of a-z, A-Z, 0-9, '_', '.' and '-'."`
	AuthToken   *string          `json:"authToken,omitempty" nullable:"true" doc:"Self-chosen token; generated unless given."`
	DeviceInfo  *DeviceInfoPatch `json:"deviceInfo,omitempty"`
	Location    *LocationInput   `json:"location,omitempty"`
	Metadata    map[string]any   `json:"metadata,omitempty" nullable:"true"`
	GatewayType *string          `json:"gatewayTypeId,omitempty" nullable:"true"`
	GatewayID   *string          `json:"gatewayId,omitempty" nullable:"true"`
}

// LocationInput says where a device is.
type LocationInput struct {
	_         struct{} `nullable:"true" additionalProperties:"true"`
	Longitude *float64 `json:"longitude" nullable:"false" doc:"Degrees, -180 to 180."`
	Latitude  *float64 `json:"latitude" nullable:"false" doc:"Degrees, -90 to 90."`
	Elevation *float64 `json:"elevation,omitempty" nullable:"true" doc:"Metres."`
	Accuracy  *float64 `json:"accuracy,omitempty" nullable:"true" doc:"Metres."`
	Measured  *string  `json:"measuredDateTime,omitempty" nullable:"true" format:"date-time"`
}

// record makes a location of l, measured now unless l says when.
func (l *LocationInput) record(now time.Time) (*registry.Location, error) {
	if l == nil {
		return nil, nil
	}
	var missing, moment error
	if l.Longitude == nil || l.Latitude == nil {
		missing = invalid("location", "needs longitude and latitude")
	}
	measured := now
	if l.Measured != nil {
		measured, moment = parseTime("location.measuredDateTime", *l.Measured)
	}
	if err := errors.Join(missing, moment); err != nil {
		return nil, err
	}
	return &registry.Location{
		Longitude: *l.Longitude, Latitude: *l.Latitude, Elevation: l.Elevation, Accuracy: l.Accuracy,
		Measured: measured, Updated: now,
	}, nil
}

// parseTime reads a moment in ISO 8601 with a time zone.
func parseTime(field, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, invalid(field, "must be a time such as 2026-01-31T12:00:00.000Z")
	}
	return t.UTC(), nil
}

// DevicePatch is what can be changed of a device.
type DevicePatch struct {
	Status     *StatusPatch     `json:"status,omitempty"`
	DeviceInfo *DeviceInfoPatch `json:"deviceInfo,omitempty"`
	Metadata   map[string]any   `json:"metadata,omitempty" nullable:"true"`
}

// StatusPatch notes something about a device.
type StatusPatch struct {
	_     struct{}    `nullable:"true" additionalProperties:"true"`
	Alert *AlertPatch `json:"alert,omitempty"`
}

// AlertPatch sets or clears the mark on a device.
type AlertPatch struct {
	_         struct{} `nullable:"true" additionalProperties:"true"`
	Enabled   *bool    `json:"enabled,omitempty" nullable:"true"`
	Timestamp *string  `json:"timestamp,omitempty" nullable:"true" format:"date-time" doc:"Now, unless stated."`
}

func (p *DevicePatch) apply(d *registry.Device, now time.Time) error {
	p.DeviceInfo.apply(&d.DeviceInfo)
	if p.Metadata != nil {
		d.Metadata = p.Metadata
	}
	if p.Status == nil || p.Status.Alert == nil {
		return nil
	}
	alert := p.Status.Alert
	if alert.Enabled != nil {
		d.Status.Alert = registry.Alert{Enabled: *alert.Enabled, Timestamp: now}
	}
	if alert.Timestamp != nil {
		at, err := parseTime("status.alert.timestamp", *alert.Timestamp)
		if err != nil {
			return err
		}
		d.Status.Alert.Timestamp = at
	}
	return nil
}

// DeviceTokenRequest asks for another token. Its body may be absent.
type DeviceTokenRequest struct {
	AuthToken    *string `json:"authToken,omitempty" nullable:"true" doc:"Self-chosen token; generated unless given."`
	GraceSeconds *int    `json:"graceSeconds,omitempty" nullable:"true" minimum:"0" maximum:"86400" doc:"How long the token so far stays good; 0 unless given."`
}

// DeviceToken is the only answer that holds a device's new token.
type DeviceToken struct {
	TypeID    string `json:"typeId"`
	DeviceID  string `json:"deviceId"`
	AuthToken string `json:"authToken"`
}

func (a *API) deviceRoutes(s *surface) {
	const all, one = "/device/types/{typeId}/devices", "/device/types/{typeId}/devices/{deviceId}"
	handle(s, operation{
		method: "GET", path: all, id: "listDevices", summary: "Devices of a type, by identifier",
		status: http.StatusOK, list: true, queries: deviceParameters(),
	}, a.listDevices)
	handle(s, operation{
		method: "POST", path: all, id: "createDevice", summary: "Register a device; the answer holds its token, once",
		status: http.StatusCreated, body: true, conflict: true,
	}, a.createDevice)
	handle(s, operation{
		method: "GET", path: one, id: "readDevice", summary: "One device",
		status: http.StatusOK,
	}, a.readDevice)
	handle(s, operation{
		method: "PUT", path: one, id: "updateDevice", summary: "Change a device",
		status: http.StatusOK, body: true,
	}, a.updateDevice)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteDevice", summary: "Remove a device and disconnect it",
		status: http.StatusNoContent,
	}, a.deleteDevice)
	handle(s, operation{
		method: "POST", path: one + "/token", id: "replaceDeviceToken", summary: "Replace a device's token; the answer holds the new one, once",
		status: http.StatusOK, body: true, optional: true,
	}, a.replaceDeviceToken)
}

// device is the type and the identifier that the path names.
func (c *call) device() (typ, id policy.ID, err error) {
	if typ, err = c.pathID("typeId", "device type"); err == nil {
		id, err = c.pathID("deviceId", "device")
	}
	return typ, id, err
}

// chosen is a self-chosen token, zero where there is none.
func chosen(token *string) plugins.Secret {
	if token == nil {
		return plugins.Secret{}
	}
	return plugins.NewSecret([]byte(*token))
}

func (a *API) listDevices(ctx context.Context, c *call, _ *none) (List[DeviceObject], error) {
	typ, err := c.pathID("typeId", "device type")
	if err != nil {
		return List[DeviceObject]{}, err
	}
	return listing(c, func(page registry.Page) ([]registry.Device, string, error) {
		return a.devicesFor(ctx, c, typ, page)
	}, deviceOrder(), deviceFilters(), showDevice(c.org))
}

func (a *API) createDevice(ctx context.Context, c *call, in *NewDevice) (DeviceObject, error) {
	typ, err := c.pathID("typeId", "device type")
	if err != nil {
		return DeviceObject{}, err
	}
	d, err := a.requested(ctx, c, typ, in)
	if err != nil {
		return DeviceObject{}, err
	}
	made, token, err := a.registry.CreateDevice(ctx, c.org, d, chosen(in.AuthToken))
	if err != nil {
		return DeviceObject{}, err
	}
	shown := showDevice(c.org)(&made)
	shown.AuthToken = token
	return shown, nil
}

// requested is the device that is asked for. It goes into the groups that the call is
// about, and behind a gateway that the call finds.
func (a *API) requested(ctx context.Context, c *call, typ policy.ID, in *NewDevice) (registry.Device, error) {
	id, idErr := bodyID("deviceId", in.DeviceID)
	location, locationErr := in.Location.record(a.now().UTC())
	gatewayType, gatewayID, gatewayErr := in.gateway()
	if err := errors.Join(idErr, locationErr, gatewayErr, checkToken(in.AuthToken)); err != nil {
		return registry.Device{}, err
	}
	d := registry.Device{
		Type: typ, ID: id, Location: location, Metadata: in.Metadata,
		GatewayType: gatewayType, GatewayID: gatewayID, CreatedBy: c.caller,
		Groups: registry.RefsTo(c.groups...),
	}
	if gatewayID != "" {
		if found, err := a.finds(ctx, c, gatewayType, gatewayID); err != nil || !found {
			return registry.Device{}, cmp.Or(err, invalid("gatewayId", "must be a registered gateway"))
		}
	}
	in.DeviceInfo.apply(&d.DeviceInfo)
	return d, nil
}

// gateway is the gateway that the device is attached to, if any.
func (in *NewDevice) gateway() (typ, id policy.ID, err error) {
	if in.GatewayType == nil && in.GatewayID == nil {
		return "", "", nil
	}
	typ, typErr := bodyID("gatewayTypeId", in.GatewayType)
	id, idErr := bodyID("gatewayId", in.GatewayID)
	return typ, id, errors.Join(typErr, idErr)
}

// checkToken refuses an empty token: to the registry that means none.
func checkToken(token *string) error {
	if token != nil && *token == "" {
		return invalid("authToken", "must not be empty; leave it out to have one generated")
	}
	return nil
}

func (a *API) readDevice(ctx context.Context, c *call, _ *none) (DeviceObject, error) {
	typ, id, err := c.device()
	if err != nil {
		return DeviceObject{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	return showDevice(c.org)(&d), err
}

func (a *API) updateDevice(ctx context.Context, c *call, in *DevicePatch) (DeviceObject, error) {
	typ, id, err := c.device()
	if err != nil {
		return DeviceObject{}, err
	}
	d, err := a.registry.UpdateDevice(ctx, c.org, typ, id, func(d *registry.Device) error {
		return in.apply(d, a.now().UTC())
	})
	return showDevice(c.org)(&d), err
}

func (a *API) deleteDevice(ctx context.Context, c *call, _ *none) (none, error) {
	typ, id, err := c.device()
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteDevice(ctx, c.org, typ, id)
}

func (a *API) replaceDeviceToken(ctx context.Context, c *call, in *DeviceTokenRequest) (DeviceToken, error) {
	typ, id, err := c.device()
	if err != nil {
		return DeviceToken{}, err
	}
	grace, graceErr := parseGrace(in.GraceSeconds)
	if err := errors.Join(graceErr, checkToken(in.AuthToken)); err != nil {
		return DeviceToken{}, err
	}
	token, err := a.registry.ReplaceDeviceToken(ctx, c.org, typ, id, chosen(in.AuthToken), grace)
	if err != nil {
		return DeviceToken{}, err
	}
	return DeviceToken{TypeID: string(typ), DeviceID: string(id), AuthToken: token}, nil
}

// parseGrace is how long a replaced token stays good.
func parseGrace(seconds *int) (time.Duration, error) {
	n := value(seconds)
	if n < 0 || n > maxGrace {
		return 0, invalid("graceSeconds", "must be 0 to "+strconv.Itoa(maxGrace))
	}
	return time.Duration(n) * time.Second, nil
}
