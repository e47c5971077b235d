package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/storetest"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// furnish makes an organisation with something of everything, and returns what
// its people and devices sign in with.
func (f *fixture) furnish() (seed Seed, tokens map[string]string) {
	f.t.Helper()
	ctx := f.t.Context()
	seed = must[Seed](f.t)(f.SeedOrganisation(ctx, acme, "Acme & sons <1>"))
	_, err := f.UpdateOrganisation(ctx, acme, func(o *Organisation) error {
		o.Quotas.Connections, o.ConnectionLevel = 77, LevelTLSOptional
		addresses, err := NewAddressList(AddressesDenied, []string{"192.0.2.0/24", "2001:db8::1-2001:db8::9"})
		o.Connections = ConnectionRules{Levels: map[policy.ID]string{"sensor": LevelBoth}, Addresses: addresses, CertificateRegistration: true}
		if err != nil {
			return err
		}
		o.Data = map[string]any{"number": json.Number("12345678901234567890"), "list": []any{"a", nil, true}}
		return nil
	})
	f.ok(err)
	_, err = f.CreateType(ctx, acme, DeviceType{ID: "sensor", Description: "measures", Metadata: map[string]any{"unit": "K"}})
	f.ok(err)
	f.deviceType(acme, "hub", ClassGateway)
	f.deviceType(acme, "empty", ClassDevice)
	tokens = map[string]string{
		"d:acme01:sensor:d1": f.device(acme, "sensor", "d1", ""),
		"d:acme01:sensor:d2": f.device(acme, "sensor", "d2", "self-chosen"),
		"g:acme01:hub:g1":    f.device(acme, "hub", "g1", ""),
	}
	height := 3.5
	made, token, err := f.CreateDevice(ctx, acme, Device{
		Type: "sensor", ID: "behind", GatewayType: "hub", GatewayID: "g1", Groups: RefsTo("gw_def_res_grp:acme01:hub:g1"),
		Location: &Location{Longitude: 1, Latitude: 2, Elevation: &height}, CreatedBy: seed.APIKey.Key,
	}, plugins.Secret{})
	f.ok(err)
	tokens["d:acme01:sensor:"+string(made.ID)] = token
	f.device(acme, "sensor", "off", "")
	_, err = f.UpdateDevice(ctx, acme, "sensor", "off", func(d *Device) error { d.Disabled, d.Status.Alert.Enabled = true, true; return nil })
	f.ok(err)
	f.apiKey(acme, APIKey{Comment: "reads", Roles: []string{"PD_STANDARD_APP", "X"}, Expires: f.now().Add(time.Hour)})
	_, _, err = f.CreateUser(ctx, acme, User{Name: "ann"})
	f.ok(err)
	_, err = f.SetOrganisationPolicy(ctx, acme, OrganisationPolicy{Revision: "r1", Who: seed.APIKey.Key, Files: []PolicyFile{{"publish/publish.rego", "package cordon.publish\n"}}})
	f.ok(err)
	_, err = f.CreateRole(ctx, acme, Role{ID: "fleet", Description: "sees", Permissions: []string{"devices.view"}})
	f.ok(err)
	// d1 has two tokens for a while.
	tokens["new"] = must[string](f.t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.Secret{}, time.Hour))
	return seed, tokens
}

func (f *fixture) export(org policy.OrgID, o ExportOptions) string {
	f.t.Helper()
	var file bytes.Buffer
	must[Moved](f.t)(f.Export(f.t.Context(), org, &file, o))
	return file.String()
}

func (f *fixture) load(file string, o ImportOptions) (Moved, error) {
	return f.Import(f.t.Context(), strings.NewReader(file), o)
}

