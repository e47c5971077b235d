package registry

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of device management.
const (
	// MinLifetime is the shortest lifetime that a device may state; 0 is for ever.
	MinLifetime = time.Hour
	// MaxLifetime is the longest.
	MaxLifetime = 10 * 365 * 24 * time.Hour

	maxSupports     = 64
	maxBundles      = 50
	maxBundleSize   = 64 << 10 // bytes as JSON
	maxBundleParts  = 64       // actions of a bundle, parameters of an action, languages
	maxManagementID = 255
)

// What a device may support beside bundles of its organisation.
const (
	SupportsDeviceActions   = "deviceActions"
	SupportsFirmwareActions = "firmwareActions"
)

// Managed is what a device that manages itself said of that. It goes with the
// device.
type Managed struct {
	Type policy.ID `json:"typeId"`
	ID   policy.ID `json:"deviceId"`
	// Since is when it asked first, and Renewed when last.
	Since   time.Time `json:"since"`
	Renewed time.Time `json:"renewed"`
	// Lifetime is how many seconds after Renewed it becomes dormant; 0: never.
	Lifetime int64 `json:"lifetime,omitempty"`
	// Supports has names of bundles, SupportsDeviceActions and
	// SupportsFirmwareActions; sorted, each once.
	Supports []string  `json:"supports,omitempty"`
	Activity time.Time `json:"activity"` // when it was last heard of, about to the minute
	Firmware *Firmware `json:"firmware,omitempty"`
}

// Firmware is what is known of a device's firmware, beside its version.
type Firmware struct {
	Version      string    `json:"version,omitempty"`
	Name         string    `json:"name,omitempty"`
	URI          string    `json:"uri,omitempty"`
	Verifier     string    `json:"verifier,omitempty"`
	State        int       `json:"state"`        // 0 idle, 1 downloading, 2 downloaded
	UpdateStatus int       `json:"updateStatus"` // 0 success, 1 in progress, 2 and above: an error
	Updated      time.Time `json:"updatedDateTime,omitzero"`
}

// Ends is when the lifetime ends; zero: never.
func (m *Managed) Ends() time.Time {
	if m.Lifetime == 0 {
		return time.Time{}
	}
	return m.Renewed.Add(time.Duration(m.Lifetime) * time.Second)
}

// Dormant reports whether the lifetime has ended.
func (m *Managed) Dormant(now time.Time) bool { return m.Lifetime != 0 && !now.Before(m.Ends()) }

func (m *Managed) check() error {
	if m.Lifetime != 0 && (m.Lifetime < int64(MinLifetime/time.Second) || m.Lifetime > int64(MaxLifetime/time.Second)) {
		return invalid("lifetime", "must be 0, or at least 3600 seconds and at most ten years")
	}
	if len(m.Supports) > maxSupports {
		return invalid("supports", "must have at most "+strconv.Itoa(maxSupports)+" entries")
	}
	slices.Sort(m.Supports)
	m.Supports = slices.Compact(m.Supports)
	for _, name := range m.Supports {
		if !isManagementID(name) {
			return invalid("supports", "must have names of 1 to 255 letters, digits, '-', '_' and '.'")
		}
	}
	if f := m.Firmware; f != nil {
		if err := f.check(); err != nil {
			return err
		}
	}
	return checkMoments(&m.Since, &m.Renewed, &m.Activity)
}

func (f *Firmware) check() error {
	for _, text := range []struct{ field, value string }{{"version", f.Version}, {"name", f.Name}, {"uri", f.URI}, {"verifier", f.Verifier}} {
		if err := checkText("firmware."+text.field, text.value, maxText); err != nil {
			return err
		}
	}
	if f.State < 0 || f.State > 2 {
		return invalid("firmware.state", "must be 0, 1 or 2")
	}
	if f.UpdateStatus < 0 || f.UpdateStatus > 6 {
		return invalid("firmware.updateStatus", "must be 0 to 6")
	}
	return checkTime("firmware.updatedDateTime", &f.Updated)
}

func isManagementID(s string) bool {
	if s == "" || len(s) > maxManagementID {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	return true
}

func managedKey(s store.Scope, typ, id policy.ID) store.Key {
	return s.Key(store.KindManagedDevice, string(typ), string(id))
}

// ManageDevice lets edit change a device and what is known of how it is managed,
// which is zero for one that is not managed yet. An error of edit is returned, and
// nothing is changed. Of the device, what UpdateDevice may change is changed; whoever
// watches is told only if policies see that. The error is policy.KindNotFound for a
// device that there is not.
func (r *Registry) ManageDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*Device, *Managed) error) (Managed, error) {
	var made Managed
	err := r.write(ctx, "manage device", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[Managed](r.store, managedKey(h.scope, typ, id))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		m := found.Record
		if err := w.noteDevice(h, typ, id, func(d *Device) error { return edit(d, &m) }); err != nil {
			return err
		}
		m.Type, m.ID = typ, id
		if err := m.check(); err != nil {
			return err
		}
		made, err = put(w, managedKey(h.scope, typ, id), m)
		return err
	})
	return made, err
}

