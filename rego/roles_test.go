package rego_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/topic"
	"github.com/cordon-mq/cordon/rego"
)

// The published tables of what a role may do, in their words. Each row says which
// permissions it is, and each column which role; a cell is "x" or "-". In the last
// columns are the roles of users, which the platform names and says no more of.
const permissionTable = `
row                               permissions                                               PD_STANDARD_APP PD_OPERATOR_APP PD_BACKEND_TRUSTED_APP PD_DATA_PROCESSOR_APP PD_VISUALIZATION_APP PD_DEVICE_APP PD_STANDARD_GW_DEVICE PD_PRIVILEGED_GW_DEVICE Operator Developer Analyst Reader
create-update-delete-devices      devices.edit                                              x x x - - - - x x x - -
view-devices                      devices.view                                              x x x x x - x x x x x x
publish-event                     events.publish                                            x - x - - x x x - - - -
subscribe-event                   events.subscribe                                          x x x x x x - - - - - -
publish-command                   commands.publish                                          x x x x - - - - - - - -
subscribe-command                 commands.subscribe                                        x - x - - x x x - - - -
device-management                 mgmt.edit                                                 x x - - - - - x x - - -
view-device-management            mgmt.view                                                 x x - - - x x x x x x -
create-update-delete-types        types.edit                                                x x x - - - - - x x - -
view-types                        types.view                                                x x x x - - x x x x x x
manage-diagnostic-logs            diagnostics.edit                                          x x - - - x - - x x - -
view-diagnostic-logs              diagnostics.view                                          x x x - - - - - x x x -
connection-logs                   logs.view,clients.view                                    x x x - - - - - x x x -
last-event-cache                  lastevents.view                                           x x x x x x - - x x x -
view-device-access                access.view                                               x x x x x - x x x x - -
change-device-access              access.edit                                               x x x - - - - x x x - -
view-keys                         apikeys.view                                              x x - - - - - - x x - -
view-users                        users.view                                                x x - - - - - - x - - -
change-keys-and-users             apikeys.edit,users.edit                                   - x - - - - - - - - - -
usage                             usage.view                                                x x - - - - - - x - x -
view-roles                        roles.view                                                x x - - - - - - x - - -
custom-roles                      roles.edit                                                - x - - - - - - - - - -
`

// What the published tables do not have.
const furtherTable = `
row                               permissions                                               PD_STANDARD_APP PD_OPERATOR_APP PD_BACKEND_TRUSTED_APP PD_DATA_PROCESSOR_APP PD_VISUALIZATION_APP PD_DEVICE_APP PD_STANDARD_GW_DEVICE PD_PRIVILEGED_GW_DEVICE Operator Developer Analyst Reader
see-the-organisation              organisation.view                                         x x x x x - - - x x x x
view-groups                       groups.view                                               x x x - - - - - x x - -
change-groups                     groups.edit                                               - x - - - - - - x - - -
view-settings                     settings.view                                             x x x - - - - - x x - -
change-settings                   settings.edit                                             - x - - - - - - x - - -
certificates                      certificates.view,certificates.edit                       - - - - - - - - - - - -
claims                            provisioning.view,provisioning.edit                       - - - - - - - - - - - -
connections                       connections.view,connections.edit                         - - - - - - - - - - - -
policy                            policy.view,policy.edit                                   - - - - - - - - - - - -
`

// cell says whether a role has a permission.
type cell struct {
	role, permission string
	has              bool
}

func cells(t *testing.T) (all []cell) {
	t.Helper()
	for _, table := range []string{permissionTable, furtherTable} {
		lines := strings.Split(strings.TrimSpace(table), "\n")
		roles := strings.Fields(lines[0])[2:]
		for _, line := range lines[1:] {
			fields := strings.Fields(line)
			if len(fields) != len(roles)+2 {
				t.Fatalf("%d fields in %q", len(fields), line)
			}
			for permission := range strings.SplitSeq(fields[1], ",") {
				for i, role := range roles {
					all = append(all, cell{role, permission, fields[i+2] == "x"})
				}
			}
		}
	}
	return all
}