// What is exported here and imported there is exported there as the same bytes, and
// everybody signs in there with what they had.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		seed, tokens := f.furnish()
		f.organisation(other)
		file := f.export(acme, ExportOptions{})
		for _, secret := range []string{seed.APIToken, seed.AdminPassword, tokens["d:acme01:sensor:d1"], "self-chosen", tokens["new"]} {
			if strings.Contains(file, secret) {
				t.Error("the file has a secret")
			}
		}
		if strings.Contains(file, other.String()) || strings.Contains(file, "incarnation") || strings.Contains(file, "version\":2") {
			t.Errorf("the file has what is not its organisation's:\n%s", file)
		}
		if again := f.export(acme, ExportOptions{}); again != file {
			t.Error("the same state was exported as other bytes")
		}

		there := newFixture(t, stores[0].open(t))
		there.organisation(other) // so that numbers differ
		there.changes()
		moved := must[Moved](t)(there.load(file, ImportOptions{}))
		if got, want := fmt.Sprint(moved.Records), "map[api_key:2 credential:9 device:5 device_type:3 group:1 organisation:1 policy:1 role:1 user:2]"; got != want || moved.APIKey != "" || moved.Org != acme || moved.Skipped != 0 {
			t.Errorf("moved %+v, want %s", moved, want)
		}
		if told := there.changes(); len(told) != 2 || told[1].Kind != OrganisationPolicyChanged || told[0].Kind != OrganisationChanged || told[0].Org != acme {
			t.Errorf("told %+v", told)
		}
		if back := there.export(acme, ExportOptions{}); back != file {
			t.Errorf("exported\n%s\nimported\n%s", back, file)
		}
		checkWhole(t, there.Registry, acme, 5)

		for _, id := range []string{"d:acme01:sensor:d1", "d:acme01:sensor:d2", "g:acme01:hub:g1", "d:acme01:sensor:behind"} {
			p := must[policy.Principal](t)(there.connect(ctx, id, "use-token-auth", tokens[id]))
			if now := must[policy.Principal](t)(there.Refresh(ctx, &p)); now.Version != p.Version {
				t.Errorf("%s: version %d became %d", id, p.Version, now.Version)
			}
		}
		old := must[policy.Principal](t)(there.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", tokens["d:acme01:sensor:d1"]))
		current := must[policy.Principal](t)(there.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", tokens["new"]))
		if !old.ExpiresAt.Equal(f.now().Add(time.Hour)) || !current.ExpiresAt.IsZero() || old.Credential == current.Credential {
			t.Errorf("replaced %+v, current %+v", old.Credential, current.Credential)
		}
		must[policy.Principal](t)(there.basic(seed.APIKey.Key, seed.APIToken))
		must[policy.Principal](t)(there.basic("admin@acme01", seed.AdminPassword))
		_, err := there.connect(ctx, "d:acme01:sensor:off", "use-token-auth", "x")
		wantCause(t, err, policy.CauseBad)
		if h, err := there.find(acme); err != nil || !h.Record.OwnTokens {
			t.Errorf("the organisation's self-chosen tokens were forgotten: %v", err)
		}
		there.reopen()
		there.background.Wait()
		if back := there.export(acme, ExportOptions{}); back != file || graves(t, there.store) != 0 {
			t.Error("after the next opening it is another")
		}
	})
}

func TestExportWithoutCredentials(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	seed, tokens := f.furnish()
	file := f.export(acme, ExportOptions{WithoutCredentials: true})
	if strings.Contains(file, "$sha256$") || strings.Contains(file, "$argon2id$") || strings.Contains(file, `"kind":"credential"`) {
		t.Errorf("the file has credentials:\n%s", file)
	}
	there := newFixture(t, stores[0].open(t))
	moved := must[Moved](t)(there.load(file, ImportOptions{}))
	must[policy.Principal](t)(there.basic(moved.APIKey, moved.APIToken))
	_, err := there.basic(seed.APIKey.Key, seed.APIToken)
	wantCause(t, err, policy.CauseUnknown)
	_, err = there.connect(t.Context(), "d:acme01:sensor:d1", "use-token-auth", tokens["new"])
	wantCause(t, err, policy.CauseUnknown)
	token := must[string](t)(there.ReplaceDeviceToken(t.Context(), acme, "sensor", "d1", plugins.Secret{}, time.Hour))
	must[policy.Principal](t)(there.connect(t.Context(), "d:acme01:sensor:d1", "use-token-auth", token))
}

func TestMerge(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		_, tokens := f.furnish()
		file := f.export(acme, ExportOptions{})

		there := newFixture(t, stores[0].open(t))
		_, err := there.load(file, ImportOptions{Merge: true})
		refused(t, err, policy.KindNotFound)
		there.organisation(acme)
		there.deviceType(acme, "sensor", ClassDevice)
		mine := there.device(acme, "sensor", "d2", "")
		there.changes()

		moved := must[Moved](t)(there.load(file, ImportOptions{Merge: true}))
		if got, want := fmt.Sprint(moved.Records, moved.Skipped), "map[api_key:2 device:4 device_type:2 group:1 policy:1 role:1 user:2] 2"; got != want {
			t.Errorf("moved %s, want %s", got, want)
		}
		checkWhole(t, there.Registry, acme, 5)
		must[policy.Principal](t)(there.connect(ctx, "d:acme01:sensor:d2", "use-token-auth", mine))
		must[policy.Principal](t)(there.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", tokens["d:acme01:sensor:d1"]))
		must[policy.Principal](t)(there.connect(ctx, "d:acme01:sensor:d1", "use-token-auth", tokens["new"]))
		if o := must[Organisation](t)(there.Organisation(ctx, acme)); o.Quotas.Connections == 77 {
			t.Error("a merge changed the organisation's settings")
		}
		told := there.changes()
		if len(told) != 10 {
			t.Errorf("told %d changes, want one for each subject, one for the policy and one for the role", len(told))
		}
		again := must[Moved](t)(there.load(file, ImportOptions{Merge: true}))
		if got, want := again.Skipped, 3+5+2+2+1+1+1; got != want {
			t.Errorf("skipped %d, want %d", got, want)
		}
		there.background.Wait()
		if n := graves(t, there.store); n != 0 {
			t.Errorf("%d marks are left", n)
		}

		// A type of another class stops a merge before it begins.
		third := newFixture(t, stores[0].open(t))
		third.organisation(acme)
		third.deviceType(acme, "hub", ClassDevice)
		_, err = third.load(file, ImportOptions{Merge: true})
		refused(t, err, policy.KindConflict)
		checkWhole(t, third.Registry, acme, 0)
	})
}

