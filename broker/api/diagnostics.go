package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// maxDiagnosticText is the longest message, and the longest data, of an entry of a
// diagnostic log, in bytes.
const maxDiagnosticText = ledger.MaxDiagnosticText

func sortEvents(events []EventObject) {
	slices.SortFunc(events, func(a, b EventObject) int { return strings.Compare(a.EventID, b.EventID) })
}

// LocationObject says where a device is.
type LocationObject struct {
	Longitude float64   `json:"longitude"`
	Latitude  float64   `json:"latitude"`
	Elevation *float64  `json:"elevation"`
	Accuracy  *float64  `json:"accuracy"`
	Measured  timestamp `json:"measuredDateTime"`
	Updated   timestamp `json:"updatedDateTime"`
}

func showLocation(l *registry.Location) LocationObject {
	if l == nil {
		return LocationObject{}
	}
	return LocationObject{l.Longitude, l.Latitude, l.Elevation, l.Accuracy, timestamp{l.Measured}, timestamp{l.Updated}}
}

// DiagnosticLogObject is an entry of a device's diagnostic log.
type DiagnosticLogObject struct {
	ID        string    `json:"id"`
	Message   string    `json:"message"`
	Severity  int       `json:"severity" enum:"0,1,2" doc:"0 informational, 1 warning, 2 error."`
	Data      string    `json:"data"`
	Timestamp timestamp `json:"timestamp"`
}

// NewDiagnosticLog asks for one.
type NewDiagnosticLog struct {
	Message   *string `json:"message" nullable:"false"`
	Severity  *int    `json:"severity,omitempty" nullable:"true" enum:"0,1,2"`
	Data      *string `json:"data,omitempty" nullable:"true"`
	Timestamp *string `json:"timestamp,omitempty" nullable:"true" format:"date-time" doc:"Now, unless stated."`
}

// ErrorCodeObject is an error that a device had.
type ErrorCodeObject struct {
	ErrorCode int64     `json:"errorCode"`
	Timestamp timestamp `json:"timestamp"`
}

// NewErrorCode asks for one.
type NewErrorCode struct {
	ErrorCode *json.Number `json:"errorCode" nullable:"false"`
	Timestamp *string      `json:"timestamp,omitempty" nullable:"true" format:"date-time" doc:"Now, unless stated."`
}

// behindRoutes are the resources of a device that the registry has.
func (a *API) behindRoutes(s *surface) {
	const one = "/device/types/{typeId}/devices/{deviceId}"
	handle(s, operation{
		method: "GET", path: one + "/devices", id: "listDevicesBehind", summary: "Devices that are attached to a gateway",
		status: http.StatusOK, list: true,
	}, a.listBehind)
	handle(s, operation{
		method: "GET", path: one + "/location", id: "readLocation", summary: "Where a device is",
		status: http.StatusOK,
	}, a.readLocation)
	handle(s, operation{
		method: "PUT", path: one + "/location", id: "updateLocation", summary: "Say where a device is",
		status: http.StatusOK, body: true,
	}, a.updateLocation)
	handle(s, operation{
		method: "GET", path: one + "/mgmt", id: "readManagement", summary: "What a managed device supports",
		status: http.StatusOK,
	}, a.readManagement)
}

