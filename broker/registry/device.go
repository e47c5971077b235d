package registry

import (
	"context"
	"errors"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Device is a registered device or gateway.
type Device struct {
	Type policy.ID `json:"typeId"`
	ID   policy.ID `json:"deviceId"`
	// ClassID is that of the type; Incarnation tells the device from a deleted
	// namesake. Both are set by the registry.
	ClassID     string         `json:"classId"`
	Incarnation uint64         `json:"incarnation,omitzero"`
	Disabled    bool           `json:"disabled,omitempty"`
	DeviceInfo  DeviceInfo     `json:"deviceInfo,omitzero"`
	Location    *Location      `json:"location,omitempty"`
	Metadata    map[string]any `json:"metadata,omitempty"` // JSON values, at most 32 KiB encoded
	// Groups are those that it is in, at most 10. CreateDevice puts it there; later
	// AddToGroup and RemoveFromGroup do.
	Groups []GroupRef `json:"groups,omitempty"`
	// Roles, and Reach over other devices, are a gateway's.
	Roles   []string  `json:"roles,omitempty"`
	Reach   Reach     `json:"reach,omitzero"`
	Status  Status    `json:"status,omitzero"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// CreatedBy is the public identifier of who registered it, such as an API key.
	CreatedBy string `json:"createdBy,omitempty"`
	// The gateway that it is attached to; both empty when there is none.
	GatewayType policy.ID `json:"gatewayTypeId,omitempty"`
	GatewayID   policy.ID `json:"gatewayId,omitempty"`
}

// Location is where a device is.
type Location struct {
	Longitude float64   `json:"longitude"`           // degrees, -180 to 180
	Latitude  float64   `json:"latitude"`            // degrees, -90 to 90
	Elevation *float64  `json:"elevation,omitempty"` // metres
	Accuracy  *float64  `json:"accuracy,omitempty"`  // metres
	Measured  time.Time `json:"measuredDateTime,omitzero"`
	Updated   time.Time `json:"updatedDateTime,omitzero"`
}

// Status is what people or programs noted about a device.
type Status struct {
	Alert Alert `json:"alert,omitzero"`
}

// Alert is a mark on a device.
type Alert struct {
	Enabled   bool      `json:"enabled"`
	Timestamp time.Time `json:"timestamp,omitzero"`
}

// kind is what a principal made from the device is.
func (d *Device) kind() policy.PrincipalKind {
	if d.ClassID == ClassGateway {
		return policy.KindGateway
	}
	return policy.KindDevice
}

// CreateDevice registers d under its Type and ID with the token, or with a
// generated one if that is zero, and returns the token: it can never be read
// again. What d leaves out of DeviceInfo and Metadata comes from its type. A
// gateway gets RolePrivilegedGateway and a default group, and reaches that alone. The
// error is policy.KindExists when the device exists, policy.KindNotFound when
// the type does not.
func (r *Registry) CreateDevice(ctx context.Context, org policy.OrgID, d Device, token plugins.Secret) (Device, string, error) {
	const op = "create device"
	fresh, err := r.newSecret(ctx, org, token)
	if err != nil {
		return Device{}, "", at(op, err)
	}
	var made Device
	err = r.write(ctx, op, creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		made, err = w.addDevice(h, d, fresh)
		return err
	})
	if err != nil {
		return Device{}, "", err
	}
	return made, fresh.text, nil
}

func (w *writing) createDevice(h home, d Device) (Device, error) {
	if _, err := policy.ParseID("deviceId", string(d.ID)); err != nil {
		return Device{}, err
	}
	template, err := recall[DeviceType](w.registry, typeKey(h.scope, d.Type))
	if err != nil {
		return Device{}, missing(err, "device type")
	}
	if err := w.absent(deviceKey(h.scope, d.Type, d.ID), "device"); err != nil {
		return Device{}, err
	}
	if err := w.checkGateway(h, d); err != nil {
		return Device{}, err
	}
	d.ClassID = template.Record.ClassID
	d.Incarnation, d.Created, d.Updated = w.stamp, w.now, w.now
	d.DeviceInfo = d.DeviceInfo.over(template.Record.DeviceInfo)
	d.Metadata = mergeMetadata(d.Metadata, template.Record.Metadata)
	if err := d.check(); err != nil {
		return Device{}, err
	}
	if err := w.place(h, &d); err != nil {
		return Device{}, err
	}
	kind := SubjectChanged
	if d.Disabled {
		kind = SubjectDisabled
	}
	w.tell(d.change(kind, h))
	return put(w, deviceKey(h.scope, d.Type, d.ID), d)
}

// place puts a new device where it belongs: into the groups that it is to be in, and
// behind its gateway.
func (w *writing) place(h home, d *Device) error {
	groups, err := w.resolve(h, d.Groups)
	if err != nil {
		return err
	}
	d.Groups, d.Roles, d.Reach = nil, nil, Reach{}
	if err := w.join(h, d, groups...); err != nil {
		return err
	}
	if d.GatewayType != "" {
		w.add(store.Put(attachedKey(h.scope, DeviceName{d.GatewayType, d.GatewayID}, DeviceName{d.Type, d.ID}), present()))
	}
	if d.ClassID == ClassGateway {
		return w.endow(h, d)
	}
	return nil
}

// checkGateway refuses a gateway that does not exist or is none.
func (w *writing) checkGateway(h home, d Device) error {
	if d.GatewayType == "" && d.GatewayID == "" {
		return nil
	}
	gateway, err := load[Device](w, deviceKey(h.scope, d.GatewayType, d.GatewayID))
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && gateway.Record.ClassID != ClassGateway:
		return invalid("gatewayId", "must be a registered gateway")
	default:
		return err
	}
}

func (d *Device) check() (err error) {
	if err := d.DeviceInfo.check(); err != nil {
		return err
	}
	if d.Location != nil {
		d.Location = new(*d.Location) // the caller's stays as it is
		if err := d.Location.check(); err != nil {
			return err
		}
	}
	if err := checkTime("status.alert.timestamp", &d.Status.Alert.Timestamp); err != nil {
		return err
	}
	if err := checkText("createdBy", d.CreatedBy, maxName); err != nil {
		return err
	}
	d.Metadata, err = checkJSON("metadata", d.Metadata, maxMetadata)
	return err
}

func (l *Location) check() error {
	// Written so that a value that is not a number fails, too.
	if !(l.Longitude >= -180 && l.Longitude <= 180) {
		return invalid("location.longitude", "must be -180 to 180 degrees")
	}
	if !(l.Latitude >= -90 && l.Latitude <= 90) {
		return invalid("location.latitude", "must be -90 to 90 degrees")
	}
	if !isMetres(l.Elevation) || !isMetres(l.Accuracy) {
		return invalid("location", "elevation and accuracy must be finite numbers of metres")
	}
	if err := checkTime("location.measuredDateTime", &l.Measured); err != nil {
		return err
	}
	return checkTime("location.updatedDateTime", &l.Updated)
}

func isMetres(m *float64) bool { return m == nil || *m >= -1e12 && *m <= 1e12 }

func (d *Device) change(kind ChangeKind, h home) Change {
	return Change{
		Kind: kind, Org: h.Record.ID, Incarnation: h.Record.Incarnation,
		PrincipalKind: d.kind(), Type: d.Type, ID: d.ID, DeviceIncarnation: d.Incarnation,
	}
}

// Device returns one device, or policy.KindNotFound.
func (r *Registry) Device(_ context.Context, org policy.OrgID, typ, id policy.ID) (Device, error) {
	const op = "read device"
	h, err := r.homeOf(org)
	if err != nil {
		return Device{}, at(op, err)
	}
	found, err := load[Device](r.store, deviceKey(h.scope, typ, id))
	return found.Record, at(op, missing(err, "device"))
}

// Devices lists the devices of one type, or of all with an empty typ, and
// returns the bookmark of the next page, empty on the last one. The list of a
// type that does not exist is policy.KindNotFound.
func (r *Registry) Devices(_ context.Context, org policy.OrgID, typ policy.ID, page Page) ([]Device, string, error) {
	const op = "list devices"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	var first []string
	if typ != "" {
		if _, err := load[DeviceType](r.store, typeKey(h.scope, typ)); err != nil {
			return nil, "", at(op, missing(err, "device type"))
		}
		first = []string{string(typ)}
	}
	found, next, err := list[Device](r.store, h.scope, store.KindDevice, first, 2, page)
	return records(found), next, at(op, err)
}

// UpdateDevice lets edit change the device. Type, ID, ClassID, Incarnation,
// Created, CreatedBy, Groups and the gateway stay what they were; Roles and Reach are
// a gateway's to change, and what is restricted once stays so. An error of edit is
// returned, and nothing is changed. Disabling refuses the device's credentials;
// setting Disabled back to false enables it again.
func (r *Registry) UpdateDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*Device) error) (Device, error) {
	var made Device
	err := r.write(ctx, "update device", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		made, err = w.updateDevice(h, DeviceName{typ, id}, edit)
		return err
	})
	return made, err
}

// DeleteDevice removes the device and its token.
func (r *Registry) DeleteDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) error {
	return r.write(ctx, "delete device", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		_, err = w.removeDevice(h, DeviceName{typ, id})
		return err
	})
}

// ReplaceDeviceToken gives the device another token, or a generated one if
// token is zero, and returns it: it can never be read again. The token so far
// stays good for grace, 0 to 24 hours; one whose grace was still running dies
// at once.
func (r *Registry) ReplaceDeviceToken(ctx context.Context, org policy.OrgID, typ, id policy.ID, token plugins.Secret, grace time.Duration) (string, error) {
	const op = "replace device token"
	fresh, err := r.newSecret(ctx, org, token)
	if err != nil {
		return "", at(op, err)
	}
	err = r.write(ctx, op, removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[Device](r.store, deviceKey(h.scope, typ, id))
		if err != nil {
			return missing(err, "device")
		}
		return w.replaceCredential(h, deviceCredential(typ, id), fresh, grace, found.Record.change(CredentialReplaced, h))
	})
	if err != nil {
		return "", err
	}
	return fresh.text, nil
}

// DeviceFacts is what the registry knows of a device that a topic names. A
// device that it does not know is no error: Registered is false.
func (r *Registry) DeviceFacts(_ context.Context, org policy.OrgID, typ, id policy.ID) (*policy.Device, error) {
	const op = "read device"
	scope, err := r.scopeOf(org)
	if err != nil {
		return nil, at(op, missing(err, "organisation"))
	}
	facts := &policy.Device{Type: typ, ID: id}
	found, err := recall[Device](r, deviceKey(scope, typ, id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return facts, nil
	case err != nil:
		return nil, at(op, err)
	}
	groups, err := r.live(scope, found.Record.Groups)
	if err != nil {
		return nil, at(op, err)
	}
	facts.Registered, facts.Groups, facts.Status = true, names(groups), "enabled"
	if found.Record.Disabled {
		facts.Status = "disabled"
	}
	return facts, nil
}
