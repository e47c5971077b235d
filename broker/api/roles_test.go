package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

func TestOwnRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const all = "/authorization/roles"
	fleet := func(permissions string) string {
		return `{"roleId":"fleet","description":"sees devices","permissions":[` + permissions + `],"createdDateTime":` + moment + `,"updatedDateTime":` + moment + `}`
	}
	w.call("GET", all, "", http.StatusOK).wantJSON(t, `{"results":[],"meta":{}}`)
	made := w.call("POST", all, `{"roleId":"fleet","description":"sees devices","permissions":["devices.view","events.subscribe"]}`, http.StatusCreated)
	made.wantJSON(t, fleet(`"devices.view","events.subscribe"`))
	w.call("GET", all, "", http.StatusOK).wantJSON(t, `{"results":[`+fleet(`"devices.view","events.subscribe"`)+`],"meta":{}}`)
	w.call("PUT", all+"/fleet", `{"permissions":["types.view"]}`, http.StatusOK).wantJSON(t, fleet(`"types.view"`))
	w.call("PUT", all+"/fleet", `{"permissions":null,"roleId":"other"}`, http.StatusOK).wantJSON(t, fleet(`"types.view"`))
	w.call("GET", all+"/fleet", "", http.StatusOK).wantJSON(t, fleet(`"types.view"`))
	w.call("POST", all, `{"roleId":"fleet","permissions":["types.view"]}`, http.StatusConflict)
	for _, bad := range []string{
		`{}`, `{"permissions":["types.view"]}`, `{"roleId":"x"}`, `{"roleId":"x","permissions":[]}`, `{"roleId":"x","permissions":["types.delete"]}`,
		`{"roleId":"x","permissions":["everything"]}`, `{"roleId":"x","permissions":"types.view"}`, `{"roleId":"a/b","permissions":["types.view"]}`,
		`{"roleId":"PD_X","permissions":["types.view"]}`, `{"roleId":"Administrator","permissions":["types.view"]}`, `{"roleId":"x","permissions":["types.view,types.edit"]}`,
	} {
		w.call("POST", all, bad, http.StatusBadRequest)
	}
	w.call("PUT", all+"/fleet", `{"permissions":[]}`, http.StatusBadRequest)
	for _, path := range []string{all + "/none", all + "/a%2Fb"} {
		w.call("GET", path, "", http.StatusNotFound)
		w.call("PUT", path, `{}`, http.StatusNotFound)
		w.call("DELETE", path, "", http.StatusNotFound)
	}

	// One that somebody has stays.
	key := w.call("POST", "/authorization/apikeys", `{"roles":["fleet"]}`, http.StatusOK).object(t)["key"].(string)
	w.call("DELETE", all+"/fleet", "", http.StatusConflict)
	w.call("PUT", "/authorization/apikeys/"+key+"/roles", `{"roles":["PD_STANDARD_APP"]}`, http.StatusOK)
	w.call("DELETE", all+"/fleet", "", http.StatusNoContent)
	for i := range 20 {
		w.call("POST", all, fmt.Sprintf(`{"roleId":"r%d","permissions":["types.view"]}`, i), http.StatusCreated)
	}
	w.call("POST", all, `{"roleId":"more","permissions":["types.view"]}`, http.StatusConflict)

	// Another organisation has none of it.
	r := w.request("GET", "/api/v0002"+all+"/r1", "")
	r.SetBasicAuth(w.other.APIKey.Key, w.other.APIToken)
	w.do(r).wantError(t, http.StatusNotFound, "CDNHT0404E")
}

func TestRolesOfAPIKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.call("POST", "/authorization/apikeys", `{}`, http.StatusOK).object(t)["key"].(string)
	path := "/authorization/apikeys/" + key + "/roles"
	show := func(roles ...string) string {
		list := []string{}
		for _, role := range roles {
			list = append(list, `{"roleId":"`+role+`","roleStatus":1}`)
		}
		return `{"roles":[` + strings.Join(list, ",") + `],"rolesToGroups":{}}`
	}
	w.call("GET", path, "", http.StatusOK).wantJSON(t, show("PD_STANDARD_APP"))
	w.call("PUT", path, show("PD_OPERATOR_APP", "PD_DEVICE_APP"), http.StatusOK).wantJSON(t, show("PD_OPERATOR_APP", "PD_DEVICE_APP"))
	w.call("PUT", path, `{"roles":["PD_VISUALIZATION_APP"],"rolesToGroups":null}`, http.StatusOK).wantJSON(t, show("PD_VISUALIZATION_APP"))
	w.call("PUT", path, `{"roles":[{"roleId":"PD_OPERATOR_APP"}],"rolesToGroups":{"PD_OPERATOR_APP":[]}}`, http.StatusOK).wantJSON(t, show("PD_OPERATOR_APP"))
	for _, bad := range []string{
		`{}`, `{"roles":null}`, `{"roles":[]}`, `{"roles":[null]}`, `{"roles":[7]}`, `{"roles":[{}]}`, `{"roles":["a,b"]}`, `{"roles":"PD_ADMIN_APP"}`,
		`{"roles":[{"roleId":"PD_ADMIN_APP","roleStatus":0}]}`, `{"roles":[{"roleId":7}]}`, `{"roles":["PD_STANDARD_APP"],"rolesToGroups":{"PD_STANDARD_APP":["south"]}}`,
	} {
		w.call("PUT", path, bad, http.StatusBadRequest)
	}
	w.call("GET", path, "", http.StatusOK).wantJSON(t, show("PD_OPERATOR_APP"))
	for _, unknown := range []string{"a-acme01-0123456789", w.other.APIKey.Key, "x"} {
		w.call("GET", "/authorization/apikeys/"+unknown+"/roles", "", http.StatusNotFound)
		w.call("PUT", "/authorization/apikeys/"+unknown+"/roles", show("PD_STANDARD_APP"), http.StatusNotFound)
	}
}

// The policy sees what a call would give, or let the caller take: the roles that are
// asked for and those that there are, and what those of the organisation permit.
func TestThePolicySeesWhatIsGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, org := context.Background(), w.acme.Organisation.ID
	for id, permissions := range map[policy.ID][]string{"fleet": {"devices.view", "events.publish"}, "logs": {"logs.view"}} {
		if _, err := w.registry.CreateRole(ctx, org, registry.Role{ID: id, Permissions: permissions}); err != nil {
			t.Fatal(err)
		}
	}
	k, _, err := w.registry.CreateAPIKey(ctx, org, registry.APIKey{Roles: []string{"fleet"}})
	if err != nil {
		t.Fatal(err)
	}
	keys, one := "/authorization/apikeys", "/authorization/apikeys/"+k.Key
	for _, test := range []struct{ method, path, body, roles, permissions string }{
		{"POST", keys, `{}`, "PD_STANDARD_APP", ""},
		{"POST", keys, `{"roles":[]}`, "PD_STANDARD_APP", ""},
		{"POST", keys, `{"roles":["logs","PD_DEVICE_APP"]}`, "logs,PD_DEVICE_APP", "logs.view"},
		{"POST", one + "/token", ``, "fleet", "devices.view,events.publish"},
		{"PUT", one, `{"comment":"x"}`, "fleet", "devices.view,events.publish"},
		{"PUT", one, `{"roles":[]}`, "PD_STANDARD_APP,fleet", "devices.view,events.publish"},
		{"PUT", one + "/roles", `{"roles":["logs"]}`, "logs,fleet", "logs.view,devices.view,events.publish"},
		{"PUT", one + "/roles", `{"roles":[{"roleId":"logs","roleStatus":1}]}`, "logs,fleet", "logs.view,devices.view,events.publish"},
		{"POST", "/authorization/roles", `{"roleId":"x","permissions":["types.view","types.edit"]}`, "", "types.view,types.edit"},
		{"PUT", "/authorization/roles/fleet", `{"permissions":["types.view"]}`, "", "types.view,devices.view,events.publish"},
		{"PUT", "/authorization/roles/fleet", `{"description":"x"}`, "", "devices.view,events.publish"},
	} {
		w.decider.Forget()
		w.decider.Deny(policy.ActionAdminister, "no")
		w.call(test.method, test.path, test.body, http.StatusForbidden)
		asked := w.decider.Asked(policy.ActionAdminister)
		if len(asked) != 1 {
			t.Fatalf("%s %s: asked %d times", test.method, test.path, len(asked))
		}
		target := asked[0].Request.Target
		if target["roles"] != test.roles || target["permissions"] != test.permissions {
			t.Errorf("%s %s %s: target = %v, want %q and %q", test.method, test.path, test.body, target, test.roles, test.permissions)
		}
	}
	if found, err := w.registry.APIKey(ctx, org, k.Key); err != nil || !slices.Equal(found.Roles, []string{"fleet"}) {
		t.Errorf("the key is %+v, %v", found, err)
	}
}
