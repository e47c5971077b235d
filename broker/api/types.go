package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Types is what the device type routes work on.
type Types interface {
	CreateType(ctx context.Context, org policy.OrgID, t registry.DeviceType) (registry.DeviceType, error)
	Type(ctx context.Context, org policy.OrgID, id policy.ID) (registry.DeviceType, error)
	Types(ctx context.Context, org policy.OrgID, page registry.Page) ([]registry.DeviceType, string, error)
	UpdateType(ctx context.Context, org policy.OrgID, id policy.ID, edit func(*registry.DeviceType) error) (registry.DeviceType, error)
	DeleteType(ctx context.Context, org policy.OrgID, id policy.ID) error
}

// TypeObject is a device type.
type TypeObject struct {
	ID          string              `json:"id"`
	ClassID     string              `json:"classId" enum:"Device,Gateway"`
	Description string              `json:"description"`
	DeviceInfo  registry.DeviceInfo `json:"deviceInfo"`
	Metadata    map[string]any      `json:"metadata"`
	Created     timestamp           `json:"createdDateTime"`
	Updated     timestamp           `json:"updatedDateTime"`
	Refs        TypeRefs            `json:"refs"`
}

// TypeRefs are paths of what belongs to a type.
type TypeRefs struct {
	PhysicalInterface string `json:"physicalInterface"`
	LogicalInterfaces string `json:"logicalInterfaces"`
	Mappings          string `json:"mappings"`
}

func showType(t *registry.DeviceType) TypeObject {
	path := v0002Prefix + "/device/types/" + string(t.ID)
	return TypeObject{
		ID: string(t.ID), ClassID: t.ClassID, Description: t.Description,
		DeviceInfo: t.DeviceInfo, Metadata: object(t.Metadata),
		Created: timestamp{t.Created}, Updated: timestamp{t.Updated},
		Refs: TypeRefs{path + "/physicalinterface", path + "/logicalinterfaces", path + "/mappings"},
	}
}

// object is m as a JSON object, which null is not.
func object(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// NewType asks for a device type.
type NewType struct {
	ID      *string `json:"id" nullable:"false" doc:"1 to 36 of a-z, A-Z, 0-9, '_', '.' and '-'."`
	ClassID *string `json:"classId,omitempty" nullable:"true" enum:"Device,Gateway" doc:"Device, unless stated; it never changes."`
	TypePatch
}

// TypePatch is what can be changed of a device type.
type TypePatch struct {
	Description *string          `json:"description,omitempty" nullable:"true"`
	DeviceInfo  *DeviceInfoPatch `json:"deviceInfo,omitempty"`
	Metadata    map[string]any   `json:"metadata,omitempty" nullable:"true"`
}

func (p *TypePatch) apply(t *registry.DeviceType) {
	keep(&t.Description, p.Description)
	p.DeviceInfo.apply(&t.DeviceInfo)
	if p.Metadata != nil {
		t.Metadata = p.Metadata
	}
}

// DeviceInfoPatch names the fields of a device's description that are to change.
type DeviceInfoPatch struct {
	_                   struct{} `nullable:"true" additionalProperties:"true"`
	SerialNumber        *string  `json:"serialNumber,omitempty" nullable:"true"`
	Manufacturer        *string  `json:"manufacturer,omitempty" nullable:"true"`
	Model               *string  `json:"model,omitempty" nullable:"true"`
	DeviceClass         *string  `json:"deviceClass,omitempty" nullable:"true"`
	Description         *string  `json:"description,omitempty" nullable:"true"`
	FwVersion           *string  `json:"fwVersion,omitempty" nullable:"true"`
	HwVersion           *string  `json:"hwVersion,omitempty" nullable:"true"`
	DescriptiveLocation *string  `json:"descriptiveLocation,omitempty" nullable:"true"`
}

func (p *DeviceInfoPatch) apply(d *registry.DeviceInfo) {
	if p == nil {
		return
	}
	keep(&d.SerialNumber, p.SerialNumber)
	keep(&d.Manufacturer, p.Manufacturer)
	keep(&d.Model, p.Model)
	keep(&d.DeviceClass, p.DeviceClass)
	keep(&d.Description, p.Description)
	keep(&d.FwVersion, p.FwVersion)
	keep(&d.HwVersion, p.HwVersion)
	keep(&d.DescriptiveLocation, p.DescriptiveLocation)
}

func (a *API) typeRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: "/device/types", id: "listTypes", summary: "Device types, by identifier",
		status: http.StatusOK, list: true, queries: typeParameters(),
	}, a.listTypes)
	handle(s, operation{
		method: "POST", path: "/device/types", id: "createType", summary: "Add a device type",
		status: http.StatusCreated, body: true, conflict: true,
	}, a.createType)
	handle(s, operation{
		method: "GET", path: "/device/types/{typeId}", id: "readType", summary: "One device type",
		status: http.StatusOK,
	}, a.readType)
	handle(s, operation{
		method: "PUT", path: "/device/types/{typeId}", id: "updateType", summary: "Change a device type; its devices stay as they are",
		status: http.StatusOK, body: true,
	}, a.updateType)
	handle(s, operation{
		method: "DELETE", path: "/device/types/{typeId}", id: "deleteType", summary: "Remove a device type that has no devices",
		status: http.StatusNoContent, conflict: true,
	}, a.deleteType)
}

// pathID is a parameter of the path. One that no identifier looks like names
// nothing, so it is not found rather than not valid.
func (c *call) pathID(parameter, what string) (policy.ID, error) {
	id, err := policy.ParseID(parameter, c.params(parameter))
	if err != nil {
		return "", notFound(what)
	}
	return id, nil
}

// bodyID is an identifier in a body.
func bodyID(field string, given *string) (policy.ID, error) {
	if given == nil {
		return "", invalid(field, "is required")
	}
	return policy.ParseID(field, *given)
}

func (a *API) listTypes(ctx context.Context, c *call, _ *none) (List[TypeObject], error) {
	return listing(c, func(page registry.Page) ([]registry.DeviceType, string, error) {
		return a.registry.Types(ctx, c.org, page)
	}, typeOrder(), typeFilters(), showType)
}

func (a *API) createType(ctx context.Context, c *call, in *NewType) (TypeObject, error) {
	id, idErr := bodyID("id", in.ID)
	class, classErr := "Device", error(nil)
	if keep(&class, in.ClassID); class != "Device" && class != "Gateway" {
		classErr = invalid("classId", "must be Device or Gateway")
	}
	if err := errors.Join(idErr, classErr); err != nil {
		return TypeObject{}, err
	}
	t := registry.DeviceType{ID: id, ClassID: class}
	in.apply(&t)
	made, err := a.registry.CreateType(ctx, c.org, t)
	return showType(&made), err
}

func (a *API) readType(ctx context.Context, c *call, _ *none) (TypeObject, error) {
	id, err := c.pathID("typeId", "device type")
	if err != nil {
		return TypeObject{}, err
	}
	t, err := a.registry.Type(ctx, c.org, id)
	return showType(&t), err
}

func (a *API) updateType(ctx context.Context, c *call, in *TypePatch) (TypeObject, error) {
	id, err := c.pathID("typeId", "device type")
	if err != nil {
		return TypeObject{}, err
	}
	t, err := a.registry.UpdateType(ctx, c.org, id, func(t *registry.DeviceType) error {
		in.apply(t)
		return nil
	})
	return showType(&t), err
}

func (a *API) deleteType(ctx context.Context, c *call, _ *none) (none, error) {
	id, err := c.pathID("typeId", "device type")
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteType(ctx, c.org, id)
}
