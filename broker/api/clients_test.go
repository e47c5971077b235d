package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// fakeClients notes what it was asked to disconnect.
type fakeClients struct {
	ledger *ledger.Ledger
	online map[policy.ClientID]int // of any organisation that asks
	asked  []string
}

func (f *fakeClients) Disconnect(t ledger.Tenant, id policy.ClientID) int {
	f.asked = append(f.asked, t.Org.String()+" "+string(id))
	return f.online[id]
}

func (f *fakeClients) SetNoting(ctx context.Context, t ledger.Tenant, n ledger.Noting) error {
	return f.ledger.SetNoting(ctx, t, n)
}

func (w *world) tenant(s registry.Seed) ledger.Tenant {
	return ledger.Tenant{Org: s.Organisation.ID, Incarnation: s.Organisation.Incarnation}
}

func (w *world) deviceOf(s registry.Seed, typ, id policy.ID) ledger.Device {
	w.t.Helper()
	d, err := w.registry.Device(w.t.Context(), s.Organisation.ID, typ, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return ledger.Device{Type: typ, ID: id, Incarnation: d.Incarnation}
}

// note writes to the ledger.
func (w *world) note(fn func(b *ledger.Batch) error) {
	w.t.Helper()
	b := w.ledger.Batch()
	if err := fn(b); err != nil {
		w.t.Fatal(err)
	}
	if err := b.Commit(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// noted gives both organisations something of everything.
func (w *world) noted() {
	w.t.Helper()
	now := w.clock.now()
	for _, thing := range []struct {
		seed    registry.Seed
		id      policy.ID
		prefix  string
		address string
	}{{w.acme, "d1", "d:acme01:sensor:", "192.0.2.7"}, {w.other, "theirs", "d:other1:sensor:", "192.0.2.8"}} {
		t, d := w.tenant(thing.seed), w.deviceOf(thing.seed, "sensor", thing.id)
		w.note(func(b *ledger.Batch) error {
			for _, err := range []error{
				b.PutState(t, &ledger.State{
					ClientID: thing.prefix + string(thing.id), Kind: "device", Type: "sensor", ID: thing.id, Device: d.Incarnation, Connected: true,
					Address: thing.address, Port: 5000, Secure: true, Protocol: "mqtt4", ConnectTime: now,
					ActivityEvent: "Connect", ActivityTime: now,
				}),
				b.Log(t, d, ledger.Line{Message: "Connected: " + thing.prefix, Time: now}),
				b.PutEvent(t, d, &ledger.Event{Name: "status", Format: "json", Payload: []byte(thing.address), Time: now}),
				b.AddTraffic(t, now, 1000),
			} {
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err := w.ledger.SetNoting(w.t.Context(), t, ledger.Noting{ClientState: true, LastEvents: true, TTLDays: 7}); err != nil {
			w.t.Fatal(err)
		}
		if err := w.ledger.AddDiagnostic(w.t.Context(), t, d, ledger.DiagnosticLog, ledger.Diagnostic{ID: "log-" + string(thing.id), Message: "m", Time: now}); err != nil {
			w.t.Fatal(err)
		}
	}
}

const d1State = `{
	"id": "d:acme01:sensor:d1", "clientType": "Device", "connectionStatus": "connected", "lastConnectTime": ` + moment + `,
	"lastDisconnectTime": null, "lastActivityEvent": "Connect", "lastActivityTime": ` + moment + `, "mqttConnectProtocol": "mqtt4",
	"clientAddress": "192.0.2.7", "port": 5000, "secure": true, "closeCode": null, "reason": null
}`

func TestConnectionStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	w.call("GET", "/clientconnectionstates/d:acme01:sensor:d1", "", 200).wantJSON(t, d1State)
	w.call("GET", "/clientconnectionstates/d%3Aacme01%3Asensor%3Ad1", "", 200).wantJSON(t, d1State)
	w.call("GET", "/clientconnectionstates", "", 200).wantJSON(t, `{"results":[`+d1State+`],"meta":{}}`)

	now, tenant := w.clock.now(), w.tenant(w.acme)
	w.note(func(b *ledger.Batch) error {
		for i := range 30 {
			s := &ledger.State{ClientID: fmt.Sprintf("a:acme01:app%02d", i), Kind: "application", App: policy.ID(fmt.Sprintf("app%02d", i)), ConnectTime: now.Add(time.Duration(-i) * time.Hour)}
			if i%3 == 0 {
				s.DisconnectTime, s.CloseCode, s.Reason = now, 91, "gone"
			} else {
				s.Connected = true
			}
			if err := b.PutState(tenant, s); err != nil {
				return err
			}
		}
		return nil
	})
	for query, want := range map[string]int{
		"connectionStatus=connected": 21, "connectionStatus=disconnected": 10, "deviceType=sensor": 1, "deviceId=d1": 1, "deviceId=d2": 0,
		"connectedAfter=2026-01-31T09:30:00Z": 4, "deviceType=sensor&connectionStatus=disconnected": 0,
	} {
		if got := w.all(t, "/clientconnectionstates?_limit=4&"+query); len(got) != want {
			t.Errorf("%s: %d states, want %d: %v", query, len(got), want, got)
		}
	}
	sorted := w.all(t, "/clientconnectionstates?_limit=10&_sort=-id")
	if len(sorted) != 31 || sorted[0] != "d:acme01:sensor:d1" || sorted[1] != "a:acme01:app29" || sorted[30] != "a:acme01:app00" {
		t.Errorf("sorted: %v", sorted)
	}
	if first := w.call("GET", "/clientconnectionstates?_sort=lastConnectTime&_limit=1", "", 200).object(t); fmt.Sprint(first["meta"]) != "map[total_rows:31]" {
		t.Errorf("meta = %v", first["meta"])
	}
	for _, query := range []string{
		"_limit=26", "_limit=0", "_sort=colour", "_sort=-", "connectionStatus=on", "connectedAfter=yesterday", "_bookmark=x", "_bookmark=Y2xpZW50Lw&_sort=-id",
	} {
		w.call("GET", "/clientconnectionstates?"+query, "", 400).wantError(t, 400, "CUDRS0007E")
	}
	for _, id := range []string{"d:acme01:sensor:d2", "d:other1:sensor:theirs", strings.Repeat("x", 300), "a"} {
		w.call("GET", "/clientconnectionstates/"+id, "", 404).wantError(t, 404, "CDNHT0404E")
	}

	// What was noted of a device goes with it.
	if err := w.registry.DeleteDevice(t.Context(), w.acme.Organisation.ID, "sensor", "d1"); err != nil {
		t.Fatal(err)
	}
	w.call("GET", "/clientconnectionstates/d:acme01:sensor:d1", "", 404)
	if got := w.all(t, "/clientconnectionstates?deviceType=sensor"); len(got) != 0 {
		t.Errorf("states of a deleted device: %v", got)
	}

	w.call("PUT", "/config/clientstate", `{"enabled":false}`, 200).wantJSON(t, `{"enabled":false}`)
	w.call("GET", "/clientconnectionstates", "", 403).wantError(t, 403, "CDNHT0403E")
	w.call("GET", "/clientconnectionstates/a:acme01:app00", "", 403)
	w.call("PUT", "/config/clientstate", `{"enabled":null}`, 200).wantJSON(t, `{"enabled":false}`)
	w.call("GET", "/config/clientstate", "", 200).wantJSON(t, `{"enabled":false}`)
}

// all is the first field "id", or "deviceId", of everything on all pages.
func (w *world) all(t *testing.T, path string) (ids []string) {
	t.Helper()
	bookmark := ""
	for range 100 {
		join := "?"
		if strings.Contains(path, "?") {
			join = "&"
		}
		page := w.call("GET", path+join+"_bookmark="+url.QueryEscape(bookmark), "", 200).object(t)
		for _, r := range page["results"].([]any) {
			o := r.(map[string]any)
			id, _ := o["id"].(string)
			if id == "" {
				id = fmt.Sprint(o["deviceId"])
			}
			ids = append(ids, id)
		}
		bookmark, _ = page["bookmark"].(string)
		if bookmark == "" {
			return ids
		}
	}
	t.Fatal("the list never ends")
	return nil
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	w.clients.online = map[policy.ClientID]int{"anything": 2}
	w.call("POST", "/clientconnectionstates/anything/disconnect", "", 200).wantJSON(t, `{"clientId":"anything","connections":2}`)
	w.call("POST", "/clientconnectionstates/d:acme01:sensor:d1/disconnect", "", 200).wantJSON(t, `{"clientId":"d:acme01:sensor:d1","connections":0}`)
	w.call("POST", "/clientconnectionstates/d:other1:sensor:theirs/disconnect", "", 404).wantError(t, 404, "CDNHT0404E")
	w.call("POST", "/clientconnectionstates/"+strings.Repeat("x", 300)+"/disconnect", "", 404)
	if want := []string{"acme01 anything", "acme01 d:acme01:sensor:d1", "acme01 d:other1:sensor:theirs"}; !slices.Equal(w.clients.asked, want) {
		t.Errorf("asked %q, want %q", w.clients.asked, want)
	}
}

func TestConnectionLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	const path = "/logs/connection?typeId=sensor&deviceId="
	w.call("GET", path+"d1", "", 200).wantJSON(t, `[{"message":"Connected: d:acme01:sensor:","timestamp":`+moment+`}]`)
	for _, id := range []string{"theirs", "nobody", "d:other1"} {
		w.call("GET", path+id, "", 200).wantJSON(t, `[]`)
	}
	for _, path := range []string{"/logs/connection", "/logs/connection?typeId=sensor", "/logs/connection?deviceId=d1"} {
		w.call("GET", path, "", 400).wantError(t, 400, "CUDRS0007E")
	}
	w.clock.set(w.clock.now().Add(31 * 24 * time.Hour))
	w.call("GET", path+"d1", "", 200).wantJSON(t, `[]`)
}

func TestLastEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	const path = "/device/types/sensor/devices/d1/events"
	w.call("GET", path, "", 403).wantError(t, 403, "CUDCS0105E")
	w.call("GET", path+"/status", "", 403).wantError(t, 403, "CUDCS0105E")
	w.call("GET", "/config/lec", "", 200).wantJSON(t, `{"enabled":false,"ttlDays":7}`)
	for _, body := range []string{`{"ttlDays":0}`, `{"ttlDays":46}`, `{"enabled":"yes"}`} {
		w.call("PUT", "/config/lec", body, 400).wantError(t, 400, "CUDRS0007E")
	}
	w.call("PUT", "/config/lec", `{"enabled":true,"ttlDays":null}`, 200).wantJSON(t, `{"enabled":true,"ttlDays":7}`)
	w.call("GET", path, "", 200).wantJSON(t, `[]`)
	w.noted()
	const status = `{"deviceId":"d1","eventId":"status","format":"json","payload":"MTkyLjAuMi43","timestamp":` + moment + `,"typeId":"sensor"}`
	w.note(func(b *ledger.Batch) error {
		return b.PutEvent(w.tenant(w.acme), w.deviceOf(w.acme, "sensor", "d1"), &ledger.Event{Name: "alarm/x", Format: "bin", Time: w.clock.now()})
	})
	w.call("GET", path, "", 200).wantJSON(t, `[{"deviceId":"d1","eventId":"alarm/x","format":"bin","payload":"","timestamp":`+moment+`,"typeId":"sensor"},`+status+`]`)
	w.call("GET", path+"/status", "", 200).wantJSON(t, status)
	for _, missing := range []string{path + "/other", path + "/%2B", "/device/types/sensor/devices/theirs/events", "/device/types/sensor/devices/nobody/events/status", "/device/types/no/devices/d1/events"} {
		w.call("GET", missing, "", 404).wantError(t, 404, "CDNHT0404E")
	}
	w.clock.set(w.clock.now().Add(8 * 24 * time.Hour))
	w.call("GET", path, "", 200).wantJSON(t, `[]`)
	w.call("GET", path+"/status", "", 404)
}

func TestLocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	const path = "/device/types/sensor/devices/d1/location"
	w.call("GET", path, "", 404).wantError(t, 404, "CDNHT0404E")
	w.call("PUT", path, `{"latitude":1}`, 400).wantError(t, 400, "CUDRS0007E")
	w.call("PUT", path, `{"longitude":181,"latitude":1}`, 400)
	const first = `{"longitude":13.4,"latitude":52.5,"elevation":34,"accuracy":null,"measuredDateTime":"2026-01-30T08:00:00.000Z","updatedDateTime":` + moment + `}`
	w.call("PUT", path, `{"longitude":13.4,"latitude":52.5,"elevation":34,"accuracy":null,"measuredDateTime":"2026-01-30T09:00:00+01:00"}`, 200).wantJSON(t, first)
	w.call("GET", path, "", 200).wantJSON(t, first)
	// What is null or absent stays; the moment is of this measurement.
	w.call("PUT", path, `{"latitude":53,"elevation":null}`, 200).wantJSON(t,
		`{"longitude":13.4,"latitude":53,"elevation":34,"accuracy":null,"measuredDateTime":`+moment+`,"updatedDateTime":`+moment+`}`)
	for _, method := range []string{"GET", "PUT"} {
		body := ""
		if method == "PUT" {
			body = `{"longitude":1,"latitude":1}`
		}
		w.call(method, "/device/types/sensor/devices/theirs/location", body, 404).wantError(t, 404, "CDNHT0404E")
	}
}

func TestDiagnostics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	const logs, codes = "/device/types/sensor/devices/d1/diag/logs", "/device/types/sensor/devices/d1/diag/errorCodes"
	made := w.call("POST", logs, `{"message":"reboot","severity":2,"data":null,"timestamp":"2026-01-30T08:00:00Z"}`, 201).object(t)
	id := fmt.Sprint(made["id"])
	const entry = `"message":"reboot","severity":2,"data":"","timestamp":"2026-01-30T08:00:00.000Z"}`
	w.call("GET", logs+"/"+id, "", 200).wantJSON(t, `{"id":"`+id+`",`+entry)
	w.call("GET", logs, "", 200).wantJSON(t, `[{"id":"log-d1","message":"m","severity":0,"data":"","timestamp":`+moment+`},{"id":"`+id+`",`+entry+`]`)
	w.call("DELETE", logs+"/"+id, "", 204)
	for _, gone := range []string{id, "log-theirs", strings.Repeat("x", 100)} {
		w.call("GET", logs+"/"+gone, "", 404).wantError(t, 404, "CDNHT0404E")
		w.call("DELETE", logs+"/"+gone, "", 404)
	}
	w.call("DELETE", logs, "", 204)
	w.call("GET", logs, "", 200).wantJSON(t, `[]`)
	for _, body := range []string{`{}`, `{"message":"x","severity":3}`, `{"message":"x","timestamp":"now"}`, `{"message":"` + strings.Repeat("x", 9<<10) + `"}`} {
		w.call("POST", logs, body, 400).wantError(t, 400, "CUDRS0007E")
	}

	w.call("POST", codes, `{"errorCode":100}`, 201).wantJSON(t, `{"errorCode":100,"timestamp":`+moment+`}`)
	w.call("POST", codes, `{"errorCode":-7,"timestamp":"2026-01-30T08:00:00Z"}`, 201)
	w.call("GET", codes, "", 200).wantJSON(t, `[{"errorCode":100,"timestamp":`+moment+`},{"errorCode":-7,"timestamp":"2026-01-30T08:00:00.000Z"}]`)
	for _, body := range []string{`{}`, `{"errorCode":1.5}`, `{"errorCode":"x"}`, `{"errorCode":99999999999999999999}`} {
		w.call("POST", codes, body, 400)
	}
	w.call("DELETE", codes, "", 204)
	w.call("GET", codes, "", 200).wantJSON(t, `[]`)

	for _, theirs := range []string{"/diag/logs", "/diag/errorCodes", "/diag/logs/log-theirs", "/mgmt", "/devices"} {
		w.call("GET", "/device/types/sensor/devices/theirs"+theirs, "", 404).wantError(t, 404, "CDNHT0404E")
	}
	w.call("GET", "/device/types/sensor/devices/d1/mgmt", "", 404).wantError(t, 404, "CDNHT0404E")
}

func TestDevicesBehindAGateway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	for i := range 5 {
		w.call("POST", "/device/types/sensor/devices", fmt.Sprintf(`{"deviceId":"b%d","gatewayTypeId":"hub","gatewayId":"g1"}`, i), 201)
	}
	if got, want := w.all(t, "/device/types/hub/devices/g1/devices?_limit=2"), []string{"b0", "b1", "b2", "b3", "b4"}; !slices.Equal(got, want) {
		t.Errorf("behind g1 are %v, want %v", got, want)
	}
	w.call("GET", "/device/types/sensor/devices/d1/devices", "", 403).wantError(t, 403, "CDNHT0403E")
	w.call("GET", "/device/types/hub/devices/g2/devices", "", 404).wantError(t, 404, "CDNHT0404E")
}

