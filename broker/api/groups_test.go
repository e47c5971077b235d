package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/policytest"
)

// heldTo answers as the built-in policy does to a caller who is held to groups.
func heldTo(groups ...string) func(*policy.Facts, *policy.Request) *policy.Decision {
	return func(_ *policy.Facts, r *policy.Request) *policy.Decision {
		named := strings.Contains(r.Route, "{deviceId}") || strings.Contains(r.Route, "{clientId}")
		reached := r.Device != nil && slices.ContainsFunc(r.Device.Groups, func(g string) bool { return slices.Contains(groups, g) })
		group, ofGroup := r.Target["groupId"]
		if named && !reached || ofGroup && !slices.Contains(groups, group) {
			return &policy.Decision{Cause: policy.CausePolicy, OnDeny: policy.Hide}
		}
		return &policy.Decision{Allow: true, Groups: append([]string{}, groups...)}
	}
}

// grouped adds to the fleet of acme01 the sensors s00 to s11, of which those with an
// even number are in a group, which it returns.
func (w *world) grouped() string {
	w.t.Helper()
	w.fleet()
	group := w.call("POST", "/groups", `{"name":"even","searchTags":["n"]}`, http.StatusCreated).object(w.t)["id"].(string)
	var devices, even []string
	for i := range 12 {
		name := fmt.Sprintf(`{"typeId":"sensor","deviceId":"s%02d"}`, i)
		devices = append(devices, name)
		if i%2 == 0 {
			even = append(even, name)
		}
	}
	w.call("POST", "/bulk/devices/add", "["+strings.Join(devices, ",")+"]", http.StatusCreated)
	w.call("PUT", "/bulk/devices/"+group+"/add", "["+strings.Join(even, ",")+"]", http.StatusOK)
	return group
}

func TestGroupRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.grouped()
	const stamps = `"created":"2026-01-31T12:00:00.000Z","updated":"2026-01-31T12:00:00.000Z"`
	w.call("GET", "/groups/"+group, "", 200).wantJSON(t, `{"id":"`+group+`","name":"even","description":"","searchTags":["n"],`+stamps+`}`)
	w.call("PUT", "/groups/"+group, `{"description":"d","searchTags":null,"name":null}`, 200).wantJSON(t, `{"id":"`+group+`","name":"even","description":"d","searchTags":["n"],`+stamps+`}`)
	list := w.call("GET", "/groups?_limit=1", "", 200).object(t)
	if first := list["results"].([]any); len(first) != 1 || list["bookmark"] == nil {
		t.Errorf("first page %v", list)
	}
	if rest := w.call("GET", "/groups?_bookmark="+list["bookmark"].(string), "", 200); !strings.Contains(rest.text, `"id":"gw_def_res_grp:acme01:hub:g1"`) || strings.Contains(rest.text, "bookmark") {
		t.Errorf("second page %s", rest.text)
	}
	if got := w.all(t, "/bulk/devices/"+group+"?_limit=4"); len(got) != 6 {
		t.Errorf("devices %v", got)
	}
	w.call("GET", "/bulk/devices/"+group+"/ids?_limit=1", "", 200)
	got := w.call("PUT", "/bulk/devices/"+group+"/remove", `[{"typeId":"sensor","deviceId":"s00"},{"typeId":"sensor","deviceId":"none"},{"deviceId":"x"}]`, 202)
	got.wantJSON(t, `[{"typeId":"sensor","deviceId":"s00","success":true},
		{"typeId":"sensor","deviceId":"none","success":false,"message":"no such device"},
		{"typeId":"","deviceId":"x","success":false,"message":"the request is not valid: typeId: is required"}]`)
	if ids := w.call("GET", "/bulk/devices/"+group+"/ids", "", 200); strings.Contains(ids.text, "s00") || !strings.Contains(ids.text, `{"typeId":"sensor","deviceId":"s02"}`) {
		t.Errorf("names %s", ids.text)
	}
	w.call("DELETE", "/groups/"+group, "", 200)
	for _, path := range []string{"/groups/" + group, "/bulk/devices/" + group, "/bulk/devices/" + group + "/ids", "/groups/a b", "/groups/" + strings.Repeat("a", 200)} {
		w.do(w.request("GET", "/api/v0002"+strings.ReplaceAll(path, " ", "%20"), "")).wantError(t, 404, "CDNHT0404E")
	}
	w.do(w.request("DELETE", "/api/v0002/groups/gw_def_res_grp:acme01:hub:g1", "")).wantError(t, 409, "CDNHT0409E")
	w.do(w.request("POST", "/api/v0002/groups", `{}`)).wantError(t, 400, "CUDRS0007E")
}

