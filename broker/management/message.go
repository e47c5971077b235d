package management

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Codes of answers.
const (
	success  = 200
	badInput = 400
	forbid   = 403
	unknown  = 404
	conflict = 409
)

// refusal is an answer that says no.
type refusal struct {
	code    int
	message string
}

func (r *refusal) Error() string { return strconv.Itoa(r.code) + " " + r.message }

func bad(message string) error { return &refusal{badInput, message} }

// refusalOf is the answer for err: what is nobody's fault may be tried again.
func refusalOf(err error) *refusal {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r
	}
	if known, ok := errors.AsType[*policy.Error](err); ok {
		text := known.Public
		if known.Field != "" {
			text = known.Field + " " + text
		}
		switch known.Kind {
		case policy.KindInvalid, policy.KindTooLarge:
			return &refusal{badInput, text}
		case policy.KindNotFound:
			return &refusal{unknown, text}
		case policy.KindForbidden:
			return &refusal{forbid, text}
		case policy.KindExists, policy.KindConflict, policy.KindLimit:
			return &refusal{conflict, text}
		case policy.KindUnauthenticated, policy.KindUnavailable, policy.KindInternal:
		}
	}
	return &refusal{conflict, "the server cannot do this now; try again later"}
}

// speaker is the device that a message is about, and what it says.
type speaker struct {
	typ, id policy.ID
	what    string // such as mgmt/manage
}

// speakerOf reads iotdevice-1/type/T/id/D/….
func speakerOf(name topic.RoutedName) (s speaker, ok bool) {
	rest, ok := strings.CutPrefix(name.String(), Prefix+"type/")
	if !ok {
		return s, false
	}
	typ, rest, _ := strings.Cut(rest, "/")
	word, rest, _ := strings.Cut(rest, "/")
	id, what, ok := strings.Cut(rest, "/")
	if !ok || word != "id" {
		return s, false
	}
	var typErr, idErr error
	s.typ, typErr = policy.ParseID("type", typ)
	s.id, idErr = policy.ParseID("id", id)
	s.what = what
	return s, typErr == nil && idErr == nil
}

// message is what a device says.
type message struct {
	ReqID   string          `json:"reqId"`
	D       json.RawMessage `json:"d"`
	Code    code            `json:"rc"`
	Message string          `json:"message"`
}

// code is a number, which some devices write as a string.
type code int

// UnmarshalJSON reads 200 or "200".
func (c *code) UnmarshalJSON(text []byte) error {
	n, err := strconv.Atoi(strings.Trim(string(text), `"`))
	if err != nil || n < 0 || n > 999 {
		return errors.New("rc must be a number")
	}
	*c = code(n)
	return nil
}

// parseMessage reads one JSON object and nothing else. Fields that nobody knows are
// ignored, as everywhere in the interface. With an error, ReqID is there all the same
// if it could be read.
func parseMessage(payload []byte) (said message, err error) {
	if len(payload) > maxMessage {
		return said, bad("the message is longer than " + strconv.Itoa(maxMessage) + " bytes")
	}
	if len(bytes.TrimSpace(payload)) == 0 {
		return said, nil // {} is meant
	}
	if !utf8.Valid(payload) {
		return said, bad("the message is not UTF-8")
	}
	var only struct {
		ReqID string `json:"reqId"`
	}
	if json.Unmarshal(payload, &only) == nil && len(only.ReqID) <= maxReqID {
		said.ReqID = only.ReqID
	}
	if !shallow(payload) {
		return said, bad("the message is no JSON, or nested too deep")
	}
	var read message
	if err := json.Unmarshal(payload, &read); err != nil {
		return said, bad("the message is not a JSON object of the form {\"d\":{…},\"reqId\":\"…\"}")
	}
	if len(read.ReqID) > maxReqID {
		return said, bad("reqId is longer than " + strconv.Itoa(maxReqID) + " bytes")
	}
	return read, nil
}

// shallow reports whether payload is one JSON value that is not nested too deep.
func shallow(payload []byte) bool {
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return errors.Is(err, io.EOF) && depth == 0
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return false
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

// body reads d into v. What is absent or null is left as it is.
func (said *message) body(v any) error {
	if len(said.D) == 0 || string(said.D) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(said.D))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return bad("d." + wrong.Field + " is of another type")
		}
		return bad("d is not what it should be")
	}
	return nil
}

