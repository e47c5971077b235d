package registry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// tenant and about are the organisation and a device as a ledger knows them.
func (f *fixture) tenant(org policy.OrgID) ledger.Tenant {
	f.t.Helper()
	return ledger.Tenant{Org: org, Incarnation: must[Organisation](f.t)(f.Organisation(f.t.Context(), org)).Incarnation}
}

func (f *fixture) about(org policy.OrgID, typ, id policy.ID) ledger.Device {
	f.t.Helper()
	return ledger.Device{Type: typ, ID: id, Incarnation: must[Device](f.t)(f.Device(f.t.Context(), org, typ, id)).Incarnation}
}

// Settings and diagnostics go along; what came about where the organisation was does
// not, nor does what is left of a device that is gone.
func TestWhatIsNotedGoesAlong(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		f.organisation(acme)
		f.deviceType(acme, "sensor", ClassDevice)
		f.device(acme, "sensor", "gone", "")
		l, of := ledger.On(f.store), f.tenant(acme)
		entry := func(id string) ledger.Diagnostic {
			return ledger.Diagnostic{ID: id, Message: "about " + id, Data: "<&>", Severity: 2, Code: 7, Time: f.now()}
		}
		f.ok(l.AddDiagnostic(ctx, of, f.about(acme, "sensor", "gone"), ledger.DiagnosticLog, entry("OLD")))
		f.ok(f.DeleteDevice(ctx, acme, "sensor", "gone"))
		for _, id := range []policy.ID{"gone", "d1"} {
			f.device(acme, "sensor", id, "")
			d := f.about(acme, "sensor", id)
			f.ok(l.AddDiagnostic(ctx, of, d, ledger.DiagnosticLog, entry("FIRST")))
			f.ok(l.AddDiagnostic(ctx, of, d, ledger.DiagnosticLog, entry("SECOND")))
			f.ok(l.AddDiagnostic(ctx, of, d, ledger.ErrorCodes, entry("CODE")))
			b := l.Batch()
			f.ok(b.PutEvent(of, d, &ledger.Event{Name: "status", Payload: []byte("event-payload"), Time: f.now()}))
			f.ok(b.Commit(ctx))
		}
		f.ok(l.SetNoting(ctx, of, ledger.Noting{ClientState: false, LastEvents: true, TTLDays: 30}))
		file := f.export(acme, ExportOptions{})
		for _, absent := range []string{"OLD", "event-payload", "size"} {
			if strings.Contains(file, absent) {
				t.Errorf("the file has %q:\n%s", absent, file)
			}
		}

		there := newFixture(t, stores[0].open(t))
		there.organisation(other) // so that numbers differ
		moved := must[Moved](t)(there.load(file, ImportOptions{}))
		if moved.Records["noting"] != 1 || moved.Records["diagnostic"] != 6 {
			t.Errorf("moved %+v", moved)
		}
		if back := there.export(acme, ExportOptions{}); back != file {
			t.Errorf("exported\n%s\nimported\n%s", back, file)
		}
		m, to := ledger.On(there.store), there.tenant(acme)
		if n, err := m.Noting(to); err != nil || n != (ledger.Noting{LastEvents: true, TTLDays: 30}) {
			t.Errorf("noting %+v, %v", n, err)
		}
		all, err := m.Diagnostics(to, there.about(acme, "sensor", "gone"), ledger.DiagnosticLog)
		if err != nil || len(all) != 2 || all[0].ID != "FIRST" || all[1].Message != "about SECOND" {
			t.Errorf("diagnostics %+v, %v", all, err)
		}

		// A merge adds what is lacking, to the same device and to no namesake.
		if !must[bool](t)(m.DropDiagnostic(ctx, to, there.about(acme, "sensor", "d1"), ledger.DiagnosticLog, "FIRST")) {
			t.Error("nothing was dropped")
		}
		f.ok(there.DeleteDevice(ctx, acme, "sensor", "gone"))
		there.advance(time.Hour)
		there.device(acme, "sensor", "gone", "")
		moved = must[Moved](t)(there.load(file, ImportOptions{Merge: true}))
		if moved.Records["diagnostic"] != 1 || moved.Records["noting"] != 0 {
			t.Errorf("moved %+v", moved)
		}
		if all, err := m.Diagnostics(to, there.about(acme, "sensor", "d1"), ledger.DiagnosticLog); err != nil || len(all) != 2 {
			t.Errorf("diagnostics %+v, %v", all, err)
		}
		if all, err := m.Diagnostics(to, there.about(acme, "sensor", "gone"), ledger.DiagnosticLog); err != nil || len(all) != 0 {
			t.Errorf("a namesake has %+v, %v", all, err)
		}
	})
}

