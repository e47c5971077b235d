package api

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// fakeManagement keeps requests and asks nobody.
type fakeManagement struct {
	now     func() time.Time
	guarded struct {
		sync.Mutex
		asked   map[ledger.Tenant][]ledger.NewRequest
		located int
	}
}

// requestName is the ID of the first request of an organisation.
func requestName(t ledger.Tenant) string { return "request-of-" + t.Org.String() }

func (m *fakeManagement) Initiate(_ context.Context, t ledger.Tenant, n ledger.NewRequest) (string, error) {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	if m.guarded.asked == nil {
		m.guarded.asked = map[ledger.Tenant][]ledger.NewRequest{}
	}
	m.guarded.asked[t] = append(m.guarded.asked[t], n)
	return requestName(t), nil
}

func (m *fakeManagement) Requests(_ context.Context, t ledger.Tenant) (all []ledger.Request, err error) {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	for _, n := range m.guarded.asked[t] {
		all = append(all, ledger.Request{ID: requestName(t), Action: n.Action, By: n.By, Began: m.now(), Deadline: m.now().Add(time.Hour), Devices: len(n.Devices), Open: len(n.Devices)})
	}
	return all, nil
}

func (m *fakeManagement) Request(ctx context.Context, t ledger.Tenant, id string) (ledger.Request, error) {
	all, _ := m.Requests(ctx, t)
	if id != requestName(t) || len(all) == 0 {
		return ledger.Request{}, notFound("request")
	}
	return all[0], nil
}

func (m *fakeManagement) Tasks(ctx context.Context, t ledger.Tenant, id string, typ, device policy.ID, n int) (tasks []ledger.Task, err error) {
	if _, err := m.Request(ctx, t, id); err != nil {
		return nil, err
	}
	m.guarded.Lock()
	defer m.guarded.Unlock()
	for _, d := range m.guarded.asked[t][0].Devices {
		if d.Type > typ || d.Type == typ && d.ID > device {
			tasks = append(tasks, ledger.Task{Type: d.Type, ID: d.ID, Status: ledger.TaskOpen, Updated: m.now()})
		}
	}
	return tasks[:min(n, len(tasks))], nil
}

func (m *fakeManagement) Task(ctx context.Context, t ledger.Tenant, id string, typ, device policy.ID) (ledger.Task, error) {
	tasks, err := m.Tasks(ctx, t, id, "", "", 1000)
	for i := range tasks {
		if tasks[i].Type == typ && tasks[i].ID == device {
			return tasks[i], nil
		}
	}
	if err == nil {
		err = notFound("device in this request")
	}
	return ledger.Task{}, err
}

func (m *fakeManagement) Delete(ctx context.Context, t ledger.Tenant, id string) error {
	_, err := m.Request(ctx, t, id)
	if err == nil {
		m.guarded.Lock()
		defer m.guarded.Unlock()
		delete(m.guarded.asked, t)
	}
	return err
}

func (m *fakeManagement) Located(context.Context, ledger.Tenant, policy.ID, policy.ID, *registry.Location) {
	m.guarded.Lock()
	defer m.guarded.Unlock()
	m.guarded.located++
}

func TestManagementRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	for _, body := range []string{
		`{}`, `{"action":"device/reboot"}x`, `{"action":"device/reboot","devices":[{"typeId":"sensor"}]}`,
		`{"action":"device/reboot","devices":[{"typeId":"d:acme01:sensor","deviceId":"d1"}]}`,
		`{"action":"device/reboot","devices":[{"typeId":"sensor","deviceId":"d1"}],"timeout":59}`,
		`{"action":"device/reboot","devices":[{"typeId":"sensor","deviceId":"d1"}],"parameters":[{"name":"a"}]}`,
	} {
		w.call("POST", "/mgmt/requests", body, 400)
	}
	w.call("POST", "/mgmt/requests", "", 400)
	got := w.call("POST", "/mgmt/requests", `{"action":"device/reboot","devices":[{"typeId":"sensor","deviceId":"d2"},{"typeId":"sensor","deviceId":"d1"}],"timeout":60}`, 202).object(t)
	if got["reqId"] != "request-of-acme01" {
		t.Errorf("%v", got)
	}
	one := "/mgmt/requests/request-of-acme01"
	if got := w.call("GET", one, "", 200).object(t); got["complete"] != false || got["deviceCount"] != 2.0 || got["initiatedBy"] != w.acme.APIKey.Key {
		t.Errorf("%v", got)
	}
	first := w.call("GET", one+"/deviceStatus?_limit=1", "", 200).object(t)
	if first["bookmark"] == nil || len(first["results"].([]any)) != 1 {
		t.Errorf("%v", first)
	}
	w.call("GET", one+"/deviceStatus/sensor/d1", "", 200)
	w.call("GET", one+"/deviceStatus/sensor/d9", "", 404)
	w.call("GET", one+"/deviceStatus?_bookmark=x", "", 400)
	w.call("GET", "/mgmt/requests?_bookmark=x", "", 400)
	w.call("GET", "/mgmt/requests/"+strings.Repeat("x", 100), "", 404)
	w.call("DELETE", one, "", 204)
	w.call("GET", one, "", 404)
	w.call("PUT", "/device/types/sensor/devices/d1/location", `{"longitude":1,"latitude":2}`, 200)
	if w.management.guarded.located != 1 {
		t.Error("the device was not told where it is")
	}
}

