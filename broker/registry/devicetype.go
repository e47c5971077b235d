package registry

import (
	"cmp"
	"context"
	"maps"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Classes of device types.
const (
	ClassDevice  = "Device"
	ClassGateway = "Gateway"
)

// DeviceType is the template of its devices, which copy its DeviceInfo and
// Metadata when they are created.
type DeviceType struct {
	ID          policy.ID      `json:"id"`
	ClassID     string         `json:"classId"` // ClassDevice (also when empty) or ClassGateway; fixed
	Description string         `json:"description,omitempty"`
	DeviceInfo  DeviceInfo     `json:"deviceInfo,omitzero"`
	Metadata    map[string]any `json:"metadata,omitempty"` // JSON values, at most 32 KiB encoded
	Created     time.Time      `json:"created"`
	Updated     time.Time      `json:"updated"`
}

// DeviceInfo says what a device is. Each text is at most 1024 bytes.
type DeviceInfo struct {
	SerialNumber        string `json:"serialNumber,omitempty"`
	Manufacturer        string `json:"manufacturer,omitempty"`
	Model               string `json:"model,omitempty"`
	DeviceClass         string `json:"deviceClass,omitempty"`
	Description         string `json:"description,omitempty"`
	FwVersion           string `json:"fwVersion,omitempty"`
	HwVersion           string `json:"hwVersion,omitempty"`
	DescriptiveLocation string `json:"descriptiveLocation,omitempty"`
}

// over returns d with the fields that it leaves empty taken from template.
func (d DeviceInfo) over(template DeviceInfo) DeviceInfo {
	return DeviceInfo{
		SerialNumber:        cmp.Or(d.SerialNumber, template.SerialNumber),
		Manufacturer:        cmp.Or(d.Manufacturer, template.Manufacturer),
		Model:               cmp.Or(d.Model, template.Model),
		DeviceClass:         cmp.Or(d.DeviceClass, template.DeviceClass),
		Description:         cmp.Or(d.Description, template.Description),
		FwVersion:           cmp.Or(d.FwVersion, template.FwVersion),
		HwVersion:           cmp.Or(d.HwVersion, template.HwVersion),
		DescriptiveLocation: cmp.Or(d.DescriptiveLocation, template.DescriptiveLocation),
	}
}

func (d DeviceInfo) check() error {
	for _, text := range []struct{ field, value string }{
		{"serialNumber", d.SerialNumber},
		{"manufacturer", d.Manufacturer},
		{"model", d.Model},
		{"deviceClass", d.DeviceClass},
		{"description", d.Description},
		{"fwVersion", d.FwVersion},
		{"hwVersion", d.HwVersion},
		{"descriptiveLocation", d.DescriptiveLocation},
	} {
		if err := checkText("deviceInfo."+text.field, text.value, maxText); err != nil {
			return err
		}
	}
	return nil
}

// CreateType adds a device type: policy.KindExists when its ID is taken.
func (r *Registry) CreateType(ctx context.Context, org policy.OrgID, t DeviceType) (DeviceType, error) {
	var made DeviceType
	err := r.write(ctx, "create device type", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := policy.ParseID("id", string(t.ID)); err != nil {
			return err
		}
		if err := w.absent(typeKey(h.scope, t.ID), "device type"); err != nil {
			return err
		}
		t.ClassID = cmp.Or(t.ClassID, ClassDevice)
		t.Created, t.Updated = w.now, w.now
		if err := t.check(); err != nil {
			return err
		}
		made, err = put(w, typeKey(h.scope, t.ID), t)
		return err
	})
	return made, err
}

// Type returns the device type called id, or policy.KindNotFound.
func (r *Registry) Type(_ context.Context, org policy.OrgID, id policy.ID) (DeviceType, error) {
	const op = "read device type"
	h, err := r.homeOf(org)
	if err != nil {
		return DeviceType{}, at(op, err)
	}
	found, err := load[DeviceType](r.store, typeKey(h.scope, id))
	return found.Record, at(op, missing(err, "device type"))
}

// Types lists the device types, shorter IDs first, and returns the bookmark of
// the next page, empty on the last one.
func (r *Registry) Types(_ context.Context, org policy.OrgID, page Page) ([]DeviceType, string, error) {
	const op = "list device types"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[DeviceType](r.store, h.scope, store.KindDeviceType, nil, 1, page)
	return records(found), next, at(op, err)
}

// UpdateType lets edit change the type. ID, ClassID and Created stay what they
// were, and so do existing devices. An error of edit is returned, and nothing
// is changed.
func (r *Registry) UpdateType(ctx context.Context, org policy.OrgID, id policy.ID, edit func(*DeviceType) error) (DeviceType, error) {
	var made DeviceType
	err := r.write(ctx, "update device type", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[DeviceType](r.store, typeKey(h.scope, id))
		if err != nil {
			return missing(err, "device type")
		}
		before, after := found.Record, found.Record
		if err := edit(&after); err != nil {
			return err
		}
		after.ID, after.ClassID, after.Created, after.Updated = before.ID, before.ClassID, before.Created, w.now
		if err := after.check(); err != nil {
			return err
		}
		made, err = put(w, typeKey(h.scope, id), after)
		return err
	})
	return made, err
}

// DeleteType removes the type and its claims: policy.KindConflict while it has devices.
func (r *Registry) DeleteType(ctx context.Context, org policy.OrgID, id policy.ID) error {
	return r.write(ctx, "delete device type", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := load[DeviceType](r.store, typeKey(h.scope, id)); err != nil {
			return missing(err, "device type")
		}
		inUse := false
		err = r.store.Scan(h.scope.Prefix(store.KindDevice, string(id)), store.Key{}, func(store.Key, []byte) bool {
			inUse = true
			return false
		})
		if err != nil {
			return err
		}
		if inUse {
			return &policy.Error{Kind: policy.KindConflict, Public: "the device type has devices; delete them first"}
		}
		w.delete(typeKey(h.scope, id))
		_, err = w.forgetClaims(h, func(c *Claim) bool { return c.Type == id })
		return err
	})
}

func (t *DeviceType) check() (err error) {
	if t.ClassID != ClassDevice && t.ClassID != ClassGateway {
		return invalid("classId", "must be Device or Gateway")
	}
	if err := checkText("description", t.Description, maxText); err != nil {
		return err
	}
	if err := t.DeviceInfo.check(); err != nil {
		return err
	}
	t.Metadata, err = checkJSON("metadata", t.Metadata, maxMetadata)
	return err
}

// mergeMetadata returns own with the fields that it lacks taken from template.
func mergeMetadata(own, template map[string]any) map[string]any {
	if len(template) == 0 {
		return own
	}
	merged := maps.Clone(template)
	maps.Copy(merged, own)
	return merged
}

func records[T any](entries []entry[T]) []T {
	found := make([]T, len(entries))
	for i := range entries {
		found[i] = entries[i].Record
	}
	return found
}