// seal makes a file of lines, with an end that fits.
func seal(lines ...string) string {
	text := strings.Join(lines, "\n") + "\n"
	sum := sha256.Sum256([]byte(text))
	return text + fmt.Sprintf(`{"kind":"end","records":%d,"sha256":"%s"}`+"\n", len(lines)-1, hex.EncodeToString(sum[:]))
}

const (
	fileHead = `{"format":"cordon-organisation","version":1,"org":"acme01","credentials":true}`
	fileOrg  = `{"kind":"organisation","record":{"id":"acme01","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z","quotas":` +
		`{"connections":1,"sessions":1,"subscriptions":1,"publishRate":1,"storedBytes":1,"retainedBytes":1,"evaluationsRate":1}}}`
	fileType   = `{"kind":"device_type","record":{"id":"s","classId":"Device","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`
	fileDevice = `{"kind":"device","record":{"typeId":"s","deviceId":"d","classId":"Device","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`
	fileProof  = `{"kind":"credential","of":"device/s/d","record":{"current":{"hash":"$sha256$` + zeroSalt + `$` + zeroSum + `","created":"2026-01-01T00:00:00Z"}}}`
)

// An import that is refused leaves nothing.
func TestImportRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.organisation(other)
	good := seal(fileHead, fileOrg, fileType, fileDevice, fileProof)
	replaced := func(line, old, fresh string) string {
		if !strings.Contains(line, old) {
			t.Fatalf("%q is not in %q", old, line)
		}
		return strings.Replace(line, old, fresh, 1)
	}
	device := func(old, fresh string) string {
		return seal(fileHead, fileOrg, fileType, replaced(fileDevice, old, fresh))
	}
	for name, test := range map[string]struct {
		file string
		want policy.Kind
		says string
	}{
		"nothing":               {"", policy.KindInvalid, "line 1"},
		"something else":        {"hello\n", policy.KindInvalid, "not the beginning"},
		"another version":       {strings.Replace(good, `"version":1`, `"version":2`, 1), policy.KindInvalid, "2 is not known"},
		"no organisation":       {seal(fileHead), policy.KindInvalid, "without an organisation"},
		"organisation missing":  {seal(fileHead, fileType), policy.KindInvalid, "before the organisation"},
		"another organisation":  {strings.Replace(good, `"org":"acme01"`, `"org":"third1"`, 1), policy.KindInvalid, "line 2"},
		"one that exists":       {strings.Replace(good, `"org":"acme01"`, `"org":"other9"`, 1), policy.KindExists, "exists"},
		"reserved name":         {strings.Replace(good, `"org":"acme01"`, `"org":"quickstart"`, 1), policy.KindInvalid, "line 1"},
		"cut off":               {good[:len(good)-40], policy.KindInvalid, "line 6"},
		"no end":                {good[:strings.Index(good, `{"kind":"end"`)], policy.KindInvalid, "line 6"},
		"more after the end":    {good + "\n", policy.KindInvalid, "last one"},
		"damaged":               {strings.Replace(good, `"deviceId":"d"`, `"deviceId":"e"`, 1), policy.KindInvalid, "damaged"},
		"a record lost":         {strings.Replace(good, fileProof+"\n", "", 1), policy.KindInvalid, "records"},
		"twice":                 {seal(fileHead, fileOrg, fileType, fileType), policy.KindInvalid, "twice"},
		"organisation twice":    {seal(fileHead, fileOrg, fileOrg), policy.KindInvalid, "twice"},
		"not in order":          {seal(fileHead, fileOrg, fileDevice, fileType), policy.KindInvalid, "typeId"},
		"unknown kind":          {seal(fileHead, fileOrg, `{"kind":"secret_plan","record":{}}`), policy.KindInvalid, "newer"},
		"unknown field":         {device(`"typeId"`, `"colour":"red","typeId"`), policy.KindInvalid, `unknown field "colour"`},
		"field of the end":      {seal(fileHead, fileOrg, replaced(fileType, `"kind"`, `"records":1,"kind"`)), policy.KindInvalid, "line 3"},
		"of somebody":           {seal(fileHead, fileOrg, replaced(fileType, `"kind"`, `"of":"x","kind"`)), policy.KindInvalid, "line 3"},
		"no type":               {seal(fileHead, fileOrg, fileDevice), policy.KindInvalid, "typeId"},
		"class of another type": {device(`"classId":"Device"`, `"classId":"Gateway"`), policy.KindInvalid, "classId"},
		"ill-formed id":         {device(`"deviceId":"d"`, `"deviceId":"a/b"`), policy.KindInvalid, "deviceId"},
		"half a gateway":        {device(`"classId"`, `"gatewayTypeId":"s","classId"`), policy.KindInvalid, "gatewayId"},
		"number too large":      {device(`"classId"`, `"metadata":{"x":1e999999},"classId"`), policy.KindInvalid, "metadata"},
		"control character":     {device(`"classId"`, `"deviceInfo":{"model":"\u0000"},"classId"`), policy.KindInvalid, "deviceInfo.model"},
		"deep":                  {device(`"classId"`, `"metadata":`+strings.Repeat(`{"x":`, 40)+`1`+strings.Repeat(`}`, 40)+`,"classId"`), policy.KindInvalid, "metadata"},
		"null":                  {seal(fileHead, fileOrg, `{"kind":"device_type","record":null}`), policy.KindInvalid, "id"},
		"no record":             {seal(fileHead, fileOrg, `{"kind":"device_type"}`), policy.KindInvalid, "record"},
		"long line":             {fileHead + "\n" + strings.Repeat("x", 2*maxLine) + "\n", policy.KindInvalid, "longer"},
		"no line end":           {strings.Repeat("x", 2*maxLine), policy.KindInvalid, "longer"},
		"credential of nobody":  {seal(fileHead, fileOrg, fileType, fileDevice, replaced(fileProof, "device/s/d", "device/s/x")), policy.KindInvalid, "device/s/x"},
		"credential of a thing": {seal(fileHead, fileOrg, fileType, fileDevice, replaced(fileProof, "device/s/d", "thing/s/d")), policy.KindInvalid, "of"},
		"no hash":               {seal(fileHead, fileOrg, fileType, fileDevice, `{"kind":"credential","of":"device/s/d","record":{"current":{}}}`), policy.KindInvalid, "hash"},
		"costly hash": {
			seal(fileHead, fileOrg, fileType, fileDevice, replaced(fileProof, "$sha256$", "$argon2id$v=19$m=4194304,t=1,p=1$")),
			policy.KindInvalid, "record",
		},
		"credentials that are not announced": {seal(replaced(fileHead, "true", "false"), fileOrg, fileType, fileDevice, fileProof), policy.KindInvalid, "credentials"},
		"key of another":                     {seal(fileHead, fileOrg, `{"kind":"api_key","record":{"key":"a-other9-0123456789","roles":["X"],"created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`), policy.KindInvalid, "key"},
	} {
		_, err := f.load(test.file, ImportOptions{})
		var known *policy.Error
		if !errors.As(err, &known) || known.Kind != test.want || !strings.Contains(known.Field+" "+known.Public, test.says) {
			t.Errorf("%s: %v, want %v and %q", name, err, test.want, test.says)
		}
		if strings.Contains(fmt.Sprint(err), zeroSum) {
			t.Errorf("%s: the error has a hash in it", name)
		}
		if _, err := f.Organisation(t.Context(), acme); policy.KindOf(err) != policy.KindNotFound {
			t.Fatalf("%s: the organisation is there: %v", name, err)
		}
	}
	f.background.Wait()
	for incarnation := uint64(1); incarnation <= f.writer.last; incarnation++ {
		if n := left(t, f.store, acme, incarnation); n > 0 {
			t.Errorf("%d keys of incarnation %d are left", n, incarnation)
		}
	}
	if n := graves(t, f.store); n > 0 {
		t.Errorf("%d marks are left", n)
	}
	must[Moved](t)(f.load(good, ImportOptions{}))
	checkWhole(t, f.Registry, acme, 1)
}