func TestRolesOfGateways(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.grouped()
	const path = "/authorization/devices/g:acme01:hub:g1/roles"
	show := func(role string, groups ...string) string {
		quoted := make([]string, len(groups))
		for i, g := range groups {
			quoted[i] = `"` + g + `"`
		}
		return `{"roles":[{"roleId":"` + role + `","roleStatus":1}],"rolesToGroups":{"` + role + `":[` + strings.Join(quoted, ",") + `]}}`
	}
	const own = "gw_def_res_grp:acme01:hub:g1"
	w.call("GET", path, "", 200).wantJSON(t, show("PD_PRIVILEGED_GW_DEVICE", own))
	w.call("PUT", path, `{"roles":["PD_STANDARD_GW_DEVICE"]}`, 200).wantJSON(t, show("PD_STANDARD_GW_DEVICE", own))
	w.call("PUT", "/authorization/devices/d:acme01:hub:g1/withroles", `{"roles":[{"roleId":"PD_STANDARD_GW_DEVICE"}],"rolesToGroups":{"PD_STANDARD_GW_DEVICE":["`+own+`","`+group+`"]}}`, 200).
		wantJSON(t, show("PD_STANDARD_GW_DEVICE", own, group))
	w.call("DELETE", "/groups/"+group, "", 200)
	w.call("GET", path, "", 200).wantJSON(t, show("PD_STANDARD_GW_DEVICE", own))
	w.call("PUT", path, `{"roles":["PD_STANDARD_GW_DEVICE"],"rolesToGroups":{}}`, 200).wantJSON(t, show("PD_STANDARD_GW_DEVICE"))
	for body, want := range map[string]int{
		`{"roles":[]}`: 400, `{"roles":[{"roleId":"A","roleStatus":0}]}`: 400, `{"roles":["A","B"],"rolesToGroups":{"A":["` + own + `"]}}`: 400,
		`{"roles":["A"],"rolesToGroups":{"B":["` + own + `"]}}`: 400, `{"roles":["A"],"rolesToGroups":{"A":["none"]}}`: 400, `{"roles":["a b"]}`: 400,
		`{"roles":["A"],"rolesToGroups":{"A":["gw_def_res_grp:other1:hub:g1"]}}`: 400,
	} {
		w.call("PUT", path, body, want)
	}
	w.call("GET", path, "", 200).wantJSON(t, show("PD_STANDARD_GW_DEVICE"))
	w.call("GET", "/authorization/devices/d:acme01:sensor:d1/roles", "", 200).wantJSON(t, `{"roles":[],"rolesToGroups":{}}`)
	w.call("PUT", "/authorization/devices/d:acme01:sensor:d1/roles", `{"roles":["A"]}`, 403)
	w.call("GET", "/authorization/devices/g:acme01:sensor:d1/roles", "", 404)
	asked := w.decider.Asked(policy.ActionAdminister)
	i := slices.IndexFunc(asked, func(q policytest.Question) bool {
		return q.Request.Method == "PUT" && q.Request.Route == "/authorization/devices/{clientId}/roles"
	})
	if roles := asked[i].Request.Target["roles"]; roles != "PD_STANDARD_GW_DEVICE,PD_PRIVILEGED_GW_DEVICE" {
		t.Errorf("the policy was told of %q, want what it has and is to have", roles)
	}
}

func TestGroupsOfKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.grouped()
	key := w.call("POST", "/authorization/apikeys", `{}`, 200).object(t)
	path := "/authorization/apikeys/" + key["key"].(string) + "/roles"
	w.call("PUT", path, `{"roles":["PD_STANDARD_APP"],"rolesToGroups":{"PD_STANDARD_APP":["`+group+`"]}}`, 200).
		wantJSON(t, `{"roles":[{"roleId":"PD_STANDARD_APP","roleStatus":1}],"rolesToGroups":{"PD_STANDARD_APP":["`+group+`"]}}`)
	w.call("PUT", path, `{"roles":["PD_STANDARD_APP","PD_DEVICE_APP"]}`, 400)
	w.call("PUT", "/authorization/apikeys/"+key["key"].(string), `{"roles":["PD_STANDARD_APP","PD_DEVICE_APP"]}`, 400)
	seen := func() policy.Principal {
		p, err := w.registry.VerifyBasic(t.Context(), key["key"].(string), plugins.NewSecret([]byte(key["token"].(string))))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := seen(); !p.Restricted || !slices.Equal(p.Groups, []string{group}) {
		t.Errorf("the key is %+v", p)
	}
	w.call("GET", "/accesscontrol", "", 200).wantJSON(t, `{"enable":true}`)
	w.call("PUT", "/accesscontrol", `{"enable":false}`, 200).wantJSON(t, `{"enable":false}`)
	if p := seen(); p.Restricted {
		t.Errorf("with access control off the key is %+v", p)
	}
	w.call("PUT", "/accesscontrol", `{}`, 400)
	w.call("PUT", "/accesscontrol", `{"enable":true}`, 200)
	w.call("PUT", path, `{"roles":["PD_STANDARD_APP"],"rolesToGroups":{"PD_STANDARD_APP":[]}}`, 200)
	if p := seen(); !p.Restricted || len(p.Groups) != 0 {
		t.Errorf("without groups the key is %+v", p)
	}
}

