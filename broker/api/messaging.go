package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Messaging lets clients in that send each message in a request of its own. It
// asks the same verifiers and policies as an MQTT connection does.
//
// Every error is told to the client as what its *policy.Error says. One that has
// a method RetryAfter() time.Duration says when to come back.
type Messaging interface {
	// Enter verifies c and asks whether it may connect. The host is the one that
	// was asked for, without its port: it may contradict the credential.
	Enter(ctx context.Context, c *plugins.Credential, host string) (Messenger, error)
}

// Messenger is one client for the time of one request. Whoever got it calls Leave.
type Messenger interface {
	// Principal is who it is; it may not be changed.
	Principal() *policy.Principal
	// PayloadMax is the largest payload it may send, in bytes.
	PayloadMax() int
	// Publish sends a message to a topic as this client writes it. It returns when
	// what has to be stored of it is.
	Publish(ctx context.Context, topic string, payload []byte) error
	// Receive waits for a message that matches one of filters, at most for wait, and
	// hands it to use. The client has to be permitted the first one, and gets what the
	// others match where it may. Unless that returns nil, the next request gets the message. It
	// answers false when there was none.
	Receive(ctx context.Context, filters []string, wait time.Duration, use func(topic string, payload []byte) error) (bool, error)
	// HandOver is the answer to who connects to be given something: a secret in
	// JSON.
	HandOver(ctx context.Context) ([]byte, error)
	Leave()
}

const (
	// maxWait is how long a client may wait for a command.
	maxWait = time.Hour
	// maxWaitBody is the largest body of a request for a command, in bytes.
	maxWaitBody = 4 << 10
	// writeTime is how long it may take to send one.
	writeTime = 30 * time.Second
)

// messagePath is what the path of a message says.
type messagePath struct {
	application   bool
	typeID, devID string // an ID, or "+" where something is asked for
	kind, name    string // "evt" or "cmd", and which
}

// messagingRoutes registers the routes of messages. They are not behind the gate
// of s: who may send what is not for cordon.admin to say, but for cordon.connect,
// cordon.publish and cordon.subscribe.
func (a *API) messagingRoutes(s *surface, mux *http.ServeMux) {
	for _, route := range []struct {
		path, id, summary, kind string
		application             bool
	}{
		{"/device/types/{typeId}/devices/{deviceId}/events/{event}", "sendEvent", "Publish an event, as the device or gateway itself", "evt", false},
		{"/application/types/{typeId}/devices/{deviceId}/events/{event}", "sendEventFor", "Publish an event of a device, as an application", "evt", true},
		{"/application/types/{typeId}/devices/{deviceId}/commands/{command}", "sendCommand", "Send a command to a device", "cmd", true},
	} {
		s.huma.OpenAPI().AddOperation(describePublish(route.path, route.id, route.summary))
		mux.HandleFunc("POST "+s.prefix+route.path, func(w http.ResponseWriter, r *http.Request) {
			a.messaged(w, r, a.publish(w, r, route.kind, route.application))
		})
	}
	const request = "/device/types/{typeId}/devices/{deviceId}/commands/{command}/request"
	s.huma.OpenAPI().AddOperation(describeRequest(request))
	mux.HandleFunc("POST "+s.prefix+request, func(w http.ResponseWriter, r *http.Request) {
		a.messaged(w, r, a.requestCommand(w, r))
	})
}

// messaged answers a request that failed.
func (a *API) messaged(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		return
	}
	f := *faultOf(err)
	f.header = f.header.Clone()
	if f.header == nil {
		f.header = http.Header{}
	}
	var timed interface{ RetryAfter() time.Duration }
	if errors.As(err, &timed) && timed.RetryAfter() > 0 {
		f.header.Set("Retry-After", strconv.Itoa(int((timed.RetryAfter()+time.Second-1)/time.Second)))
	}
	if f.status == http.StatusUnauthorized {
		f.message = policy.CauseUnknown.Public() // whatever was wrong with it
		f.header["Www-Authenticate"] = []string{realm, bearerRealm}
	}
	a.fail(w, r, &f)
}