// While a file is being read, nothing of it is there; who takes the name meanwhile
// keeps it.
func TestImportIsHidden(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	good := seal(fileHead, fileOrg, fileType, fileDevice, fileProof)
	_, err := f.Import(t.Context(), &lastRead{strings.NewReader(good), func() {
		if _, err := f.Organisation(t.Context(), acme); policy.KindOf(err) != policy.KindNotFound {
			t.Errorf("half an organisation is there: %v", err)
		}
		f.organisation(acme)
	}}, ImportOptions{})
	refused(t, err, policy.KindExists)
	checkWhole(t, f.Registry, acme, 0)
}

// lastRead calls end before it says that there is no more.
type lastRead struct {
	*strings.Reader
	end func()
}

func (r *lastRead) Read(b []byte) (int, error) {
	if r.Len() == 0 {
		r.end()
	}
	return r.Reader.Read(b)
}

// An import whose last commit is in doubt is not removed.
func TestImportInDoubt(t *testing.T) {
	t.Parallel()
	faulty := storetest.NewFaulty(stores[0].open(t))
	f := newFixture(t, faulty)
	good := seal(fileHead, fileOrg, fileType, fileDevice, fileProof)
	doubt := errors.New("sync failed")
	_, err := f.Import(t.Context(), &lastRead{strings.NewReader(good), func() { faulty.FailAnswers(doubt) }}, ImportOptions{})
	faulty.FailAnswers(nil)
	if !errors.Is(err, doubt) {
		t.Fatalf("error %v", err)
	}
	f.background.Wait()
	if _, err := f.Organisation(t.Context(), acme); err == nil {
		checkWhole(t, f.Registry, acme, 1)
	} else {
		f.reopen()
		f.background.Wait()
		if n := graves(t, f.store); n > 0 {
			t.Errorf("%d marks are left", n)
		}
	}
}