// Whatever names a device finds one that is out of reach as little as one that does
// not exist, and does nothing to it.
func TestHiddenIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.grouped()
	w.call("PUT", "/config/lec", `{"enabled":true}`, 200)
	w.call("PUT", "/config/clientstate", `{"enabled":true}`, 200)
	before := w.call("GET", "/device/types/sensor/devices/s01", "", 200).text
	w.decider.On(policy.ActionAdminister, heldTo(group))
	named := 0
	for _, op := range w.api.operations {
		if !strings.Contains(op.path, "{deviceId}") && !strings.Contains(op.path, "{clientId}") {
			continue
		}
		named++
		answers := map[string]string{}
		for _, id := range []string{"s01", "none", "s00"} {
			path := strings.NewReplacer("{typeId}", "sensor", "{deviceId}", id, "{clientId}", "d:acme01:sensor:"+id, "{eventId}", "e", "{logId}", "l", "{requestId}", "r").Replace(op.path)
			for _, body := range []string{`{}`, `{"roles":["A"],"status":0,"errorCode":1,"message":"m"}`} {
				if !op.body {
					body = ""
				}
				got := w.do(w.request(op.method, "/api/v0002"+path, body))
				answers[id] += fmt.Sprint(got.status, got.header, strings.ReplaceAll(got.text, id, "ID"))
			}
		}
		if answers["s01"] != answers["none"] || !strings.HasPrefix(answers["s01"], "404") {
			t.Errorf("%s: hidden %s\nmissing %s", op.id, answers["s01"], answers["none"])
		}
		if strings.HasSuffix(op.path, "{deviceId}") && !strings.Contains(op.path, "{requestId}") && op.method == "GET" && !strings.HasPrefix(answers["s00"], "200") {
			t.Errorf("%s: reached %s", op.id, answers["s00"])
		}
	}
	if named < 25 {
		t.Errorf("only %d routes name a device", named)
	}
	for _, path := range []string{"/groups/gw_def_res_grp:acme01:hub:g1", "/groups/none", "/bulk/devices/none", "/bulk/devices/gw_def_res_grp:acme01:hub:g1/ids"} {
		got := w.call("GET", path, "", 404)
		got.wantJSON(t, `{"message":"no such group","exception":{"id":"CDNHT0404E","properties":[]}}`)
	}
	w.decider.On(policy.ActionAdminister, nil)
	if after := w.call("GET", "/device/types/sensor/devices/s01", "", 200).text; after != before {
		t.Errorf("the hidden device is %s, and was %s", after, before)
	}
}