// moment reads a time that may be absent.
func moment(field string, text *string, now time.Time) (time.Time, error) {
	if text == nil || *text == "" {
		return now, nil
	}
	t, err := time.Parse(time.RFC3339, *text)
	if err != nil {
		return t, bad(field + " must be a time such as 2026-01-31T12:00:00.000Z")
	}
	return t, nil
}

// hear deals with one message of a device.
func (d *desk) hear(ctx context.Context, a *broker.Arrival) error {
	s, ok := speakerOf(a.Name)
	if !ok {
		a.Done()
		return nil
	}
	said, err := parseMessage(a.Payload)
	var then follow
	if err == nil {
		then, err = d.act(ctx, s, &said)
	}
	if s.what != "response" {
		d.m.answer(ctx, d.tenant, s, said.ReqID, refusalOf(err))
	}
	if err == nil && then != nil {
		err = then()
	}
	a.Done()
	if _, refused := errors.AsType[*refusal](err); refused || err != nil && policy.KindOf(err) != policy.KindInternal {
		return nil // the device knows
	}
	return err
}

// follow is what is left to do once a device has its answer.
type follow func() error

// act does what a device wants.
func (d *desk) act(ctx context.Context, s speaker, said *message) (follow, error) {
	switch s.what {
	case "mgmt/manage":
		return d.manage(ctx, s, said)
	case "mgmt/unmanage":
		return nil, d.unmanage(ctx, s)
	case "response":
		return nil, d.response(ctx, s, said)
	case "notify":
		return d.notify(ctx, s, said)
	}
	if err := d.note(ctx, s, said); err != nil {
		return nil, err
	}
	return nil, d.active(ctx, s)
}

// answer says to a device what became of its request.
func (m *Management) answer(ctx context.Context, t ledger.Tenant, s speaker, reqID string, r *refusal) {
	if reqID == "" {
		return // nobody could tell what it is about
	}
	said := struct {
		Code    int    `json:"rc"`
		Message string `json:"message,omitempty"`
		ReqID   string `json:"reqId"`
	}{success, "", reqID}
	if r != nil {
		said.Code, said.Message = r.code, r.message
	}
	if _, err := m.tell(ctx, t, s.typ, s.id, "response", said); err != nil {
		m.log.Debug("answer not sent", "org", t.Org, "type", string(s.typ), "id", string(s.id), "err", err)
	}
}

// tell publishes one message to a device.
func (m *Management) tell(ctx context.Context, t ledger.Tenant, typ, id policy.ID, what string, said any) (broker.Heard, error) {
	name, err := topic.ParseName("iotdm-1/type/" + string(typ) + "/id/" + string(id) + "/" + what)
	if err != nil {
		return broker.Heard{}, err
	}
	payload, err := json.Marshal(said)
	if err != nil {
		return broker.Heard{}, err
	}
	return m.voice.Tell(ctx, broker.Tenant(t), name, payload)
}

// note changes what is known of a device, managed or not.
func (d *desk) note(ctx context.Context, s speaker, said *message) error {
	switch s.what {
	case "device/update/location":
		return d.locate(ctx, s, said)
	case "add/diag/errorCodes":
		return d.addErrorCode(ctx, s, said)
	case "add/diag/log":
		return d.addLog(ctx, s, said)
	case "clear/diag/errorCodes":
		return d.clear(ctx, s, ledger.ErrorCodes)
	case "clear/diag/log":
		return d.clear(ctx, s, ledger.DiagnosticLog)
	default:
		return &refusal{unknown, "there is no such request"}
	}
}

// infoPatch names the fields of a device's description that are to change.
type infoPatch struct {
	SerialNumber        *string `json:"serialNumber"`
	Manufacturer        *string `json:"manufacturer"`
	Model               *string `json:"model"`
	DeviceClass         *string `json:"deviceClass"`
	Description         *string `json:"description"`
	FwVersion           *string `json:"fwVersion"`
	HwVersion           *string `json:"hwVersion"`
	DescriptiveLocation *string `json:"descriptiveLocation"`
}

func (p *infoPatch) apply(i *registry.DeviceInfo) {
	if p == nil {
		return
	}
	for _, field := range []struct {
		to   *string
		from *string
	}{
		{&i.SerialNumber, p.SerialNumber},
		{&i.Manufacturer, p.Manufacturer},
		{&i.Model, p.Model},
		{&i.DeviceClass, p.DeviceClass},
		{&i.Description, p.Description},
		{&i.FwVersion, p.FwVersion},
		{&i.HwVersion, p.HwVersion},
		{&i.DescriptiveLocation, p.DescriptiveLocation},
	} {
		if field.from != nil {
			*field.to = *field.from
		}
	}
}