const aBundle = `{"bundleId":"pump-v1","displayName":{"en_US":"Pump"},"version":null,"actions":{"start":{"actionDisplayName":{"en_US":"Start"},"parameters":[{"name":"speed","value":"[0-9]+","required":true,"defaultValue":"3"}]}}}`

func TestActionBundles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("POST", "/mgmt/custom/bundle", `{"displayName":{"en":"x"},"actions":{}}`, 400)
	w.call("POST", "/mgmt/custom/bundle", strings.Replace(aBundle, "[0-9]+", "(", 1), 400)
	w.call("POST", "/mgmt/custom/bundle", aBundle, 201)
	w.call("POST", "/mgmt/custom/bundle", aBundle, 409)
	got := w.call("GET", "/mgmt/custom/bundle/pump-v1", "", 200)
	for _, part := range []string{`"bundleId":"pump-v1"`, `"parameters":[{"name":"speed","value":"[0-9]+","required":true,"defaultValue":"3"}]`} {
		if !strings.Contains(got.text, part) {
			t.Errorf("%s lacks %s", got.text, part)
		}
	}
	w.call("PUT", "/mgmt/custom/bundle/pump-v1", strings.Replace(aBundle, "pump-v1", "other", 1), 400)
	w.call("PUT", "/mgmt/custom/bundle/pump-v1", strings.Replace(aBundle, "Start", "Begin", 1), 200)
	if got := w.call("GET", "/mgmt/custom/bundle", "", 200); !strings.Contains(got.text, "Begin") {
		t.Error(got.text)
	}
	w.call("DELETE", "/mgmt/custom/bundle/pump-v1", "", 204)
	w.call("GET", "/mgmt/custom/bundle/pump-v1", "", 404)
	w.call("PUT", "/mgmt/custom/bundle/pump-v1", aBundle, 404)
	w.call("GET", "/mgmt/custom/bundle/"+strings.Repeat("x", 300), "", 404)
}

func TestManagementOfDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.call("GET", "/device/types/sensor/devices/d1/mgmt", "", 404)
	_, err := w.registry.ManageDevice(t.Context(), w.acme.Organisation.ID, "sensor", "d1", func(_ *registry.Device, m *registry.Managed) error {
		now := w.clock.now()
		m.Since, m.Renewed, m.Activity, m.Lifetime, m.Supports = now, now, now, 3600, []string{"deviceActions"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := w.call("GET", "/device/types/sensor/devices/d1/mgmt", "", 200)
	if want := `{"dormant":false,"dormantDateTime":"2026-01-31T13:00:00.000Z","lastActivityDateTime":"2026-01-31T12:00:00.000Z","supports":{"deviceActions":true,"firmwareActions":false},"firmware":null}`; strings.TrimSpace(got.text) != want {
		t.Errorf("%s, want %s", got.text, want)
	}
	w.clock.set(w.clock.now().Add(time.Hour))
	if got := w.call("GET", "/device/types/sensor/devices/d1/mgmt", "", 200); !strings.Contains(got.text, `"dormant":true`) {
		t.Error(got.text)
	}
}

// No organisation sees or touches the requests and bundles of another.
func TestManagementStaysInItsOrganisation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	as := func(method, path, body string) reply {
		r := w.request(method, "/api/v0002"+path, body)
		r.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
		return w.do(r)
	}
	as("POST", "/mgmt/requests", `{"action":"device/reboot","devices":[{"typeId":"sensor","deviceId":"theirs"}]}`)
	as("POST", "/mgmt/custom/bundle", strings.Replace(aBundle, "pump-v1", "bundle-theirs", 1))
	before := as("GET", "/mgmt/requests", "").text + as("GET", "/mgmt/custom/bundle", "").text
	for _, a := range []struct{ method, path, body string }{
		{"GET", "/mgmt/requests/request-of-other1", ""},
		{"DELETE", "/mgmt/requests/request-of-other1", ""},
		{"GET", "/mgmt/requests/request-of-other1/deviceStatus", ""},
		{"GET", "/mgmt/requests/request-of-other1/deviceStatus/sensor/theirs", ""},
		{"GET", "/mgmt/custom/bundle/bundle-theirs", ""},
		{"PUT", "/mgmt/custom/bundle/bundle-theirs", strings.Replace(aBundle, "pump-v1", "bundle-theirs", 1)},
		{"DELETE", "/mgmt/custom/bundle/bundle-theirs", ""},
		{"GET", "/device/types/sensor/devices/theirs/mgmt", ""},
	} {
		if got := w.call(a.method, a.path, a.body, 404); strings.Contains(got.text, "theirs") || strings.Contains(got.text, "other1") {
			t.Errorf("%s %s: %s", a.method, a.path, got.text)
		}
	}
	for _, path := range []string{"/mgmt/requests?org=other1", "/mgmt/custom/bundle?org=other1"} {
		if got := w.call("GET", path, "", 200); !strings.Contains(got.text, `"results":[]`) {
			t.Errorf("%s: %s", path, got.text)
		}
	}
	if after := as("GET", "/mgmt/requests", "").text + as("GET", "/mgmt/custom/bundle", "").text; after != before {
		t.Errorf("theirs changed:\n%s\nbefore:\n%s", after, before)
	}
}