func TestListsAreRestrictedAndSorted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	for i := range 7 {
		_, _, err := w.registry.CreateDevice(t.Context(), w.acme.Organisation.ID, registry.Device{
			Type: "sensor", ID: policy.ID(fmt.Sprintf("x%d", i)), DeviceInfo: registry.DeviceInfo{Model: fmt.Sprintf("M%d", i%2), SerialNumber: fmt.Sprint(9 - i)},
		}, plugins.Secret{})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.call("POST", "/device/types", `{"id":"meter","description":"of water"}`, 201)
	for _, test := range []struct{ path, want string }{
		{"/device/types/sensor/devices?deviceInfo.model=M1&_limit=1", "x1 x3 x5"},
		{"/device/types/sensor/devices?deviceInfo.model=M1&_limit=2", "x1 x3 x5"},
		{"/device/types/sensor/devices?deviceInfo.model=M1&deviceInfo.serialNumber=6", "x3"},
		{"/device/types/sensor/devices?deviceInfo.model=", "d1"},
		{"/device/types/sensor/devices?deviceId=x2", "x2"},
		{"/device/types/sensor/devices?_sort=-deviceId&_limit=3", "x6 x5 x4 x3 x2 x1 x0 d1"},
		{"/device/types/sensor/devices?_sort=deviceInfo.model,-deviceInfo.serialNumber&_limit=3", "d1 x0 x2 x4 x6 x1 x3 x5"},
		{"/bulk/devices?classId=Gateway", "g1"},
		{"/bulk/devices?typeId=hub", "g1"},
		{"/bulk/devices?_sort=typeId,deviceId&_limit=4&classId=Gateway", "g1"},
		{"/bulk/devices?_sort=-typeId,-deviceId&typeId=sensor&deviceInfo.model=M0", "x6 x4 x2 x0"},
		{"/authorization/devices?typeId=hub", "g1"},
		{"/authorization/devices?_limit=4", "g1 d1 x0 x1 x2 x3 x4 x5 x6"},
		{"/device/types?id=meter", "meter"},
		{"/device/types?description=of+water", "meter"},
		{"/device/types?classId=Device&_sort=-id", "sensor meter"},
	} {
		if got := strings.Join(w.all(t, test.path), " "); got != test.want {
			t.Errorf("%s = %s, want %s", test.path, got, test.want)
		}
	}
	for _, path := range []string{"/device/types?_sort=metadata", "/bulk/devices?_sort=deviceId,", "/device/types/sensor/devices?_sort=deviceId&_bookmark=c29ydGVkLy0x", "/device/types/sensor/devices?_sort=-deviceId&_bookmark=x"} {
		w.call("GET", path, "", 400).wantError(t, 400, "CUDRS0007E")
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	w.note(func(b *ledger.Batch) error {
		return b.AddTraffic(w.tenant(w.acme), w.clock.now().AddDate(0, 0, -1), 240)
	})
	for query, want := range map[string]string{
		"?start=2026-01-31":                             `{"start":"2026-01-31","end":"2026-01-31","average":1000,"total":1000}`,
		"?start=2026-01&end=2026-01&detail=1":           `{"start":"2026-01-01","end":"2026-01-31","average":40,"total":1240,"days":[{"date":"2026-01-30","total":240},{"date":"2026-01-31","total":1000}]}`,
		"?start=2026-01-01&end=2026-01-31&detail=False": `{"start":"2026-01-01","end":"2026-01-31","average":40,"total":1240}`,
		"?start=2025&end=2025&detail=True":              `{"start":"2025-01-01","end":"2025-12-31","average":0,"total":0}`,
		"":                                              `{"start":"2026-01-01","end":"2026-01-31","average":40,"total":1240}`,
	} {
		w.call("GET", "/usage/data-traffic"+query, "", 200).wantJSON(t, want)
	}
	for _, query := range []string{"start=x", "end=2026-13", "start=2026&end=2025", "start=1999&end=2026", "detail=2"} {
		w.call("GET", "/usage/data-traffic?"+query, "", 400).wantError(t, 400, "CUDRS0007E")
	}
	w.call("GET", "/usage/active-devices", "", 410).wantError(t, 410, "CDNHT0410E")
	w.call("GET", "/usage/historical-data", "", 410).wantError(t, 410, "CDNHT0410E")
	w.call("GET", "/service-status", "", 200).wantJSON(t, `{"local":{"dashboard":"green","messaging":"green","thirdParty":"green"}}`)
}

func TestAPIKeyIsChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.call("POST", "/authorization/apikeys", `{"comment":"first"}`, 200).object(t)
	path := "/authorization/apikeys/" + fmt.Sprint(made["key"])
	got := w.call("PUT", path, `{"comment":"second","roles":["PD_OPERATOR_APP"],"status":0,"expires":null}`, 200).object(t)
	if fmt.Sprint(got["comment"], got["roles"], " ", got["status"], " ", got["expires"]) != "second[PD_OPERATOR_APP] 0 <nil>" {
		t.Errorf("after PUT: %v", got)
	}
	same := w.call("PUT", path, `{"status":null,"comment":null,"roles":null}`, 200).object(t)
	if fmt.Sprint(same["comment"], same["roles"], " ", same["status"]) != "second[PD_OPERATOR_APP] 0" {
		t.Errorf("after PUT of nulls: %v", same)
	}
	w.call("PUT", path, `{"status":2}`, 400)
	w.call("PUT", path, `{"expires":"soon"}`, 400)
	w.call("PUT", "/authorization/apikeys/"+w.other.APIKey.Key, `{"status":0}`, 404).wantError(t, 404, "CDNHT0404E")
}

