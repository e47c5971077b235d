package management

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// maxText is the longest message, and the longest data, of an entry of a diagnostic
// log, in bytes.
const maxText = 8 << 10

// activityStep is how exactly it is kept when a device was heard of last.
const activityStep = time.Minute

// manage makes a device a managed one, or renews that.
func (d *desk) manage(ctx context.Context, s speaker, said *message) (follow, error) {
	var in struct {
		Metadata   map[string]any  `json:"metadata"`
		Lifetime   *int64          `json:"lifetime"`
		Supports   map[string]bool `json:"supports"`
		DeviceInfo *infoPatch      `json:"deviceInfo"`
	}
	if err := said.body(&in); err != nil {
		return nil, err
	}
	now := d.m.now().UTC()
	managed, err := d.m.registry.ManageDevice(ctx, d.tenant.Org, s.typ, s.id, func(device *registry.Device, m *registry.Managed) error {
		in.DeviceInfo.apply(&device.DeviceInfo)
		if in.Metadata != nil {
			device.Metadata = in.Metadata
		}
		if m.Since.IsZero() {
			m.Since = now
		}
		m.Renewed, m.Activity, m.Lifetime, m.Supports = now, now, 0, nil
		if in.Lifetime != nil {
			m.Lifetime = *in.Lifetime
		}
		for name, supported := range in.Supports {
			if supported {
				m.Supports = append(m.Supports, name)
			}
		}
		return nil
	})
	return func() error { return d.managed(ctx, s, &managed) }, err
}

// unmanage ends that.
func (d *desk) unmanage(ctx context.Context, s speaker) error {
	err := d.m.registry.UnmanageDevice(ctx, d.tenant.Org, s.typ, s.id)
	if policy.KindOf(err) == policy.KindNotFound {
		if _, unregistered := d.m.registry.Device(ctx, d.tenant.Org, s.typ, s.id); unregistered != nil {
			return unregistered
		}
		err = nil // it was none
	}
	if err != nil {
		return err
	}
	return d.endOf(ctx, s.typ, s.id, 0, "the device does not manage itself any more")
}