// Lists have what is in the groups, in pages that are full, with bookmarks that name
// nothing else; and what is new goes into the groups.
func TestListsOfReachedDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	group := w.grouped()
	w.call("PUT", "/config/clientstate", `{"enabled":true}`, 200)
	w.note(func(b *ledger.Batch) error {
		err := b.PutState(w.tenant(w.acme), &ledger.State{ClientID: "a:acme01:app", Kind: "application", App: "app"})
		for i := range 12 {
			id := policy.ID(fmt.Sprintf("s%02d", i))
			err = errors.Join(err, b.PutState(w.tenant(w.acme), &ledger.State{
				ClientID: "d:acme01:sensor:" + string(id), Kind: "device", Type: "sensor", ID: id, Device: w.deviceOf(w.acme, "sensor", id).Incarnation,
			}))
		}
		return err
	})
	w.decider.On(policy.ActionAdminister, heldTo(group))
	for _, path := range []string{
		"/bulk/devices?_limit=2", "/device/types/sensor/devices?_limit=4", "/authorization/devices?_limit=5", "/bulk/devices?_sort=-deviceId&_limit=2",
		"/bulk/devices?typeId=sensor&_limit=1", "/bulk/devices?classId=Device&_limit=3", "/clientconnectionstates?_limit=2", "/clientconnectionstates?_sort=-id&_limit=4",
		"/bulk/devices/" + group + "?_limit=4", "/bulk/devices/" + group + "/ids?_limit=6",
	} {
		got := w.all(t, path)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "d:acme01:sensor:")
		}
		slices.Sort(got)
		if want := "s00 s02 s04 s06 s08 s10"; strings.Join(got, " ") != want {
			t.Errorf("%s lists %v, want %s", path, got, want)
		}
	}
	if got := w.all(t, "/groups?_limit=1"); strings.Join(got, " ") != group {
		t.Errorf("groups %v", got)
	}
	if got := w.call("GET", "/logs/connection?typeId=sensor&deviceId=s01", "", 200).text; got != w.call("GET", "/logs/connection?typeId=sensor&deviceId=none", "", 200).text {
		t.Errorf("the log of a hidden device is %s", got)
	}
	if got := w.call("GET", "/device/types/hub/devices", "", 200).object(t)["results"].([]any); len(got) != 0 {
		t.Errorf("gateways %v", got)
	}

	// Out of reach: removed in words, updated as little as what is missing.
	both := func(id string) string { return `{"typeId":"sensor","deviceId":"` + id + `","metadata":{"a":1}}` }
	w.call("POST", "/bulk/devices/remove", "["+both("s01")+","+both("none")+","+both("s10")+"]", 201).
		wantJSON(t, `[{"typeId":"sensor","deviceId":"s01","success":true},{"typeId":"sensor","deviceId":"none","success":true},{"typeId":"sensor","deviceId":"s10","success":true}]`)
	w.call("PUT", "/bulk/devices/update", "["+both("s01")+","+both("none")+"]", 202).
		wantJSON(t, `[{"typeId":"sensor","deviceId":"s01","success":false,"message":"no such device"},{"typeId":"sensor","deviceId":"none","success":false,"message":"no such device"}]`)

	w.call("POST", "/device/types/sensor/devices", `{"deviceId":"new1"}`, 201)
	w.call("POST", "/bulk/devices/add", `[{"typeId":"sensor","deviceId":"new2"}]`, 201)
	hidden := w.do(w.request("POST", "/api/v0002/device/types/sensor/devices", `{"deviceId":"new3","gatewayTypeId":"hub","gatewayId":"g1"}`))
	missing := w.do(w.request("POST", "/api/v0002/device/types/sensor/devices", `{"deviceId":"new3","gatewayTypeId":"hub","gatewayId":"g2"}`))
	if hidden.status != 400 || hidden.text != missing.text {
		t.Errorf("behind a hidden gateway: %s, behind none: %s", hidden.text, missing.text)
	}
	if got := w.all(t, "/bulk/devices"); strings.Join(got, " ") != "s00 s02 s04 s06 s08 new1 new2" && len(got) != 7 {
		t.Errorf("devices %v", got)
	}
	w.decider.On(policy.ActionAdminister, nil)
	w.call("GET", "/device/types/sensor/devices/s01", "", 200)
	w.call("GET", "/device/types/sensor/devices/s10", "", 404)

	// Who reaches nothing sees nothing, and makes nothing that others see.
	w.decider.On(policy.ActionAdminister, heldTo())
	for _, path := range []string{"/bulk/devices", "/authorization/devices", "/clientconnectionstates", "/groups"} {
		if got := w.all(t, path); len(got) != 0 {
			t.Errorf("%s lists %v", path, got)
		}
	}
}

// A gateway shows its own token by Basic, and is told apart from everybody else.
func TestGatewayOverREST(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	_, token, err := w.registry.CreateDevice(t.Context(), w.acme.Organisation.ID, registry.Device{Type: "hub", ID: "g2"}, plugins.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	for username, want := range map[string]int{
		"g/acme01/hub/g2": 200, "g-acme01-hub-g2": 200, "g/acme01/hub/g1": 401, "g/other1/hub/g2": 401, "d/acme01/hub/g2": 401, "g/acme01/sensor/d1": 401,
	} {
		r := w.request("GET", "/api/v0002/device/types", "")
		r.SetBasicAuth(username, token)
		if got := w.do(r); got.status != want {
			t.Errorf("%s: %d %s", username, got.status, got.text)
		}
	}
	asked := w.decider.Asked(policy.ActionAdminister)
	p := asked[len(asked)-1].Facts.Principal
	if p.Kind != policy.KindGateway || !p.Restricted || !slices.Equal(p.Groups, []string{"gw_def_res_grp:acme01:hub:g2"}) || !slices.Equal(p.Roles, []string{registry.RolePrivilegedGateway}) {
		t.Errorf("the policy was told of %+v", p)
	}
}