func (a *API) diagnosticRoutes(s *surface) {
	const logs, codes = "/device/types/{typeId}/devices/{deviceId}/diag/logs", "/device/types/{typeId}/devices/{deviceId}/diag/errorCodes"
	handle(s, operation{
		method: "GET", path: logs, id: "listDiagnosticLogs", summary: "A device's diagnostic log",
		status: http.StatusOK,
	}, a.listDiagnosticLogs)
	handle(s, operation{
		method: "POST", path: logs, id: "addDiagnosticLog", summary: "Add to a device's diagnostic log; the oldest entries make room",
		status: http.StatusCreated, body: true,
	}, a.addDiagnosticLog)
	handle(s, operation{
		method: "DELETE", path: logs, id: "clearDiagnosticLogs", summary: "Clear a device's diagnostic log",
		status: http.StatusNoContent,
	}, a.clearDiagnostics(ledger.DiagnosticLog))
	handle(s, operation{
		method: "GET", path: logs + "/{logId}", id: "readDiagnosticLog", summary: "One entry of a device's diagnostic log",
		status: http.StatusOK,
	}, a.readDiagnosticLog)
	handle(s, operation{
		method: "DELETE", path: logs + "/{logId}", id: "deleteDiagnosticLog", summary: "Remove one entry of a device's diagnostic log",
		status: http.StatusNoContent,
	}, a.deleteDiagnosticLog)
	handle(s, operation{
		method: "GET", path: codes, id: "listErrorCodes", summary: "A device's error codes",
		status: http.StatusOK,
	}, a.listErrorCodes)
	handle(s, operation{
		method: "POST", path: codes, id: "addErrorCode", summary: "Add an error code of a device; the oldest ones make room",
		status: http.StatusCreated, body: true,
	}, a.addErrorCode)
	handle(s, operation{
		method: "DELETE", path: codes, id: "clearErrorCodes", summary: "Clear a device's error codes",
		status: http.StatusNoContent,
	}, a.clearDiagnostics(ledger.ErrorCodes))
}

func (a *API) listBehind(ctx context.Context, c *call, _ *none) (List[DeviceObject], error) {
	typ, id, err := c.device()
	if err != nil {
		return List[DeviceObject]{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	if err == nil && d.ClassID != registry.ClassGateway {
		err = &fault{status: http.StatusForbidden, message: "the device is no gateway"}
	}
	if err != nil {
		return List[DeviceObject]{}, err
	}
	page, err := c.page()
	if err != nil {
		return List[DeviceObject]{}, err
	}
	return filtered(page, func(page registry.Page) ([]registry.Device, string, error) {
		return a.devicesFor(ctx, c, "", page)
	}, func(d *registry.Device) bool { return d.GatewayType == typ && d.GatewayID == id }, showDevice(c.org))
}

func (a *API) readLocation(ctx context.Context, c *call, _ *none) (LocationObject, error) {
	typ, id, err := c.device()
	if err != nil {
		return LocationObject{}, err
	}
	d, err := a.registry.Device(ctx, c.org, typ, id)
	if err == nil && d.Location == nil {
		err = notFound("location")
	}
	return showLocation(d.Location), err
}

// updateLocation keeps what is stored of the fields that are null or absent.
func (a *API) updateLocation(ctx context.Context, c *call, in *LocationInput) (LocationObject, error) {
	typ, id, err := c.device()
	if err != nil {
		return LocationObject{}, err
	}
	d, err := a.registry.UpdateDevice(ctx, c.org, typ, id, func(d *registry.Device) error {
		merged := *in
		if so := d.Location; so != nil {
			merged = LocationInput{Longitude: &so.Longitude, Latitude: &so.Latitude, Elevation: so.Elevation, Accuracy: so.Accuracy, Measured: in.Measured}
			overlay(&merged.Longitude, in.Longitude)
			overlay(&merged.Latitude, in.Latitude)
			overlay(&merged.Elevation, in.Elevation)
			overlay(&merged.Accuracy, in.Accuracy)
		}
		var err error
		d.Location, err = merged.record(a.now().UTC())
		return err
	})
	if err == nil && a.management != nil {
		if t, err := a.tenant(ctx, c); err == nil {
			a.management.Located(ctx, t, typ, id, d.Location)
		}
	}
	return showLocation(d.Location), err
}

func overlay[T any](kept **T, given *T) {
	if given != nil {
		*kept = given
	}
}

// stated is the moment that a body states, or now.
func (a *API) stated(text *string) (time.Time, error) {
	if text == nil {
		return a.now().UTC(), nil
	}
	return parseTime("timestamp", *text)
}

func showDiagnosticLog(e *ledger.Diagnostic) DiagnosticLogObject {
	return DiagnosticLogObject{ID: e.ID, Message: e.Message, Severity: e.Severity, Data: e.Data, Timestamp: timestamp{e.Time}}
}

func (a *API) listDiagnosticLogs(ctx context.Context, c *call, _ *none) ([]DiagnosticLogObject, error) {
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return nil, err
	}
	found, err := a.ledger.Diagnostics(t, d, ledger.DiagnosticLog)
	list := []DiagnosticLogObject{}
	for i := range found {
		list = append(list, showDiagnosticLog(&found[i]))
	}
	return list, err
}

func (a *API) addDiagnosticLog(ctx context.Context, c *call, in *NewDiagnosticLog) (DiagnosticLogObject, error) {
	e := ledger.Diagnostic{ID: rand.Text(), Message: value(in.Message), Data: value(in.Data), Severity: value(in.Severity)}
	var text, severity, moment error
	switch {
	case in.Message == nil:
		text = invalid("message", "is required")
	case len(e.Message) > maxDiagnosticText || len(e.Data) > maxDiagnosticText:
		text = invalid("message", "and data must each be at most "+strconv.Itoa(maxDiagnosticText)+" bytes")
	}
	if e.Severity < 0 || e.Severity > 2 {
		severity = invalid("severity", "must be 0, 1 or 2")
	}
	e.Time, moment = a.stated(in.Timestamp)
	if err := errors.Join(text, severity, moment); err != nil {
		return DiagnosticLogObject{}, err
	}
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return DiagnosticLogObject{}, err
	}
	return showDiagnosticLog(&e), roomFor(a.ledger.AddDiagnostic(ctx, t, d, ledger.DiagnosticLog, e))
}

