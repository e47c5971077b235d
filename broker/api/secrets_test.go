package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A token is in the answer to the call that made it, and nowhere else.
func TestTokensAppearOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	remember := func(field string, r reply) {
		token, _ := r.object(t)[field].(string)
		if strings.Count(r.text, token) != 1 || token == "" {
			t.Errorf("the answer holds %s %d times", field, strings.Count(r.text, token))
		}
		w.secrets = append(w.secrets, token)
	}
	remember("authToken", w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d2"}`, http.StatusCreated))
	remember("authToken", w.call("POST", "/device/types/sensor/devices", `{"deviceId":"d3","authToken":"my-own-token-3"}`, http.StatusCreated))
	var added BulkResults
	several := w.call("POST", "/bulk/devices/add", `[{"typeId":"sensor","deviceId":"d5"},{"typeId":"sensor","deviceId":"d6","authToken":"my-own-token-6"}]`, http.StatusCreated)
	if err := json.Unmarshal([]byte(several.text), &added); err != nil || len(added) != 2 {
		t.Fatalf("bulk answer = %s, %v", several.text, err)
	}
	w.secrets = append(w.secrets, added[0].AuthToken, "my-own-token-6")
	remember("authToken", w.call("POST", "/device/types/sensor/devices/d2/token", "", http.StatusOK))
	remember("authToken", w.call("POST", "/device/types/sensor/devices/d3/token", `{"authToken":"my-own-token-4"}`, http.StatusOK))
	remember("token", w.call("POST", "/authorization/apikeys", `{}`, http.StatusOK))
	key := w.call("POST", "/authorization/apikeys", `{}`, http.StatusOK)
	remember("token", key)
	remember("token", w.call("POST", "/authorization/apikeys/"+key.object(t)["key"].(string)+"/token", `{"graceSeconds":5}`, http.StatusOK))

	var answers strings.Builder
	again := func(method, path, body string) {
		answers.WriteString(w.do(w.request(method, "/api/v0002"+path, body)).text)
	}
	for _, op := range w.api.operations {
		if op.method == "GET" {
			r, _ := w.requestFor(op)
			answers.WriteString(w.do(r).text)
		}
	}
	again("PUT", "/device/types/sensor/devices/d3", `{"metadata":{"a":1}}`)
	// What is refused does not come back either.
	again("POST", "/device/types/sensor/devices", `{"deviceId":"d3","authToken":"my-own-token-3"}`)
	again("POST", "/device/types/sensor/devices", `{"deviceId":"not valid","authToken":"my-own-token-3"}`)
	again("POST", "/device/types/sensor/devices", `{"deviceId":"d4","authToken":["my-own-token-3"]}`)
	again("POST", "/device/types/sensor/devices", `{"deviceId":"d4","authToken":my-own-token-3}`)
	again("POST", "/device/types/sensor/devices", `"my-own-token-3"`)
	again("POST", "/device/types/sensor/devices/d3/token", `{"authToken":"my-own-token-3","graceSeconds":-1}`)
	again("POST", "/bulk/devices/add", `[{"typeId":"sensor","deviceId":"d6","authToken":"my-own-token-6"},{"typeId":"sensor","deviceId":"a b","authToken":"my-own-token-6"}]`)
	again("POST", "/bulk/devices/add", `[{"typeId":"sensor","deviceId":"d6","authToken":["my-own-token-6"]}]`)
	wrong := w.request("GET", "/api/v0002/", "")
	wrong.SetBasicAuth(w.acme.APIToken, w.acme.AdminPassword)
	answers.WriteString(w.do(wrong).text)
	operator := httptest.NewRequest("GET", "/api/operator/v1/organisations", nil)
	answers.WriteString(serve(w.api.OperatorHandler(), operator).text)

	for _, secret := range w.secrets {
		if strings.Contains(answers.String(), secret) {
			t.Errorf("a later answer holds %q", secret)
		}
		if strings.Contains(w.logs.text(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if strings.Contains(w.logs.text(), "Basic ") || len(w.secrets) < 12 {
		t.Errorf("log = %s", w.logs.text())
	}
}