// Another organisation's client, device, log and bookmark are as unknown as what
// does not exist: the same status and the same body.
func TestOthersAreUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.noted()
	for _, attempt := range []struct{ method, theirs, nobody, body string }{
		{"GET", "/clientconnectionstates/d:other1:sensor:theirs", "/clientconnectionstates/d:acme01:sensor:nobody", ""},
		{"POST", "/clientconnectionstates/d:other1:sensor:theirs/disconnect", "/clientconnectionstates/nobody/disconnect", ""},
		{"GET", "/device/types/sensor/devices/theirs/events", "/device/types/sensor/devices/nobody/events", ""},
		{"GET", "/device/types/sensor/devices/theirs/events/status", "/device/types/sensor/devices/nobody/events/status", ""},
		{"GET", "/device/types/sensor/devices/theirs/location", "/device/types/sensor/devices/nobody/location", ""},
		{"PUT", "/device/types/sensor/devices/theirs/location", "/device/types/sensor/devices/nobody/location", `{"latitude":1,"longitude":1}`},
		{"GET", "/device/types/sensor/devices/theirs/diag/logs", "/device/types/sensor/devices/nobody/diag/logs", ""},
		{"POST", "/device/types/sensor/devices/theirs/diag/logs", "/device/types/sensor/devices/nobody/diag/logs", `{"message":"x"}`},
		{"DELETE", "/device/types/sensor/devices/theirs/diag/logs", "/device/types/sensor/devices/nobody/diag/logs", ""},
		{"GET", "/device/types/sensor/devices/d1/diag/logs/log-theirs", "/device/types/sensor/devices/d1/diag/logs/nothing", ""},
		{"POST", "/device/types/sensor/devices/theirs/diag/errorCodes", "/device/types/sensor/devices/nobody/diag/errorCodes", `{"errorCode":1}`},
		{"GET", "/device/types/sensor/devices/theirs/mgmt", "/device/types/sensor/devices/nobody/mgmt", ""},
		{"GET", "/device/types/sensor/devices/theirs/devices", "/device/types/sensor/devices/nobody/devices", ""},
		{"PUT", "/authorization/apikeys/" + w.other.APIKey.Key, "/authorization/apikeys/a-acme01-0123456789", `{"status":0}`},
	} {
		theirs, nobody := w.call(attempt.method, attempt.theirs, attempt.body, http.StatusNotFound), w.call(attempt.method, attempt.nobody, attempt.body, http.StatusNotFound)
		if theirs.text != nobody.text {
			t.Errorf("%s %s answers\n%s\nand of nobody's\n%s", attempt.method, attempt.theirs, theirs.text, nobody.text)
		}
	}
	for _, path := range []string{
		"/clientconnectionstates?deviceType=sensor&org=other1", "/clientconnectionstates?_bookmark=" + makeStateBookmark("d:other1:sensor:theirs"),
		"/authorization/devices", "/bulk/devices?deviceId=theirs", "/logs/connection?typeId=sensor&deviceId=theirs", "/usage/data-traffic?org=other1&detail=1",
	} {
		got := w.call("GET", path, "", 200).text
		for _, word := range append(w.theirs(), "192.0.2.8") {
			if strings.Contains(got, word) {
				t.Errorf("%s holds %q: %s", path, word, got)
			}
		}
	}
}