func (a *API) clearDiagnostics(of ledger.Diagnosis) func(context.Context, *call, *none) (none, error) {
	return func(ctx context.Context, c *call, _ *none) (none, error) {
		t, d, err := a.pathDevice(ctx, c)
		if err != nil {
			return none{}, err
		}
		return none{}, a.ledger.ClearDiagnostics(ctx, t, d, of)
	}
}

// maxLogID is the longest identifier of an entry that is looked for, in bytes.
const maxLogID = 64

func (a *API) readDiagnosticLog(ctx context.Context, c *call, _ *none) (DiagnosticLogObject, error) {
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return DiagnosticLogObject{}, err
	}
	id := c.params("logId")
	if len(id) > maxLogID {
		return DiagnosticLogObject{}, notFound("entry")
	}
	e, ok, err := a.ledger.Diagnostic(t, d, ledger.DiagnosticLog, id)
	if err == nil && !ok {
		err = notFound("entry")
	}
	return showDiagnosticLog(&e), err
}

func (a *API) deleteDiagnosticLog(ctx context.Context, c *call, _ *none) (none, error) {
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return none{}, err
	}
	id := c.params("logId")
	if len(id) > maxLogID {
		return none{}, notFound("entry")
	}
	ok, err := a.ledger.DropDiagnostic(ctx, t, d, ledger.DiagnosticLog, id)
	if err == nil && !ok {
		err = notFound("entry")
	}
	return none{}, err
}

func (a *API) listErrorCodes(ctx context.Context, c *call, _ *none) ([]ErrorCodeObject, error) {
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return nil, err
	}
	found, err := a.ledger.Diagnostics(t, d, ledger.ErrorCodes)
	list := []ErrorCodeObject{}
	for i := range found {
		list = append(list, ErrorCodeObject{found[i].Code, timestamp{found[i].Time}})
	}
	return list, err
}

func (a *API) addErrorCode(ctx context.Context, c *call, in *NewErrorCode) (ErrorCodeObject, error) {
	var number, moment error
	e := ledger.Diagnostic{ID: rand.Text()}
	if in.ErrorCode == nil {
		number = invalid("errorCode", "is required")
	} else if e.Code, number = in.ErrorCode.Int64(); number != nil {
		number = invalid("errorCode", "must be a whole number")
	}
	e.Time, moment = a.stated(in.Timestamp)
	if err := errors.Join(number, moment); err != nil {
		return ErrorCodeObject{}, err
	}
	t, d, err := a.pathDevice(ctx, c)
	if err != nil {
		return ErrorCodeObject{}, err
	}
	return ErrorCodeObject{e.Code, timestamp{e.Time}}, roomFor(a.ledger.AddDiagnostic(ctx, t, d, ledger.ErrorCodes, e))
}

// roomFor tells an organisation that it has used up its room.
func roomFor(err error) error {
	if errors.Is(err, ledger.ErrFull) {
		return &policy.Error{Kind: policy.KindForbidden, Public: "the organisation has no room for more last events and diagnostics; clear some", Err: err}
	}
	return err
}
