package api

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// A call may be about the devices of some groups alone: the policy said so when it
// admitted the caller. What such a call finds is what is in those groups, and what it
// does not find it cannot tell from what does not exist. A device or group in the path
// was judged at the door, which answers 404; this file is for what a query, a body or a
// list can show.

// reaches reports whether the call is about devices in these groups.
func (c *call) reaches(groups []string) bool {
	return c.groups == nil || slices.ContainsFunc(groups, func(g string) bool { return slices.Contains(c.groups, g) })
}

// finds reports whether there is such a device for the call. One that may see all
// leaves the answer to whoever works with the device.
func (a *API) finds(ctx context.Context, c *call, typ, id policy.ID) (bool, error) {
	if c.groups == nil {
		return true, nil
	}
	d, err := a.registry.DeviceFacts(ctx, c.org, typ, id)
	return err == nil && c.reaches(d.Groups), err
}

// devicesFor is a page of the devices that the call finds, of one type or of all.
func (a *API) devicesFor(ctx context.Context, c *call, typ policy.ID, page registry.Page) ([]registry.Device, string, error) {
	if c.groups == nil {
		return a.registry.Devices(ctx, c.org, typ, page)
	}
	return a.registry.Reached(ctx, c.org, typ, c.groups, page)
}

// statesFor is a page of the states of devices that the call finds, under the client
// IDs that the platform gives them. It looks up each of them: what lies between is
// nobody's business.
func (a *API) statesFor(ctx context.Context, c *call, t ledger.Tenant, after string, limit int, match func(*ledger.State) bool) (found []ledger.State, next string, err error) {
	clients := map[string]registry.Device{}
	for page := (registry.Page{Limit: 1000}); ; {
		list, more, err := a.devicesFor(ctx, c, "", page)
		if err != nil {
			return nil, "", err
		}
		for i := range list {
			if id := clientID(c.org, &list[i]); id > after {
				clients[id] = list[i]
			}
		}
		if page.After = more; more == "" {
			break
		}
	}
	for _, id := range slices.Sorted(maps.Keys(clients)) {
		s, ok, err := a.ledger.State(t, id)
		if err != nil {
			return nil, "", err
		}
		if d := clients[id]; !ok || s.Device != d.Incarnation || s.Type != d.Type || s.ID != d.ID || !match(&s) {
			continue
		}
		if len(found) == limit {
			return found, makeStateBookmark(found[limit-1].ClientID), nil
		}
		found = append(found, s)
	}
	return found, "", nil
}

// judgedDevice is what the policy is told of the device that a path names; nil where
// it names none.
func (d *door) judgedDevice(ctx context.Context, org policy.OrgID, params map[string]string) (*policy.Device, error) {
	typ, id := params["typeId"], params["deviceId"]
	if client, ok := params["clientId"]; ok {
		parts := strings.Split(client, ":")
		if len(parts) != 4 || parts[0] != "d" && parts[0] != "g" || parts[1] != org.String() {
			return nil, nil //nolint:nilnil // it names none
		}
		typ, id = parts[2], parts[3]
	}
	typeID, typErr := policy.ParseID("typeId", typ)
	deviceID, idErr := policy.ParseID("deviceId", id)
	if typErr != nil || idErr != nil {
		return nil, nil //nolint:nilerr,nilnil // it names none
	}
	return d.api.registry.DeviceFacts(ctx, org, typeID, deviceID)
}

// hiddenAs is what a caller is told of what is hidden: what the route says of what is
// not there.
func hiddenAs(op *operation) error {
	switch {
	case namesGroup(op.path):
		return notFound("group")
	case strings.HasPrefix(op.path, "/clientconnectionstates/"):
		return notFound("client")
	default:
		return notFound("device")
	}
}

// narrower is what both a and b are about; nil is everything.
func narrower(a, b []string) []string {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(g string) bool { return !slices.Contains(b, g) })
}
