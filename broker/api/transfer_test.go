package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// importing is the operator's request to import a file.
func (w *world) importing(query, file string) *http.Request {
	r := httptest.NewRequest("POST", operatorPrefix+"/organisations/import"+query, strings.NewReader(file))
	r.Header.Set("Content-Type", transferType)
	return r
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	file := w.operator("GET", "/organisations/acme01/export", "", http.StatusOK)
	if got := file.header.Get("Content-Type"); got != transferType {
		t.Errorf("Content-Type = %q", got)
	}
	for _, word := range append(w.theirs(), w.secrets...) {
		if strings.Contains(file.text, word) {
			t.Errorf("the file holds %q", word)
		}
	}
	bare := w.operator("GET", "/organisations/acme01/export?credentials=false", "", http.StatusOK)
	if !strings.Contains(file.text, "$sha256$") || strings.Contains(bare.text, "$sha256$") {
		t.Error("the hashes are in the wrong file")
	}
	w.operator("GET", "/organisations/absent1/export", "", http.StatusNotFound).wantError(t, http.StatusNotFound, "CDNHT0404E")
	w.operator("GET", "/organisations/acme01/export?credentials=perhaps", "", http.StatusBadRequest).wantError(t, http.StatusBadRequest, "CUDRS0007E")

	there := newWorld(t)
	if err := there.registry.DeleteOrganisation(t.Context(), there.acme.Organisation.ID); err != nil {
		t.Fatal(err)
	}
	got := serve(there.api.OperatorHandler(), there.importing("", file.text))
	if got.status != http.StatusCreated {
		t.Fatalf("import = %d %s", got.status, got.text)
	}
	got.wantJSON(t, `{"org":"acme01","records":{"api_key":1,"credential":4,"device":2,"device_type":2,"group":1,"organisation":1,"user":1},"skipped":0}`)
	if back := there.operator("GET", "/organisations/acme01/export", "", http.StatusOK); back.text != file.text {
		t.Errorf("exported again:\n%s\nimported\n%s", back.text, file.text)
	}
	there.acme = w.acme
	there.call("GET", "/device/types/sensor/devices/d1", "", http.StatusOK) // with the API key of before

	serve(there.api.OperatorHandler(), there.importing("", file.text)).wantError(t, http.StatusConflict, "CDNHT0409E")
	serve(there.api.OperatorHandler(), there.importing("?merge=true", file.text)).
		wantJSON(t, `{"org":"acme01","records":{"api_key":0,"device":0,"device_type":0,"group":0,"user":0},"skipped":7}`)
	damaged := strings.Replace(file.text, `"sensor"`, `"censor"`, 1)
	serve(there.api.OperatorHandler(), there.importing("", damaged[:len(damaged)-2])).wantError(t, http.StatusConflict, "CDNHT0409E")
	cut := serve(there.api.OperatorHandler(), there.importing("", strings.ReplaceAll(file.text[:400], "acme01", "third1")))
	cut.wantError(t, http.StatusBadRequest, "CUDRS0007E")
	if !strings.Contains(cut.text, "line ") {
		t.Errorf("the answer does not name the line: %s", cut.text)
	}
	wrong := there.importing("", file.text)
	wrong.Header.Set("Content-Type", "application/json")
	serve(there.api.OperatorHandler(), wrong).wantError(t, http.StatusUnsupportedMediaType, "CDNHT0415E")

	// Without hashes somebody still has to sign in.
	if err := there.registry.DeleteOrganisation(t.Context(), there.acme.Organisation.ID); err != nil {
		t.Fatal(err)
	}
	made := serve(there.api.OperatorHandler(), there.importing("", bare.text)).object(t)
	there.acme.APIKey.Key, there.acme.APIToken = fmt.Sprint(made["apiKey"]), fmt.Sprint(made["apiToken"])
	there.call("GET", "/device/types/sensor/devices/d1", "", http.StatusOK)

	lines := there.logs.lines(t, "operator")
	if last := lines[len(lines)-1]; last["action"] != "import_organisation" || last["org"] != "acme01" || last["status"] != float64(http.StatusCreated) {
		t.Errorf("log = %v", last)
	}
	if strings.Contains(there.logs.text(), there.acme.APIToken) {
		t.Error("the log has the token")
	}
}

// A body that stops in the middle is the caller's fault, and leaves nothing.
func TestTransferThatBreaksOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := strings.ReplaceAll(w.operator("GET", "/organisations/acme01/export", "", http.StatusOK).text, "acme01", "third1")
	for _, cause := range []error{io.ErrUnexpectedEOF, errors.New("connection reset")} {
		r := httptest.NewRequest("POST", operatorPrefix+"/organisations/import", io.MultiReader(strings.NewReader(file[:300]), failingBody{cause}))
		r.Header.Set("Content-Type", transferType)
		if got := serve(w.api.OperatorHandler(), r); got.status < 400 {
			t.Errorf("%v: %d %s", cause, got.status, got.text)
		}
	}
	if _, err := w.registry.Organisation(t.Context(), mustOrg(t, "third1")); policy.KindOf(err) != policy.KindNotFound {
		t.Errorf("the organisation is there: %v", err)
	}

	// An answer that cannot be finished is cut, so that nobody takes it for whole.
	server := httptest.NewServer(w.api.OperatorHandler())
	defer server.Close()
	w.api.registry = halfExport{w.api.registry}
	rs, err := http.Get(server.URL + operatorPrefix + "/organisations/acme01/export")
	if err != nil {
		t.Fatal(err)
	}
	defer rs.Body.Close()
	if _, err := io.ReadAll(rs.Body); err == nil {
		t.Error("half an export ended as a whole one does")
	}
}

// halfExport writes a while and fails.
type halfExport struct{ Registry }

func (h halfExport) Export(_ context.Context, _ policy.OrgID, out io.Writer, _ registry.ExportOptions) (registry.Moved, error) {
	_, _ = io.WriteString(out, strings.Repeat("x", 100<<10))
	return registry.Moved{}, errors.New("storage failed")
}
