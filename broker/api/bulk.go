package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

const (
	// maxBulkTypes is how many device types one bulk call may name: the policy is
	// asked about each.
	maxBulkTypes = 500
	// maxBulkChosen is how many entries may bring a token of their own: each costs a
	// slow hash, and the answer has to be sent while somebody still waits for it.
	maxBulkChosen = 500
)

// BulkDevices is what the bulk routes work on.
type BulkDevices interface {
	AddDevices(ctx context.Context, org policy.OrgID, devices []registry.NewDevice) ([]registry.Result, error)
	UpdateDevices(ctx context.Context, org policy.OrgID, edits []registry.DeviceEdit) ([]registry.Result, error)
	RemoveDevices(ctx context.Context, org policy.OrgID, names []registry.DeviceName) ([]registry.Result, error)
}

// BulkNewDevice is one entry of a bulk addition.
type BulkNewDevice struct {
	TypeID *string `json:"typeId" nullable:"false"`
	NewDevice
}

// BulkDevicePatch is one entry of a bulk update: what can be changed of one device.
type BulkDevicePatch struct {
	BulkDeviceName
	DevicePatch
}

// BulkDeviceName is one entry of a bulk removal.
type BulkDeviceName struct {
	TypeID   *string `json:"typeId" nullable:"false"`
	DeviceID *string `json:"deviceId" nullable:"false"`
}

// BulkResult is what became of one entry, at the same place.
type BulkResult struct {
	TypeID    string `json:"typeId"`
	DeviceID  string `json:"deviceId"`
	Success   bool   `json:"success"`
	AuthToken string `json:"authToken,omitempty" doc:"Of a device that was added; in this answer only."`
	Message   string `json:"message,omitempty" doc:"Why not."`
}

// BulkResults are in the order of the entries.
type BulkResults []BulkResult

func (b BulkResults) whole() bool {
	return !slices.ContainsFunc(b, func(r BulkResult) bool { return !r.Success })
}

func (a *API) bulkRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: "/bulk/devices", id: "listAllDevices", summary: "Devices of all types, by type and identifier",
		status: http.StatusOK, list: true, queries: deviceParameters(),
	}, a.listAllDevices)
	handle(s, operation{
		method: "POST", path: "/bulk/devices/add", id: "addDevices", summary: "Register devices; the answer holds their tokens, once",
		status: http.StatusCreated, partly: http.StatusAccepted, body: true, types: typesIn(func(e *BulkNewDevice) *string { return e.TypeID }),
	}, a.addDevices)
	handle(s, operation{
		method: "PUT", path: "/bulk/devices/update", id: "updateDevices", summary: "Change devices, each as PUT of the device alone does",
		status: http.StatusOK, partly: http.StatusAccepted, body: true, types: typesIn(func(e *BulkDevicePatch) *string { return e.TypeID }),
	}, a.updateDevices)
	handle(s, operation{
		method: "POST", path: "/bulk/devices/remove", id: "removeDevices", summary: "Remove devices and disconnect them; one that does not exist counts as removed",
		status: http.StatusCreated, partly: http.StatusAccepted, body: true, types: typesIn(func(e *BulkDeviceName) *string { return e.TypeID }),
	}, a.removeDevices)
}

// typesIn finds the device types that entries name. What is no identifier is not
// asked about: its entry fails.
func typesIn[Entry any](typeOf func(*Entry) *string) func(*target) ([]policy.ID, error) {
	return func(t *target) (types []policy.ID, err error) {
		var entries []Entry
		if len(t.body) == 0 {
			return nil, nil
		}
		if err := decode(t.body, &entries); err != nil {
			return nil, err
		}
		return distinctTypes(entries, typeOf)
	}
}

func distinctTypes[Entry any](entries []Entry, typeOf func(*Entry) *string) (types []policy.ID, err error) {
	seen := map[policy.ID]bool{}
	for i := range entries {
		id, err := bodyID("typeId", typeOf(&entries[i]))
		if err != nil || seen[id] {
			continue
		}
		if len(types) == maxBulkTypes {
			return nil, invalid("typeId", "must be one of at most "+strconv.Itoa(maxBulkTypes)+" in one call")
		}
		seen[id], types = true, append(types, id)
	}
	return types, nil
}

func (a *API) listAllDevices(ctx context.Context, c *call, _ *none) (List[DeviceObject], error) {
	devices, err := a.devices(ctx, c)
	if err != nil {
		return List[DeviceObject]{}, err
	}
	return listing(c, devices, deviceOrder(), deviceFilters(), showDevice(c.org))
}