// messagesOf are the topics that a permission of messaging is about.
var messagesOf = map[string]struct {
	action policy.Action
	levels []string
}{
	"events.publish": {policy.ActionPublish, []string{"iot-2/type/sensor/id/d1/evt/status/fmt/json"}},
	"events.subscribe": {policy.ActionSubscribe, []string{
		"iot-2/type/sensor/id/d1/evt/status/fmt/json", "iot-2/type/+/id/+/evt/+/fmt/+",
	}},
	"commands.publish": {policy.ActionPublish, []string{
		"iot-2/type/sensor/id/d1/cmd/reboot/fmt/json", "iot-2/type/sensor/id/d1/cmd/reboot",
	}},
	"commands.subscribe": {policy.ActionSubscribe, []string{
		"iot-2/type/sensor/id/d1/cmd/reboot/fmt/json", "iot-2/type/+/id/+/cmd/+/fmt/+", "iot-2/type/+/id/+/cmd/+",
	}},
}

// Every cell of the tables, as the calls and messages that it is about: each REST
// route that needs the permission, and each form of topic.
func TestRolesMayDoWhatTheTablesSay(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	bundle, _ := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if bundle == nil {
		t.Fatal("the bundle does not load")
	}
	engine := opa.New(opa.Options{Timeout: 10 * time.Second})
	defer engine.Close()
	engine.Activate(bundle)
	allows := func(p policy.Principal, r *policy.Request) bool {
		return engine.Judge(&policy.Facts{Principal: &p}).Decide(context.Background(), r).Allow
	}
	routes := routesOf(t)
	asked := 0
	// A role of the table, and one of the organisation that permits the same.
	for _, c := range cells(t) {
		application := policy.Principal{Org: org, Kind: policy.KindApplication, App: "app1", APIKey: "a-acme01-0123456789", Roles: []string{c.role}}
		own := application
		own.Roles = []string{"fleet"}
		if c.has {
			own.Permissions = []string{c.permission}
		}
		gateway := policy.Principal{Org: org, Kind: policy.KindGateway, Type: "router", ID: "g1", Roles: []string{c.role}, Registered: true}
		user := policy.Principal{Org: org, Kind: policy.KindUser, ID: "ann", Roles: []string{c.role}}
		callers := []policy.Principal{application, own}
		switch {
		case strings.HasSuffix(c.role, "_GW_DEVICE"):
			callers = []policy.Principal{gateway}
		case !strings.HasPrefix(c.role, "PD_"):
			callers = []policy.Principal{user}
		}
		if of, ok := messagesOf[c.permission]; ok {
			for _, p := range callers {
				for _, name := range of.levels {
					asked++
					if got := allows(p, messageRequest(t, of.action, name)); got != c.has {
						t.Errorf("%s %v of %v %v %s: %t", c.role, p.Permissions, p.Kind, of.action, name, got)
					}
				}
			}
			continue
		}
		for _, p := range callers {
			for _, r := range routes[c.permission] {
				asked++
				if got := allows(p, &r); got != c.has {
					t.Errorf("%s %v of %v %s %s: %t", c.role, p.Permissions, p.Kind, r.Method, r.Route, got)
				}
			}
		}
	}
	if asked < 500 {
		t.Errorf("only %d questions", asked)
	}
}

