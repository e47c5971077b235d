package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
)

// EventObject is the last event of one name that a device sent.
type EventObject struct {
	DeviceID  string    `json:"deviceId"`
	EventID   string    `json:"eventId"`
	Format    string    `json:"format"`
	Payload   string    `json:"payload" doc:"In base64."`
	Timestamp timestamp `json:"timestamp"`
	TypeID    string    `json:"typeId"`
}

func showEvent(d ledger.Device, e *ledger.Event) EventObject {
	return EventObject{
		DeviceID: string(d.ID), EventID: e.Name, Format: e.Format,
		Payload: base64.StdEncoding.EncodeToString(e.Payload), Timestamp: timestamp{e.Time}, TypeID: string(d.Type),
	}
}

// eventCacheOff is what the platform called a cache that is switched off.
const eventCacheOff = "CUDCS0105E"

func (a *API) eventRoutes(s *surface) {
	const all = "/device/types/{typeId}/devices/{deviceId}/events"
	handle(s, operation{
		method: "GET", path: all, id: "listLastEvents", summary: "The last event of each name that a device sent",
		status: http.StatusOK,
	}, a.listEvents)
	handle(s, operation{
		method: "GET", path: all + "/{eventId}", id: "readLastEvent", summary: "The last event of a name that a device sent",
		status: http.StatusOK,
	}, a.readEvent)
}

// cached is the device that the path names, and since when its events count.
func (a *API) cached(ctx context.Context, c *call) (ledger.Tenant, ledger.Device, time.Time, error) {
	n, _, err := a.noting(ctx, c)
	if err == nil && !n.LastEvents {
		err = &fault{status: http.StatusForbidden, id: eventCacheOff, message: "the last event cache is switched off; PUT /config/lec switches it on"}
	}
	if err != nil {
		return ledger.Tenant{}, ledger.Device{}, time.Time{}, err
	}
	t, d, err := a.pathDevice(ctx, c)
	return t, d, a.now().Add(-time.Duration(n.TTLDays) * 24 * time.Hour), err
}

func (a *API) listEvents(ctx context.Context, c *call, _ *none) ([]EventObject, error) {
	t, d, since, err := a.cached(ctx, c)
	if err != nil {
		return nil, err
	}
	found, err := a.ledger.Events(t, d, since)
	events := []EventObject{}
	for i := range found {
		events = append(events, showEvent(d, &found[i]))
	}
	sortEvents(events)
	return events, err
}

func (a *API) readEvent(ctx context.Context, c *call, _ *none) (EventObject, error) {
	t, d, since, err := a.cached(ctx, c)
	if err != nil {
		return EventObject{}, err
	}
	name := c.params("eventId")
	if !isLevel(name) {
		return EventObject{}, notFound("event")
	}
	e, ok, err := a.ledger.Event(t, d, name, since)
	if err == nil && !ok {
		err = notFound("event")
	}
	return showEvent(d, &e), err
}