// Every kind of an organisation's registry can be exported, and imported again.
func TestEveryKindHasAPart(t *testing.T) {
	t.Parallel()
	previous := store.Kind(0)
	for kind := store.KindOrganisation; kind <= lastOfRegistry; kind++ {
		p, ok := partOf(kind)
		if named := !strings.HasPrefix(kind.String(), "kind-"); named != ok {
			t.Errorf("%v: it is a kind: %v, it is a part: %v", kind, named, ok)
		}
		if ok && (p.kind <= previous || p.show == nil || p.take == nil) {
			t.Errorf("%v is not in order, or not whole", kind)
		}
		previous = max(previous, p.kind)
	}
}

// A writer that fails ends an export, and what was written is no import.
func TestExportThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	f.furnish()
	full := errors.New("full")
	_, err := f.Export(t.Context(), acme, failingWriter{full}, ExportOptions{})
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	_, err = f.Export(t.Context(), other, failingWriter{full}, ExportOptions{})
	refused(t, err, policy.KindNotFound)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// Whatever is read as an import is exported as the same again, and nothing else
// gets in.
func FuzzImport(f *testing.F) {
	good := seal(fileHead, fileOrg, fileType, fileDevice, fileProof)
	f.Add(good, false)
	f.Add(good[:len(good)/2], false)
	f.Add(strings.Join([]string{fileHead, fileOrg, fileType, fileDevice, fileProof}, "\n"), true)
	f.Add(strings.Join([]string{fileHead, fileOrg}, "\n"), true)
	f.Add(fileHead, true)
	f.Fuzz(func(t *testing.T, text string, sealed bool) {
		if sealed { // or no input would ever get past the checksum
			text = seal(strings.Split(text, "\n")...)
		}
		openEmpty := func() *Registry {
			st := stores[0].open(t)
			r, err := Open(st, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close(); _ = st.Close() })
			return r
		}
		r := openEmpty()
		moved, err := r.Import(t.Context(), strings.NewReader(text), ImportOptions{})
		r.background.Wait()
		if err != nil {
			if kind := policy.KindOf(err); kind != policy.KindInvalid && kind != policy.KindExists {
				t.Fatalf("refused with %v", err)
			}
			if n := graves(t, r.store); n != 0 {
				t.Fatalf("%d marks are left", n)
			}
			return
		}
		var first, second bytes.Buffer
		must[Moved](t)(r.Export(t.Context(), moved.Org, &first, ExportOptions{}))
		again := openEmpty()
		must[Moved](t)(again.Import(t.Context(), bytes.NewReader(first.Bytes()), ImportOptions{}))
		must[Moved](t)(again.Export(t.Context(), moved.Org, &second, ExportOptions{}))
		if first.String() != second.String() {
			t.Fatalf("%s\nbecame\n%s", first.String(), second.String())
		}
	})
}