// bulk is a call under way: what is known of each entry, and what the entries that
// go on to the registry are there.
type bulk[T any] struct {
	results BulkResults
	items   []T
	from    []int // the entry of each item
}

// enter makes the result of the next entry, and an item unless err says why not.
func (b *bulk[T]) enter(typ, id *string, item T, err error) {
	r := BulkResult{TypeID: value(typ), DeviceID: value(id)}
	if err != nil {
		r.Message = faultOf(err).message
	} else {
		b.items, b.from = append(b.items, item), append(b.from, len(b.results))
	}
	b.results = append(b.results, r)
}

// finish fills in what became of the items.
func (b *bulk[T]) finish(results []registry.Result, done func(error) bool) BulkResults {
	for i, r := range results {
		entry := &b.results[b.from[i]]
		if entry.Success = done(r.Err); entry.Success {
			entry.AuthToken = r.Token
		} else {
			entry.Message = faultOf(r.Err).message
		}
	}
	return b.results
}

func (a *API) addDevices(ctx context.Context, c *call, in *[]BulkNewDevice) (BulkResults, error) {
	b := bulk[registry.NewDevice]{results: BulkResults{}}
	chosenTokens := 0
	for i := range *in {
		entry := &(*in)[i]
		item, err := a.newDevice(ctx, c, entry)
		if item.Token.Len() > 0 {
			chosenTokens++
		}
		b.enter(entry.TypeID, entry.DeviceID, item, err)
	}
	if chosenTokens > maxBulkChosen {
		return nil, invalid("authToken", "must be given in at most "+strconv.Itoa(maxBulkChosen)+" entries of one call")
	}
	results, err := a.registry.AddDevices(ctx, c.org, b.items)
	if err != nil {
		return nil, err
	}
	return b.finish(results, func(err error) bool { return err == nil }), nil
}

// newDevice is what an entry asks for.
func (a *API) newDevice(ctx context.Context, c *call, in *BulkNewDevice) (registry.NewDevice, error) {
	typ, typErr := c.bulkType(in.TypeID)
	d, err := a.requested(ctx, c, typ, &in.NewDevice)
	if err := errors.Join(typErr, err); err != nil {
		return registry.NewDevice{}, err
	}
	return registry.NewDevice{Device: d, Token: chosen(in.AuthToken)}, nil
}

// bulkType is the type that an entry names, unless the policy denies it.
func (c *call) bulkType(given *string) (policy.ID, error) {
	typ, err := bodyID("typeId", given)
	if err != nil {
		return "", err
	}
	return typ, c.denied[typ]
}

func (a *API) updateDevices(ctx context.Context, c *call, in *[]BulkDevicePatch) (BulkResults, error) {
	b := bulk[registry.DeviceEdit]{results: BulkResults{}}
	now := a.now().UTC()
	for i := range *in {
		entry := &(*in)[i]
		typ, typErr := c.bulkType(entry.TypeID)
		id, idErr := bodyID("deviceId", entry.DeviceID)
		if typErr == nil && idErr == nil {
			found, err := a.finds(ctx, c, typ, id)
			if err != nil {
				return nil, err
			}
			if !found {
				idErr = notFound("device")
			}
		}
		edit := func(d *registry.Device) error { return entry.apply(d, now) }
		b.enter(entry.TypeID, entry.DeviceID, registry.DeviceEdit{DeviceName: registry.DeviceName{Type: typ, ID: id}, Edit: edit}, errors.Join(typErr, idErr))
	}
	results, err := a.registry.UpdateDevices(ctx, c.org, b.items)
	if err != nil {
		return nil, err
	}
	return b.finish(results, func(err error) bool { return err == nil }), nil
}

func (a *API) removeDevices(ctx context.Context, c *call, in *[]BulkDeviceName) (BulkResults, error) {
	b := bulk[registry.DeviceName]{results: BulkResults{}}
	for _, entry := range *in {
		typ, typErr := c.bulkType(entry.TypeID)
		id, idErr := bodyID("deviceId", entry.DeviceID)
		if typErr == nil && idErr == nil {
			found, err := a.finds(ctx, c, typ, id)
			if err != nil {
				return nil, err
			}
			if !found {
				b.results = append(b.results, BulkResult{TypeID: string(typ), DeviceID: string(id), Success: true})
				continue
			}
		}
		b.enter(entry.TypeID, entry.DeviceID, registry.DeviceName{Type: typ, ID: id}, errors.Join(typErr, idErr))
	}
	results, err := a.registry.RemoveDevices(ctx, c.org, b.items)
	if err != nil {
		return nil, err
	}
	return b.finish(results, func(err error) bool { return err == nil || policy.KindOf(err) == policy.KindNotFound }), nil
}
