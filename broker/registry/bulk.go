package registry

import (
	"context"
	"maps"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// NewDevice is a device to be added. A zero Token has one generated.
type NewDevice struct {
	Device Device
	Token  plugins.Secret
}

// DeviceName names a device inside its organisation.
type DeviceName struct{ Type, ID policy.ID }

// DeviceEdit changes one device, as the function of UpdateDevice does.
type DeviceEdit struct {
	DeviceName
	Edit func(*Device) error
}

// Result is what became of one device of a bulk call.
type Result struct {
	Device Device // as it is stored; of a removal, as it was
	Token  string // of an addition; it can never be read again
	Err    error  // nil: it was done
}

// Bounds of one commit of a bulk call. Other writers wait no longer than it
// takes, and it stays far below what the store accepts.
const (
	bulkStep  = 256
	bulkBytes = store.MaxBatchBytes / 2
)

// AddDevices registers each device as CreateDevice would, in order, many in one
// commit. A device and its token are always in the same one, so an interrupted
// call leaves whole devices: those that came first. The error says that nothing was
// added at all; otherwise there is one Result for each device. A device that
// cannot be added does not keep the others from it.
func (r *Registry) AddDevices(ctx context.Context, org policy.OrgID, devices []NewDevice) ([]Result, error) {
	const op = "add devices"
	fresh := make([]secret, len(devices))
	return inSteps(devices, func(from int, results []Result) (int, error) {
		end := min(from+bulkStep, len(devices))
		for i := from; i < end; i++ {
			if fresh[i].text == "" { // not drawn yet
				fresh[i], results[i].Err = r.newSecret(ctx, org, devices[i].Token)
				results[i].Err = at(op, results[i].Err)
			}
		}
		next := from
		err := r.write(ctx, op, creation, func(w *writing) error {
			h, err := r.homeOf(org)
			if err != nil {
				return err
			}
			w.pending = make(map[store.Key]int)
			for ; next < end && w.size < bulkBytes; next++ {
				if results[next].Err != nil {
					continue
				}
				results[next] = Result{Token: fresh[next].text}
				results[next].Err = at(op, w.attempt(func() (err error) {
					results[next].Device, err = w.addDevice(h, devices[next].Device, fresh[next])
					return err
				}))
			}
			return nil
		})
		return next, err
	})
}

// RemoveDevices removes each device as DeleteDevice would, many in one commit. An
// interrupted call leaves whole devices: those that came last. The error says that
// nothing was removed; otherwise there is one Result for each device.
func (r *Registry) RemoveDevices(ctx context.Context, org policy.OrgID, names []DeviceName) ([]Result, error) {
	const op = "remove devices"
	return inSteps(names, func(from int, results []Result) (int, error) {
		next := from
		err := r.write(ctx, op, removal, func(w *writing) error {
			h, err := r.homeOf(org)
			if err != nil {
				return err
			}
			w.pending = make(map[store.Key]int)
			for end := min(from+bulkStep, len(names)); next < end; next++ {
				results[next].Err = at(op, w.attempt(func() (err error) {
					results[next].Device, err = w.removeDevice(h, names[next])
					return err
				}))
			}
			return nil
		})
		return next, err
	})
}

// UpdateDevices changes each device as UpdateDevice would, in order, many in one
// commit. A device is changed as its edit says or not at all, so an interrupted call
// leaves whole edits: those that came first. The error says that nothing was
// changed; otherwise there is one Result for each device.
func (r *Registry) UpdateDevices(ctx context.Context, org policy.OrgID, edits []DeviceEdit) ([]Result, error) {
	const op = "update devices"
	return inSteps(edits, func(from int, results []Result) (int, error) {
		next := from
		err := r.write(ctx, op, removal, func(w *writing) error {
			h, err := r.homeOf(org)
			if err != nil {
				return err
			}
			w.pending = make(map[store.Key]int)
			for end := min(from+bulkStep, len(edits)); next < end && w.size < bulkBytes; next++ {
				results[next].Err = at(op, w.attempt(func() (err error) {
					results[next].Device, err = w.updateDevice(h, edits[next].DeviceName, edits[next].Edit)
					return err
				}))
			}
			return nil
		})
		return next, err
	})
}

// inSteps runs step, which does some of the items and returns where the next begins,
// until all are done. When a step fails, so has everything from its beginning on.
func inSteps[T any](items []T, step func(from int, results []Result) (next int, err error)) ([]Result, error) {
	results := make([]Result, len(items))
	for from := 0; from < len(items); {
		next, err := step(from, results)
		if err != nil && from == 0 {
			return nil, err
		}
		if err != nil {
			for i := from; i < len(items); i++ {
				results[i] = Result{Err: err}
			}
			return results, nil
		}
		from = next
	}
	for i := range results {
		if results[i].Err != nil {
			results[i] = Result{Err: results[i].Err}
		}
	}
	return results, nil
}

// attempt runs fn and takes back what it gathered if it fails.
func (w *writing) attempt(fn func() error) error {
	ops, changes, size := len(w.ops), len(w.changes), w.size
	gone, regrouped, members := len(w.gone), len(w.regrouped), maps.Clone(w.members)
	err := fn()
	if err == nil {
		return nil
	}
	w.changes, w.gone, w.regrouped, w.members = w.changes[:changes], w.gone[:gone], w.regrouped[:regrouped], members
	if len(w.ops) > ops {
		w.ops, w.size = w.ops[:ops], size
		clear(w.pending)
		for i, op := range w.ops {
			w.pending[op.Key()] = i
		}
	}
	return err
}

// addDevice is a device with its first token.
func (w *writing) addDevice(h home, d Device, fresh secret) (Device, error) {
	made, err := w.createDevice(h, d)
	if err != nil {
		return Device{}, err
	}
	return made, w.setCredential(h, deviceCredential(d.Type, d.ID), fresh)
}

// updateDevice changes a device as edit says.
func (w *writing) updateDevice(h home, name DeviceName, edit func(*Device) error) (Device, error) {
	key := deviceKey(h.scope, name.Type, name.ID)
	found, err := load[Device](w, key)
	if err != nil {
		return Device{}, missing(err, "device")
	}
	before, after := found.Record, found.Record
	if err := edit(&after); err != nil {
		return Device{}, err
	}
	after.Type, after.ID, after.ClassID, after.Incarnation = before.Type, before.ID, before.ClassID, before.Incarnation
	after.Created, after.CreatedBy, after.Updated = before.Created, before.CreatedBy, w.now
	after.GatewayType, after.GatewayID = before.GatewayType, before.GatewayID
	if err := after.check(); err != nil {
		return Device{}, err
	}
	if err := w.keepPlaces(h, &before, &after); err != nil {
		return Device{}, err
	}
	kind := SubjectChanged
	if after.Disabled {
		kind = SubjectDisabled
	}
	w.tell(after.change(kind, h))
	return put(w, key, after)
}

// removeDevice takes a device and its token away.
func (w *writing) removeDevice(h home, name DeviceName) (Device, error) {
	found, err := load[Device](w, deviceKey(h.scope, name.Type, name.ID))
	if err != nil {
		return Device{}, missing(err, "device")
	}
	w.delete(deviceKey(h.scope, name.Type, name.ID))
	w.delete(deviceCredential(name.Type, name.ID).key(h.scope))
	w.forgetManaged(h, name.Type, name.ID)
	w.tell(found.Record.change(SubjectDeleted, h))
	return found.Record, w.vacate(h, &found.Record)
}

// Get reads what this write is about to store, or else what is stored.
func (w *writing) Get(key store.Key) ([]byte, error) {
	if at, ok := w.pending[key]; ok {
		if op := w.ops[at]; !op.IsDelete() {
			return op.Value(), nil
		}
		return nil, store.ErrNotFound
	}
	return w.registry.store.Get(key)
}

// add gathers an operation.
func (w *writing) add(op store.Op) {
	if w.pending != nil {
		w.pending[op.Key()] = len(w.ops)
	}
	w.ops = append(w.ops, op)
	w.size += op.Size()
}