// NoteDevice is ManageDevice for what concerns the device alone, managed or not.
func (r *Registry) NoteDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*Device) error) error {
	return r.write(ctx, "note about device", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		return w.noteDevice(h, typ, id, edit)
	})
}

// noteDevice changes a device by its own word: what policies do not see is nobody's
// reason to judge it again.
func (w *writing) noteDevice(h home, typ, id policy.ID, edit func(*Device) error) error {
	key := deviceKey(h.scope, typ, id)
	found, err := load[Device](w, key)
	if err != nil {
		return missing(err, "device")
	}
	before, after := found.Record, found.Record
	if err := edit(&after); err != nil {
		return err
	}
	noted := before
	noted.DeviceInfo, noted.Location, noted.Metadata = after.DeviceInfo, after.Location, after.Metadata
	if err := noted.check(); err != nil {
		return err
	}
	if reflect.DeepEqual(noted, before) {
		return nil
	}
	noted.Updated = w.now
	if !reflect.DeepEqual(noted.Metadata, before.Metadata) {
		kind := SubjectChanged
		if noted.Disabled {
			kind = SubjectDisabled
		}
		w.tell(noted.change(kind, h))
	}
	return save(w, key, noted)
}

// ManagedDevice returns how a device is managed, or policy.KindNotFound.
func (r *Registry) ManagedDevice(_ context.Context, org policy.OrgID, typ, id policy.ID) (Managed, error) {
	const op = "read managed device"
	h, err := r.homeOf(org)
	if err != nil {
		return Managed{}, at(op, err)
	}
	found, err := load[Managed](r.store, managedKey(h.scope, typ, id))
	return found.Record, at(op, missing(err, "managed device"))
}

// UpdateManaged lets edit change how a device is managed; policy.KindNotFound if it
// is not.
func (r *Registry) UpdateManaged(ctx context.Context, org policy.OrgID, typ, id policy.ID, edit func(*Managed) error) error {
	return r.write(ctx, "update managed device", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		key := managedKey(h.scope, typ, id)
		found, err := load[Managed](r.store, key)
		if err != nil {
			return missing(err, "managed device")
		}
		m := found.Record
		if err := edit(&m); err != nil {
			return err
		}
		m.Type, m.ID = typ, id
		if err := m.check(); err != nil {
			return err
		}
		return save(w, key, m)
	})
}

// UnmanageDevice forgets how a device is managed; policy.KindNotFound if it is not.
func (r *Registry) UnmanageDevice(ctx context.Context, org policy.OrgID, typ, id policy.ID) error {
	return r.write(ctx, "unmanage device", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := r.store.Get(managedKey(h.scope, typ, id)); err != nil {
			return missing(err, "managed device")
		}
		w.delete(managedKey(h.scope, typ, id))
		return nil
	})
}

// forgetManaged is part of a device's removal.
func (w *writing) forgetManaged(h home, typ, id policy.ID) {
	if _, err := w.Get(managedKey(h.scope, typ, id)); err == nil {
		w.delete(managedKey(h.scope, typ, id))
	}
}

func takeManaged(s *staging, l *exportLine) (placed, error) {
	m, err := taken[Managed](l)
	if err != nil {
		return placed{}, err
	}
	_, typErr := policy.ParseID("typeId", string(m.Type))
	_, idErr := policy.ParseID("deviceId", string(m.ID))
	if err := errors.Join(typErr, idErr, m.check()); err != nil {
		return placed{}, err
	}
	if _, err := s.registry.store.Get(deviceKey(s.scope, m.Type, m.ID)); err != nil {
		if errors.Is(err, store.ErrNotFound) {
			err = invalid("deviceId", "must be a device of the file")
		}
		return placed{}, err
	}
	return placed{[]string{string(m.Type), string(m.ID)}, saved(m)}, nil
}

// adoptManaged adds what the organisation does not know of one of its devices.
func adoptManaged(w *writing, s *staging, h home, name []string) (bool, error) {
	typ, id := policy.ID(name[0]), policy.ID(name[1])
	key := managedKey(h.scope, typ, id)
	m, isNew, err := staged[Managed](w, s, key, managedKey(s.scope, typ, id))
	if err != nil || !isNew {
		return false, err
	}
	if _, err := w.Get(deviceKey(h.scope, typ, id)); err != nil {
		return false, missing(err, "device")
	}
	return true, save(w, key, m)
}
