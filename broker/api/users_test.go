package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// as does what a user of acme01 asks, and returns the status.
func (w *world) as(uid, password, method, path string) int {
	w.t.Helper()
	r := w.request(method, "/api/v0002"+path, "")
	r.SetBasicAuth(uid+"@acme01", password)
	return w.do(r).status
}

func TestUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const all, one = "/authorization/users", "/authorization/users/ann.b"
	show := func(name, status string, roles ...string) string {
		return `{"uid":"` + name + `","username":"` + name + `@acme01","roles":["` + strings.Join(roles, `","`) + `"],"status":` + status +
			`,"createdDateTime":` + moment + `,"updatedDateTime":` + moment + `}`
	}
	made := w.call("POST", all, `{"uid":"ann.b"}`, http.StatusCreated)
	password, _ := made.object(t)["password"].(string)
	if len(password) != 24 {
		t.Fatalf("password = %q, want 24 characters", password)
	}
	made.wantJSON(t, strings.TrimSuffix(show("ann.b", "1", "Reader"), "}")+`,"password":"`+password+`"}`)
	list := w.call("GET", all, "", http.StatusOK)
	list.wantJSON(t, `{"results":[`+show("admin", "1", "Administrator")+","+show("ann.b", "1", "Reader")+`],"meta":{}}`)
	w.call("GET", one, "", http.StatusOK).wantJSON(t, show("ann.b", "1", "Reader"))
	if strings.Contains(list.text, password) {
		t.Error("a list has a password")
	}

	w.call("PUT", one, `{"roles":["Developer","fleet"],"uid":"other","password":"my own"}`, http.StatusOK).wantJSON(t, show("ann.b", "1", "Developer", "fleet"))
	w.call("PUT", one, `{"roles":null,"status":null}`, http.StatusOK).wantJSON(t, show("ann.b", "1", "Developer", "fleet"))
	w.call("PUT", one, `{"roles":[]}`, http.StatusOK).wantJSON(t, show("ann.b", "1", "Reader"))
	const roles = `{"roles":[{"roleId":"Analyst","roleStatus":1}],"rolesToGroups":{}}`
	w.call("PUT", one+"/roles", roles, http.StatusOK).wantJSON(t, roles)
	w.call("PUT", one+"/roles", `{"roles":["Analyst"]}`, http.StatusOK).wantJSON(t, roles)
	w.call("GET", one+"/roles", "", http.StatusOK).wantJSON(t, roles)
	for _, bad := range []string{`{}`, `{"roles":[]}`, `{"roles":["a,b"]}`, `{"roles":[{"roleId":"Analyst","roleStatus":0}]}`, `{"roles":["Analyst"],"rolesToGroups":{"Analyst":["g"]}}`} {
		w.call("PUT", one+"/roles", bad, http.StatusBadRequest)
	}
	w.call("PUT", one, `{"status":2}`, http.StatusBadRequest)
	w.call("POST", all, `{"uid":"ann.b"}`, http.StatusConflict)
	for _, bad := range []string{`{}`, `{"uid":null}`, `{"uid":""}`, `{"uid":"ann@example.com"}`, `{"uid":"a b"}`, `{"uid":"` + strings.Repeat("x", 37) + `"}`, `{"uid":"b","roles":["a,b"]}`, `[]`} {
		w.call("POST", all, bad, http.StatusBadRequest)
	}

	// What is taken away counts from the next call on.
	if got := w.as("ann.b", password, "GET", "/device/types"); got != http.StatusOK {
		t.Errorf("ann gets %d", got)
	}
	w.call("PUT", one, `{"status":0}`, http.StatusOK).wantJSON(t, show("ann.b", "0", "Analyst"))
	if got := w.as("ann.b", password, "GET", "/device/types"); got != http.StatusUnauthorized {
		t.Errorf("disabled, ann gets %d", got)
	}
	w.call("PUT", one, `{"status":1}`, http.StatusOK)
	fresh := w.call("POST", one+"/password", "", http.StatusOK).object(t)
	if fresh["uid"] != "ann.b" || fresh["password"] == password {
		t.Errorf("replaced by %v", fresh)
	}
	if before, after := w.as("ann.b", password, "GET", "/device/types"), w.as("ann.b", fresh["password"].(string), "GET", "/device/types"); before != http.StatusUnauthorized || after != http.StatusOK {
		t.Errorf("with the password of before %d, with the new one %d", before, after)
	}
	w.call("POST", one+"/password", `{"graceSeconds":90000}`, http.StatusBadRequest)
	w.call("DELETE", one, "", http.StatusNoContent)
	if got := w.as("ann.b", fresh["password"].(string), "GET", "/device/types"); got != http.StatusUnauthorized {
		t.Errorf("removed, ann gets %d", got)
	}
	for _, unknown := range []string{"/ann.b", "/ann@acme01", "/a%2Fb"} {
		w.call("GET", all+unknown, "", http.StatusNotFound)
		w.call("PUT", all+unknown, `{"status":1}`, http.StatusNotFound)
		w.call("DELETE", all+unknown, "", http.StatusNotFound)
		w.call("POST", all+unknown+"/password", "", http.StatusNotFound)
		w.call("GET", all+unknown+"/roles", "", http.StatusNotFound)
		w.call("PUT", all+unknown+"/roles", roles, http.StatusNotFound)
	}
}

func TestTheLastAdministratorIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const admin = "/authorization/users/admin"
	for _, call := range []struct{ method, path, body string }{
		{"DELETE", admin, ""},
		{"PUT", admin, `{"status":0}`},
		{"PUT", admin, `{"roles":["Operator"]}`},
		{"PUT", admin, `{"roles":[]}`},
		{"PUT", admin + "/roles", `{"roles":["Operator"]}`},
	} {
		w.call(call.method, call.path, call.body, http.StatusConflict).wantError(t, http.StatusConflict, "CDNHT0409E")
	}
	w.call("POST", "/authorization/users", `{"uid":"ann","roles":["Administrator"]}`, http.StatusCreated)
	w.call("DELETE", admin, "", http.StatusNoContent)
	w.call("DELETE", "/authorization/users/ann", "", http.StatusConflict)
}

// The policy sees the roles that a user is to have and those that the user has, also
// of a user whose password is replaced, and of one who is removed.
func TestThePolicySeesWhatUsersAreGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("POST", "/authorization/roles", `{"roleId":"fleet","permissions":["devices.view"]}`, http.StatusCreated)
	w.call("POST", "/authorization/users", `{"uid":"ann","roles":["Analyst","fleet"]}`, http.StatusCreated)
	const all, one = "/authorization/users", "/authorization/users/ann"
	for _, test := range []struct{ method, path, body, roles, permissions string }{
		{"POST", all, `{"uid":"bob"}`, "Reader", ""},
		{"POST", all, `{"uid":"bob","roles":[]}`, "Reader", ""},
		{"POST", all, `{"uid":"bob","roles":["fleet","Administrator"]}`, "fleet,Administrator", "devices.view"},
		{"PUT", one, `{"status":0}`, "Analyst,fleet", "devices.view"},
		{"PUT", one, `{"roles":[]}`, "Reader,Analyst,fleet", "devices.view"},
		{"PUT", one + "/roles", `{"roles":["Operator"]}`, "Operator,Analyst,fleet", "devices.view"},
		{"POST", one + "/password", ``, "Analyst,fleet", "devices.view"},
		{"DELETE", one, ``, "Analyst,fleet", "devices.view"},
		{"DELETE", all + "/nobody", ``, "", ""},
	} {
		w.decider.Forget()
		w.decider.Deny(policy.ActionAdminister, "no")
		w.call(test.method, test.path, test.body, http.StatusForbidden)
		asked := w.decider.Asked(policy.ActionAdminister)
		if len(asked) != 1 {
			t.Fatalf("%s %s: asked %d times", test.method, test.path, len(asked))
		}
		if target := asked[0].Request.Target; target["roles"] != test.roles || target["permissions"] != test.permissions {
			t.Errorf("%s %s %s: target = %v, want %q and %q", test.method, test.path, test.body, target, test.roles, test.permissions)
		}
	}
	if u, err := w.registry.User(t.Context(), w.acme.Organisation.ID, "ann"); err != nil || !slices.Equal(u.Roles, []string{"Analyst", "fleet"}) || u.Disabled {
		t.Errorf("ann is %+v, %v", u, err)
	}
}