// active notes that a device was heard of, if it is managed.
func (d *desk) active(ctx context.Context, s speaker) error {
	now := d.m.now().UTC()
	m, err := d.m.registry.ManagedDevice(ctx, d.tenant.Org, s.typ, s.id)
	if policy.KindOf(err) == policy.KindNotFound || err == nil && now.Sub(m.Activity) < activityStep {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.m.registry.UpdateManaged(ctx, d.tenant.Org, s.typ, s.id, func(m *registry.Managed) error {
		m.Activity = now
		return nil
	})
	if policy.KindOf(err) == policy.KindNotFound {
		return nil
	}
	return err
}

// locate notes where a device is. All of it is one value: what is left out is gone.
func (d *desk) locate(ctx context.Context, s speaker, said *message) error {
	var in struct {
		Longitude *float64 `json:"longitude"`
		Latitude  *float64 `json:"latitude"`
		Elevation *float64 `json:"elevation"`
		Accuracy  *float64 `json:"accuracy"`
		Measured  *string  `json:"measuredDateTime"`
	}
	if err := said.body(&in); err != nil {
		return err
	}
	if in.Longitude == nil || in.Latitude == nil {
		return bad("d needs longitude and latitude")
	}
	now := d.m.now().UTC()
	measured, err := moment("d.measuredDateTime", in.Measured, now)
	if err != nil {
		return err
	}
	return d.m.registry.NoteDevice(ctx, d.tenant.Org, s.typ, s.id, func(device *registry.Device) error {
		device.Location = &registry.Location{
			Longitude: *in.Longitude, Latitude: *in.Latitude, Elevation: in.Elevation, Accuracy: in.Accuracy,
			Measured: measured, Updated: now,
		}
		return nil
	})
}

// ledgerDevice is a device as the ledger knows it.
func (d *desk) ledgerDevice(ctx context.Context, s speaker) (ledger.Device, error) {
	n, err := d.m.registry.DeviceIncarnation(ctx, d.tenant.Org, s.typ, s.id)
	if err == nil && n == 0 {
		err = &refusal{unknown, "no such device"}
	}
	return ledger.Device{Type: s.typ, ID: s.id, Incarnation: n}, err
}

func (d *desk) addErrorCode(ctx context.Context, s speaker, said *message) error {
	var in struct {
		Code      *json.Number `json:"errorCode"`
		Timestamp *string      `json:"timestamp"`
	}
	if err := said.body(&in); err != nil {
		return err
	}
	if in.Code == nil {
		return bad("d needs errorCode")
	}
	number, err := in.Code.Int64()
	if err != nil {
		return bad("d.errorCode must be a whole number")
	}
	at, err := moment("d.timestamp", in.Timestamp, d.m.now().UTC())
	if err != nil {
		return err
	}
	return d.diagnose(ctx, s, ledger.ErrorCodes, ledger.Diagnostic{Code: number, Time: at})
}

func (d *desk) addLog(ctx context.Context, s speaker, said *message) error {
	var in struct {
		Message   *string  `json:"message"`
		Data      string   `json:"data"`
		Severity  *float64 `json:"severity"`
		Timestamp *string  `json:"timestamp"`
	}
	if err := said.body(&in); err != nil {
		return err
	}
	severity := 0
	switch {
	case in.Message == nil:
		return bad("d needs message")
	case len(*in.Message) > maxText || len(in.Data) > maxText:
		return bad("d.message and d.data must each be at most " + strconv.Itoa(maxText) + " bytes")
	case in.Severity == nil:
	case *in.Severity != math.Trunc(*in.Severity) || *in.Severity < 0 || *in.Severity > 2:
		return bad("d.severity must be 0, 1 or 2")
	default:
		severity = int(*in.Severity)
	}
	at, err := moment("d.timestamp", in.Timestamp, d.m.now().UTC())
	if err != nil {
		return err
	}
	return d.diagnose(ctx, s, ledger.DiagnosticLog, ledger.Diagnostic{Message: *in.Message, Data: in.Data, Severity: severity, Time: at})
}

func (d *desk) diagnose(ctx context.Context, s speaker, of ledger.Diagnosis, e ledger.Diagnostic) error {
	device, err := d.ledgerDevice(ctx, s)
	if err != nil {
		return err
	}
	if e.Time.Year() < 1970 || e.Time.Year() > 9999 {
		return bad("d.timestamp must be a time from 1970 to 9999")
	}
	e.ID, e.Time = rand.Text(), e.Time.UTC()
	return d.m.ledger.AddDiagnostic(ctx, d.tenant, device, of, e)
}

func (d *desk) clear(ctx context.Context, s speaker, of ledger.Diagnosis) error {
	device, err := d.ledgerDevice(ctx, s)
	if err != nil {
		return err
	}
	return d.m.ledger.ClearDiagnostics(ctx, d.tenant, device, of)
}

// firmwarePatch is what a device says of its firmware.
type firmwarePatch struct {
	Version      *string `json:"version"`
	Name         *string `json:"name"`
	URI          *string `json:"uri"`
	Verifier     *string `json:"verifier"`
	State        *int    `json:"state"`
	UpdateStatus *int    `json:"updateStatus"`
}

func (p *firmwarePatch) apply(f *registry.Firmware, now time.Time) {
	for _, field := range []struct{ to, from *string }{{&f.Version, p.Version}, {&f.Name, p.Name}, {&f.URI, p.URI}, {&f.Verifier, p.Verifier}} {
		if field.from != nil {
			*field.to = *field.from
		}
	}
	if p.State != nil {
		f.State = *p.State
	}
	if p.UpdateStatus != nil {
		f.UpdateStatus = *p.UpdateStatus
	}
	f.Updated = now
}

// firmwareField is the one attribute that is observed.
const firmwareField = "mgmt.firmware"

// attributes are what a device says of its attributes.
type attributes struct {
	Fields []struct {
		Field string          `json:"field"`
		Value json.RawMessage `json:"value"`
	} `json:"fields"`
}

// firmware finds what is said of it; nil: nothing.
func (said *message) firmware() (*firmwarePatch, error) {
	var in attributes
	if err := said.body(&in); err != nil {
		return nil, err
	}
	var found *firmwarePatch
	for _, f := range in.Fields {
		if f.Field != firmwareField {
			return nil, &refusal{unknown, "there is no such attribute"}
		}
		if found = new(firmwarePatch); len(f.Value) == 0 {
			continue
		}
		if err := json.Unmarshal(f.Value, found); err != nil {
			return nil, bad("the value of " + firmwareField + " is not what it should be")
		}
	}
	return found, nil
}

// noteFirmware keeps what a device says of its firmware.
func (d *desk) noteFirmware(ctx context.Context, s speaker, p *firmwarePatch) error {
	now := d.m.now().UTC()
	return d.m.registry.UpdateManaged(ctx, d.tenant.Org, s.typ, s.id, func(m *registry.Managed) error {
		f := registry.Firmware{}
		if m.Firmware != nil {
			f = *m.Firmware
		}
		p.apply(&f, now)
		m.Firmware, m.Activity = &f, now
		return nil
	})
}

// notify takes what a device tells of an attribute that is observed.
func (d *desk) notify(ctx context.Context, s speaker, said *message) (follow, error) {
	p, err := said.firmware()
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, bad("d needs fields")
	}
	return func() error {
		requests, err := d.m.ledger.OpenRequests(d.tenant, s.typ, s.id, maxOpenOfDevice)
		var errs []error
		for _, id := range requests {
			errs = append(errs, d.observed(ctx, s, id, p))
		}
		return errors.Join(append(errs, err)...)
	}, d.noteFirmware(ctx, s, p)
}