// What is noted comes in from outside, like everything in a file.
func TestNotedThatCannotBeImported(t *testing.T) {
	t.Parallel()
	line := func(of, id, more string) string {
		return fmt.Sprintf(`{"kind":"diagnostic","of":%q,"record":{"id":%q,"time":"2026-01-01T00:00:00Z","number":1%s}}`, of, id, more)
	}
	full := []string{}
	for i := range ledger.MaxDiagnostics + 1 {
		full = append(full, line("s/d/log", fmt.Sprintf("I%03d", i), ""))
	}
	for name, lines := range map[string][]string{
		"of nobody":           {line("s/none/log", "I", "")},
		"of no kind":          {line("s/d/else", "I", "")},
		"of an organisation":  {line("acme01", "I", "")},
		"without whose":       {`{"kind":"diagnostic","record":{"id":"I","time":"2026-01-01T00:00:00Z","number":1}}`},
		"a path":              {line("s/d/log", "../x", "")},
		"no id":               {line("s/d/log", "", "")},
		"twice":               {line("s/d/log", "I", ""), line("s/d/log", "I", "")},
		"too many":            full,
		"too long":            {line("s/d/log", "I", `,"message":"`+strings.Repeat("x", ledger.MaxDiagnosticText+1)+`"`)},
		"severity":            {line("s/d/log", "I", `,"severity":3`)},
		"unknown field":       {line("s/d/log", "I", `,"more":1`)},
		"noting, unknown":     {`{"kind":"noting","record":{"clientState":true,"lastEvents":true,"ttlDays":7,"more":1}}`},
		"noting, too long":    {`{"kind":"noting","record":{"clientState":true,"lastEvents":true,"ttlDays":46}}`},
		"noting, of somebody": {`{"kind":"noting","of":"s","record":{"clientState":true,"lastEvents":true,"ttlDays":7}}`},
	} {
		f := newFixture(t, stores[0].open(t))
		_, err := f.load(seal(append([]string{fileHead, fileOrg, fileType, fileDevice, fileProof}, lines...)...), ImportOptions{})
		if policy.KindOf(err) != policy.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever an organisation is made of, what is exported and imported elsewhere is
// exported there as the same bytes.
func TestAnyOrganisationMoves(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	name := rapid.StringMatching(`[A-Za-z0-9_.-]{1,12}`)
	text := rapid.StringMatching(`[ -~äπ]{0,20}`)
	rapid.Check(t, func(rt *rapid.T) {
		from, to := openOn(t, rt), openOn(t, rt)
		l := ledger.On(from.store)
		ok := func(err error) {
			if kind := policy.KindOf(err); err != nil && kind != policy.KindExists && kind != policy.KindConflict {
				rt.Fatal(err)
			}
		}
		if _, err := from.SeedOrganisation(ctx, acme, text.Draw(rt, "name")); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "shift") { // so that numbers differ
			if _, err := to.SeedOrganisation(ctx, other, ""); err != nil {
				rt.Fatal(err)
			}
		}
		o, err := from.Organisation(ctx, acme)
		ok(err)
		of := ledger.Tenant{Org: acme, Incarnation: o.Incarnation}
		types := rapid.SliceOfNDistinct(name, 1, 3, rapid.ID[string]).Draw(rt, "types")
		for _, typ := range types {
			_, err := from.CreateType(ctx, acme, DeviceType{ID: policy.ID(typ), ClassID: rapid.SampledFrom([]string{ClassDevice, ClassGateway}).Draw(rt, "class"), Description: text.Draw(rt, "description")})
			ok(err)
		}
		for range rapid.IntRange(0, 6).Draw(rt, "devices") {
			d := Device{
				Type: policy.ID(rapid.SampledFrom(types).Draw(rt, "type")), ID: policy.ID(name.Draw(rt, "id")), Disabled: rapid.Bool().Draw(rt, "disabled"),
				DeviceInfo: DeviceInfo{Model: text.Draw(rt, "model")}, Metadata: map[string]any{text.Draw(rt, "key"): text.Draw(rt, "value")},
			}
			if rapid.Bool().Draw(rt, "placed") {
				height := rapid.Float64Range(-100, 9000).Draw(rt, "elevation")
				d.Location = &Location{Longitude: rapid.Float64Range(-180, 180).Draw(rt, "longitude"), Latitude: rapid.Float64Range(-90, 90).Draw(rt, "latitude"), Elevation: &height, Measured: from.now()}
			}
			made, _, err := from.CreateDevice(ctx, acme, d, plugins.Secret{})
			if ok(err); err != nil {
				continue
			}
			about := ledger.Device{Type: made.Type, ID: made.ID, Incarnation: made.Incarnation}
			for range rapid.IntRange(0, 3).Draw(rt, "diagnostics") {
				e := ledger.Diagnostic{ID: name.Draw(rt, "entry"), Message: text.Draw(rt, "message"), Severity: rapid.IntRange(0, 2).Draw(rt, "severity"), Code: rapid.Int64().Draw(rt, "code"), Time: from.now().UTC()}
				ok(l.AddDiagnostic(ctx, of, about, rapid.SampledFrom([]ledger.Diagnosis{ledger.DiagnosticLog, ledger.ErrorCodes}).Draw(rt, "kind"), e))
			}
		}
		for range rapid.IntRange(0, 3).Draw(rt, "people") {
			_, _, err := from.CreateUser(ctx, acme, User{Name: policy.ID(name.Draw(rt, "user")), Roles: rapid.SliceOfN(name, 0, 3).Draw(rt, "roles"), Disabled: rapid.Bool().Draw(rt, "off")})
			ok(err)
			_, _, err = from.CreateAPIKey(ctx, acme, APIKey{Comment: text.Draw(rt, "comment"), Roles: rapid.SliceOfN(name, 0, 3).Draw(rt, "key roles")})
			ok(err)
			_, err = from.CreateRole(ctx, acme, Role{ID: policy.ID(name.Draw(rt, "role")), Permissions: rapid.SliceOfN(rapid.SampledFrom(Permissions()), 1, 3).Draw(rt, "permissions")})
			ok(err)
		}
		if rapid.Bool().Draw(rt, "policy") {
			_, err := from.SetOrganisationPolicy(ctx, acme, OrganisationPolicy{Revision: "r1", Files: []PolicyFile{{"publish/publish.rego", "package cordon.publish\n" + "# " + text.Draw(rt, "comment") + "\n"}}})
			ok(err)
		}
		if rapid.Bool().Draw(rt, "noting") {
			ok(l.SetNoting(ctx, of, ledger.Noting{LastEvents: rapid.Bool().Draw(rt, "events"), TTLDays: rapid.IntRange(1, 45).Draw(rt, "days")}))
		}

		var first, second bytes.Buffer
		if _, err := from.Export(ctx, acme, &first, ExportOptions{}); err != nil {
			rt.Fatal(err)
		}
		if _, err := to.Import(ctx, bytes.NewReader(first.Bytes()), ImportOptions{}); err != nil {
			rt.Fatalf("%v\n%s", err, first.String())
		}
		if _, err := to.Export(ctx, acme, &second, ExportOptions{}); err != nil || first.String() != second.String() {
			rt.Fatalf("exported\n%s\nimported\n%s (%v)", first.String(), second.String(), err)
		}
	})
}

// openOn is a registry on a store of its own, for one case.
func openOn(t *testing.T, rt *rapid.T) *Registry {
	st := stores[0].open(t)
	r, err := Open(st, Options{})
	if err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() { r.Close(); _ = st.Close() })
	return r
}