// publish sends the body of r.
func (a *API) publish(w http.ResponseWriter, r *http.Request, kind string, application bool) error {
	path, err := parsePath(r, kind, application, false)
	if err != nil {
		return err
	}
	m, err := a.enter(r, path)
	if err != nil {
		return err
	}
	defer m.Leave()
	format, err := formatOf(r.Header)
	if err != nil {
		return err
	}
	payload, err := slurp(w, r, int64(m.PayloadMax()))
	switch {
	case err != nil:
		return err
	case len(payload) == 0:
		return invalid("body", "is required")
	case format == "json" && !(utf8.Valid(payload) && json.Valid(payload)):
		return invalid("body", "is not JSON")
	}
	if err := m.Publish(r.Context(), path.topic(m.Principal(), format), payload); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// requestCommand answers with one command, once there is one.
func (a *API) requestCommand(w http.ResponseWriter, r *http.Request) error {
	path, err := parsePath(r, "cmd", false, true)
	if err != nil {
		return err
	}
	m, err := a.enter(r, path)
	if err != nil {
		return err
	}
	defer m.Leave()
	body, err := readBody(w, r, maxWaitBody)
	if err != nil {
		return err
	}
	wait, err := parseWait(body)
	if err != nil {
		return err
	}
	// The deadlines are the socket's, so they are real time. Nothing more is read,
	// and a client that goes away ends the request.
	socket := http.NewResponseController(w)
	_ = socket.SetReadDeadline(time.Time{})
	_ = socket.SetWriteDeadline(time.Now().Add(wait + writeTime))
	answered := false
	filters := []string{path.topic(m.Principal(), "+"), path.bare(m.Principal())}
	found, err := m.Receive(r.Context(), filters, wait, func(name string, payload []byte) error {
		answered = true
		_ = socket.SetWriteDeadline(time.Now().Add(writeTime))
		return path.answer(w, socket, name, payload)
	})
	switch {
	case err != nil && (answered || r.Context().Err() != nil):
		return nil // nobody is there to be told
	case err != nil:
		return err
	case !found:
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// answer writes a command that was received. It returns an error where the client
// cannot have got it.
func (p *messagePath) answer(w http.ResponseWriter, socket *http.ResponseController, name string, payload []byte) error {
	levels, format := strings.Split(name, "/"), ""
	if n := len(levels); n%4 == 1 { // with a format; without one there are two levels less
		levels, format = levels[:n-2], levels[n-1]
	}
	typeID, devID := p.typeID, p.devID
	if n := len(levels); n > 3 { // written whole
		typeID, devID = levels[n-5], levels[n-3]
	}
	command := levels[len(levels)-1]
	h := w.Header()
	for _, part := range []struct{ header, asked, got string }{
		{"X-deviceType", p.typeID, typeID}, {"X-deviceId", p.devID, devID}, {"X-commandId", p.name, command},
	} {
		if part.asked == "+" {
			h.Set(part.header, url.PathEscape(part.got))
		}
	}
	h.Set("Content-Type", contentTypeOf(format))
	h.Set("Content-Length", strconv.Itoa(len(payload)))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'") // it is somebody else's text, and no page
	w.WriteHeader(http.StatusOK)
	if _, err := w.Write(payload); err != nil { //nolint:gosec // see the policy above, and nosniff
		return err
	}
	if err := socket.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// parsePath reads the path of r. What names nothing is not found; with wild, a
// "+" asks for all.
func parsePath(r *http.Request, kind string, application, wild bool) (*messagePath, error) {
	name := r.PathValue("event")
	if kind == "cmd" {
		name = r.PathValue("command")
	}
	p := &messagePath{application: application, typeID: r.PathValue("typeId"), devID: r.PathValue("deviceId"), kind: kind, name: name}
	for _, id := range []string{p.typeID, p.devID} {
		if _, err := policy.ParseID("", id); err != nil && !(wild && id == "+") {
			return nil, notFound("path")
		}
	}
	if !(isLevel(name) || wild && name == "+") {
		return nil, notFound("path")
	}
	return p, nil
}

// isLevel reports whether s may be one level of a topic's name.
func isLevel(s string) bool {
	return s != "" && len(s) <= topic.MaxRoutedBytes && !strings.ContainsAny(s, "/+#") && topic.CheckText(s)
}

// topic is where p is in the spelling of who asks, in a format.
func (p *messagePath) topic(who *policy.Principal, format string) string {
	return p.bare(who) + "/fmt/" + format
}

// bare is the same without a format, as some of the platform's clients write
// commands: a device leaves out who it is.
func (p *messagePath) bare(who *policy.Principal) string {
	short := p.kind + "/" + p.name
	if who.Kind == policy.KindDevice {
		return "iot-2/" + short
	}
	return "iot-2/type/" + p.typeID + "/id/" + p.devID + "/" + short
}

// formatOf is the format of a message whose request has header h.
func formatOf(h http.Header) (string, error) {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, named := params["charset"]
	encoding := h.Get("Content-Encoding")
	switch {
	case err != nil || len(h.Values("Content-Type")) != 1 || encoding != "" && encoding != "identity":
	case strings.HasPrefix(media, "text/"):
		return "text", nil
	case media == "application/json" && (!named || strings.EqualFold(charset, "utf-8")):
		return "json", nil
	case media == "application/xml":
		return "xml", nil
	case media == "application/octet-stream":
		return "bin", nil
	}
	return "", &fault{
		status:  http.StatusUnsupportedMediaType,
		message: "the body must be text/*, application/json, application/xml or application/octet-stream, not compressed",
	}
}

// contentTypeOf is what a client is told of a message in format. One that has none,
// or another, is bytes that nobody said anything about.
func contentTypeOf(format string) string {
	switch format {
	case "json":
		return "application/json"
	case "text":
		return "text/plain; charset=utf-8"
	case "xml":
		return "application/xml"
	default:
		return "application/octet-stream"
	}
}

// parseWait reads how long a client wants to wait.
func parseWait(body []byte) (time.Duration, error) {
	if len(body) == 0 {
		return 0, nil
	}
	var fields map[string]json.RawMessage
	if err := decode(body, &fields); err != nil {
		return 0, err
	}
	text, ok := fields["waitTimeSecs"]
	if !ok && len(fields) > 0 || len(fields) > 1 {
		return 0, invalid("body", "has a property other than waitTimeSecs")
	}
	if !ok || string(text) == "null" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(string(text))
	if err != nil || seconds < 0 || seconds > int(maxWait/time.Second) {
		return 0, invalid("waitTimeSecs", fmt.Sprintf("must be a whole number from 0 to %d", int(maxWait/time.Second)))
	}
	return time.Duration(seconds) * time.Second, nil
}

// describePublish is a route of a message in the words of OpenAPI.
func describePublish(path, id, summary string) *huma.Operation {
	content := map[string]*huma.MediaType{}
	for _, media := range []string{"application/json", "text/plain", "application/xml", "application/octet-stream"} {
		content[media] = &huma.MediaType{}
	}
	d := describeMessage(path, id, summary)
	d.RequestBody = &huma.RequestBody{Required: true, Content: content, Description: "The payload; its type is the message's format."}
	d.Responses["200"] = &huma.Response{Description: "Published, and kept for every session that is to have it"}
	d.Responses["413"] = &huma.Response{Description: "Larger than the client may send"}
	return d
}

// describeRequest is the route that waits for a command.
func describeRequest(path string) *huma.Operation {
	d := describeMessage(path, "receiveCommand", "Receive one command, as the device or gateway itself")
	zero, most := 0.0, maxWait.Seconds()
	d.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{"waitTimeSecs": {Type: huma.TypeInteger, Minimum: &zero, Maximum: &most, Default: 0}},
	}}}}
	d.Responses["200"] = &huma.Response{
		Description: "The command, in the type of its format; application/octet-stream where it has none, or another than json, text and xml. X-deviceType, X-deviceId and X-commandId are there where the path has a +.",
	}
	d.Responses["204"] = &huma.Response{Description: "There was none in time"}
	return d
}

func describeMessage(path, id, summary string) *huma.Operation {
	failure := map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Ref: "#/components/schemas/ErrorBody"}}}
	d := &huma.Operation{OperationID: id, Method: http.MethodPost, Path: path, Summary: summary, Tags: []string{"messaging"}, Responses: map[string]*huma.Response{}}
	for _, name := range parameters(path) {
		d.Parameters = append(d.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}})
	}
	for _, status := range []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound,
		http.StatusUnsupportedMediaType, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	} {
		d.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: failure}
	}
	d.Responses["default"] = &huma.Response{Description: "Any other failure", Content: failure}
	return d
}
