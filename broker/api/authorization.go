package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// AccessObject says whether a device may connect.
type AccessObject struct {
	ClientID string    `json:"clientId"`
	TypeID   string    `json:"typeId"`
	DeviceID string    `json:"deviceId"`
	ClassID  string    `json:"classId" enum:"Device,Gateway"`
	Status   int       `json:"status" enum:"0,1" doc:"0 disabled, 1 enabled."`
	Updated  timestamp `json:"updatedDateTime"`
}

func showAccess(org policy.OrgID, d *registry.Device) AccessObject {
	return AccessObject{
		ClientID: clientID(org, d), TypeID: string(d.Type), DeviceID: string(d.ID), ClassID: d.ClassID,
		Status: status(d.Disabled), Updated: timestamp{d.Updated},
	}
}

// AccessPatch enables a device, or disables and thereby disconnects it.
type AccessPatch struct {
	Status *int `json:"status,omitempty" nullable:"true" enum:"0,1" doc:"0 disables and disconnects, 1 enables."`
}

func (a *API) authorizationRoutes(s *surface) {
	const one = "/authorization/devices/{clientId}"
	handle(s, operation{
		method: "GET", path: "/authorization/devices", id: "listAccess", summary: "Which devices may connect, by type and identifier",
		status: http.StatusOK, list: true, queries: deviceParameters(),
	}, a.listAccess)
	handle(s, operation{
		method: "GET", path: one, id: "readAccess", summary: "Whether a device may connect",
		status: http.StatusOK,
	}, a.readAccess)
	handle(s, operation{
		method: "PUT", path: one, id: "updateAccess", summary: "Enable a device, or disable and disconnect it",
		status: http.StatusOK, body: true,
	}, a.updateAccess)
	handle(s, operation{
		method: "GET", path: one + "/roles", id: "readDeviceRoles", summary: "Roles of a gateway, and the groups that it reaches",
		status: http.StatusOK,
	}, a.readDeviceRoles)
	for _, path := range []string{"/roles", "/withroles"} {
		handle(s, operation{
			method: "PUT", path: one + path, id: "replaceDeviceRoles" + strings.TrimPrefix(path, "/"), summary: "Give a gateway other roles, none beyond the caller, or other groups",
			status: http.StatusOK, body: true, roles: a.gatewayRoles,
		}, a.replaceDeviceRoles)
	}
}

// subject is the device that a client ID in the path names. One of another
// organisation is as unknown as one that does not exist.
func (c *call) subject() (class string, typ, id policy.ID, err error) {
	parts := strings.Split(c.params("clientId"), ":")
	if len(parts) != 4 || parts[1] != c.org.String() || parts[0] != "d" && parts[0] != "g" {
		return "", "", "", notFound("device")
	}
	typ, typErr := policy.ParseID("typeId", parts[2])
	id, idErr := policy.ParseID("deviceId", parts[3])
	if typErr != nil || idErr != nil {
		return "", "", "", notFound("device")
	}
	return parts[0], typ, id, nil
}

// addresses reports whether class is how d may be addressed: a gateway is known by
// both forms, since some clients of the platform write every client ID with d.
func addresses(class string, d *registry.Device) bool {
	return class == "d" || d.ClassID == registry.ClassGateway
}

func (a *API) listAccess(ctx context.Context, c *call, _ *none) (List[AccessObject], error) {
	devices, err := a.devices(ctx, c)
	if err != nil {
		return List[AccessObject]{}, err
	}
	return listing(c, devices, deviceOrder(), deviceFilters(), func(d *registry.Device) AccessObject { return showAccess(c.org, d) })
}

func (a *API) readAccess(ctx context.Context, c *call, _ *none) (AccessObject, error) {
	class, typ, id, err := c.subject()
	if err != nil {
		return AccessObject{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	if err == nil && !addresses(class, &d) {
		err = notFound("device")
	}
	return showAccess(c.org, &d), err
}

func (a *API) updateAccess(ctx context.Context, c *call, in *AccessPatch) (AccessObject, error) {
	class, typ, id, err := c.subject()
	if err != nil {
		return AccessObject{}, err
	}
	if s := in.Status; s != nil && *s != 0 && *s != 1 {
		return AccessObject{}, invalid("status", "must be 0 or 1")
	}
	d, err := a.registry.UpdateDevice(ctx, c.org, typ, id, func(d *registry.Device) error {
		if !addresses(class, d) {
			return notFound("device")
		}
		if in.Status != nil {
			d.Disabled = *in.Status == 0
		}
		return nil
	})
	return showAccess(c.org, &d), err
}