// The data has the cells of the tables and no other, also where no route needs the
// permission yet, and all of it is written in words that the registry knows.
func TestRoleDataIsTheTables(t *testing.T) {
	t.Parallel()
	bundle := data(t, rego.Bundle())["cordon"].(map[string]any)
	roles := bundle["roles"].(map[string]any)
	words := registry.Permissions()
	got := map[string][]string{}
	for role, list := range roles["calls"].(map[string]any) {
		for _, word := range list.([]any) {
			got[role] = append(got[role], word.(string))
		}
	}
	for role, acts := range roles["messages"].(map[string]any) {
		for act, kinds := range acts.(map[string]any) {
			for _, kind := range kinds.([]any) {
				got[role] = append(got[role], roles["words"].(map[string]any)[act].(map[string]any)[kind.(string)].(string))
			}
		}
	}
	want := map[string][]string{}
	inTables := []string{}
	for _, c := range cells(t) {
		if c.has {
			want[c.role] = append(want[c.role], c.permission)
		}
		inTables = append(inTables, c.permission)
	}
	for _, role := range []string{"PD_ADMIN_APP", "PD_ADMIN_USER", "Administrator"} {
		if !slices.Contains(got[role], "everything") {
			t.Errorf("%s has %v", role, got[role])
		}
		delete(got, role)
	}
	for _, role := range slices.Sorted(maps.Keys(got)) {
		slices.Sort(got[role])
		slices.Sort(want[role])
		if !slices.Equal(got[role], want[role]) {
			t.Errorf("%s has\n %v, want\n %v", role, got[role], want[role])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d roles in the data, %d in the tables", len(got), len(want))
	}
	slices.Sort(inTables)
	slices.Sort(words)
	if inTables = slices.Compact(inTables); !slices.Equal(inTables, words) {
		t.Errorf("the tables have\n %v, the registry\n %v", inTables, words)
	}
	for word := range routesOf(t) {
		if !slices.Contains(words, word) {
			t.Errorf("no role can have %s, which a call needs", word)
		}
	}
}

// routesOf are the REST calls that need each permission, with a target that gives
// nobody anything.
func routesOf(t *testing.T) map[string][]policy.Request {
	t.Helper()
	all := map[string][]policy.Request{}
	table := data(t, rego.Bundle())["cordon"].(map[string]any)["admin"].(map[string]any)["permissions"].(map[string]any)
	for route, methods := range table {
		for method, word := range methods.(map[string]any) {
			r := policy.Request{Action: policy.ActionAdminister, Method: method, Route: route, Target: map[string]string{"key": "a-acme01-9876543210"}}
			all[word.(string)] = append(all[word.(string)], r)
		}
	}
	return all
}

// messageRequest is about a topic or filter of a client with the identity mount.
func messageRequest(t *testing.T, action policy.Action, name string) *policy.Request {
	t.Helper()
	levels := strings.Split(name, "/")
	var device *policy.Device
	if len(levels) > 4 && !strings.Contains(levels[2]+levels[4], "+") {
		device = &policy.Device{Type: policy.ID(levels[2]), ID: policy.ID(levels[4]), Registered: true, Status: "enabled", Groups: []string{"hall"}}
	}
	if action == policy.ActionPublish {
		r := publish(t, levels)
		r.Device = device
		return r
	}
	filter, err := topic.ParseFilter(name)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Request{Action: action, Filter: filter, Levels: levels, QoS: 1, Device: device}
}

// What both roles of gateways may say and hear, for itself, for devices in and out
// of reach, and for those that there are not: "x" may, "r" may once it is registered.
const gatewayTable = `
device          event command commands one-command monitoring
itself          x     -       x        x           x
near            x     -       x        x           x
far             -     -       -        -           -
disabled        -     -       -        -           -
unknown         r     -       r        r           -
everyone        .     .       x        x           x
`

// The devices of the table, as the registry knows them.
var gatewayDevices = map[string]policy.Device{
	"itself":   {Type: "router", ID: "g1", Registered: true, Status: "enabled"},
	"near":     {Type: "sensor", ID: "near", Registered: true, Status: "enabled", Groups: []string{"attic", "hall"}},
	"far":      {Type: "sensor", ID: "far", Registered: true, Status: "enabled", Groups: []string{"attic"}},
	"disabled": {Type: "sensor", ID: "off", Registered: true, Status: "disabled", Groups: []string{"hall"}},
	"unknown":  {Type: "sensor", ID: "new"},
	"everyone": {Type: "+", ID: "+"},
}

var gatewayMessages = map[string]struct {
	action policy.Action
	rest   string
}{
	"event":       {policy.ActionPublish, "evt/status/fmt/json"},
	"command":     {policy.ActionPublish, "cmd/reboot/fmt/json"},
	"commands":    {policy.ActionSubscribe, "cmd/+/fmt/+"},
	"one-command": {policy.ActionSubscribe, "cmd/reboot"},
	"monitoring":  {policy.ActionSubscribe, "mon"},
}

// Every cell of gateways, restricted and not; what they are given, and where they
// read of what is refused.
func TestGatewaysMayDoWhatTheTableSays(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	bundle, _ := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if bundle == nil {
		t.Fatal("the bundle does not load")
	}
	engine := opa.New(opa.Options{Timeout: 10 * time.Second})
	defer engine.Close()
	engine.Activate(bundle)
	lines := strings.Split(strings.TrimSpace(gatewayTable), "\n")
	columns := strings.Fields(lines[0])
	for _, role := range []string{"", "PD_STANDARD_GW_DEVICE", "PD_PRIVILEGED_GW_DEVICE"} {
		for _, restricted := range []bool{true, false} {
			gateway := policy.Principal{Org: org, Kind: policy.KindGateway, Type: "router", ID: "g1", Registered: true, Restricted: restricted}
			if role != "" {
				gateway.Roles = []string{role}
			}
			if restricted {
				gateway.Groups = []string{"hall"}
			}
			judge := engine.Judge(&policy.Facts{Principal: &gateway})
			if judge.Decides(policy.ActionReceive) != restricted {
				t.Errorf("deliveries to a gateway that is restricted, %t, are judged: %t", restricted, !restricted)
			}
			for _, line := range lines[1:] {
				row := strings.Fields(line)
				device := gatewayDevices[row[0]]
				for i, cell := range row[1:] {
					m := gatewayMessages[columns[i+1]]
					if cell == "." {
						continue
					}
					r := messageRequest(t, m.action, "iot-2/type/"+string(device.Type)+"/id/"+string(device.ID)+"/"+m.rest)
					if r.Device != nil {
						r.Device = &device
					}
					d := judge.Decide(context.Background(), r)
					allow := cell == "x" || row[0] == "far" && !restricted && columns[i+1] != "command"
					register := cell == "r" && role == "PD_PRIVILEGED_GW_DEVICE"
					if d.Allow != allow || d.Register != register {
						t.Errorf("%q, restricted %t, %s %s: %+v", role, restricted, row[0], columns[i+1], d)
					}
					if !d.Allow && (d.Notify.Topic.String() != "iot-2/type/router/id/g1/notify" || (d.OnDeny == policy.Drop) != (m.action == policy.ActionPublish)) {
						t.Errorf("%q, restricted %t, %s %s: told in %+v, %v", role, restricted, row[0], columns[i+1], d.Notify, d.OnDeny)
					}
				}
			}
		}
	}
}

// Whoever cordon.receive.applies leaves out, the decision would allow whatever it is.
func TestReceiveAllowsWhomItIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	bundle, _ := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if bundle == nil {
		t.Fatal("the bundle does not load")
	}
	engine := opa.New(opa.Options{Timeout: 10 * time.Second})
	defer engine.Close()
	engine.Activate(bundle)
	left := 0
	for _, kind := range []policy.PrincipalKind{policy.KindDevice, policy.KindGateway, policy.KindApplication, policy.KindUser} {
		for _, groups := range [][]string{nil, {"hall"}, {"yard"}} {
			for _, restricted := range []bool{true, false} {
				p := policy.Principal{Org: org, Kind: kind, Type: "router", ID: "g1", App: "app1", Groups: groups, Restricted: restricted}
				judge := engine.Judge(&policy.Facts{Principal: &p})
				if judge.Decides(policy.ActionReceive) {
					continue
				}
				left++
				for _, device := range gatewayDevices {
					r := messageRequest(t, policy.ActionPublish, "iot-2/type/x/id/y/evt/status/fmt/json")
					r.Action, r.Device = policy.ActionReceive, &device
					if d := judge.Decide(context.Background(), r); !d.Allow {
						t.Errorf("%+v is not asked about, and would be denied %+v: %+v", p, device, d)
					}
				}
				r := messageRequest(t, policy.ActionPublish, "iot-2/app/app1/mon")
				r.Action = policy.ActionReceive
				if d := judge.Decide(context.Background(), r); !d.Allow {
					t.Errorf("%+v is not asked about, and would be denied what names no device: %+v", p, d)
				}
			}
		}
	}
	if left != 12 {
		t.Errorf("%d are not asked about; want the 12 that are not restricted", left)
	}
}
