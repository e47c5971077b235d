package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guests are small modules of the host's own tests. token_answers answers with
// its token, good lets everybody in as one device.
var guests = filepath.Join("plugins", "wasm", "testdata", "guests")

// guestIn copies a module into a folder of its own and puts a .yaml beside it.
func guestIn(t *testing.T, name, settings string) string {
	t.Helper()
	module, err := os.ReadFile(filepath.Join(guests, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "door.wasm")
	for target, text := range map[string][]byte{file: module, filepath.Join(dir, "door.yaml"): []byte(settings)} {
		if err := os.WriteFile(target, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// patientSettings give a busy machine its time.
const patientSettings = "name: door\nlimits: {deadline: 1s}\n"

func TestPluginCheck(t *testing.T) {
	t.Parallel()
	const passes = `
vectors:
  - {name: anybody, token: x, want: ok, subject: {kind: device, type: sensor, id: d1}}
`
	for name, tt := range map[string]struct {
		guest, settings string
		args            []string
		want            []string // lines, without what comes after
		status          int
	}{
		"good": {"good", patientSettings + passes, []string{"--org", "acme01"}, []string{
			"file           door.wasm, ", "interface      auth_abi v1", "memory         64.0 KiB at first, ",
			"limits         1s a call, 64.0 MiB of memory, ", "times          compile ", "serves         acme01",
			"pass           anybody, ", "ok: it may go live",
		}, exitOK},
		"without vectors": {"good", patientSettings, nil, []string{
			"warning        has no vectors: nothing shows that it verifies anything", "ok: it may go live",
		}, exitOK},
		"a vector that does not come out": {"good", patientSettings + strings.Replace(passes, "d1", "d2", 1), nil, []string{
			"FAIL           anybody, ", `refused: self-test 1, "anybody": `,
		}, exitFailed},
		"an import that is none": {"imports_file", patientSettings, nil, []string{"refused: "}, exitFailed},
		"no plugin at all":       {"no_abi", patientSettings, nil, []string{"refused: "}, exitFailed},
		"settings with a fault":  {"good", "name: door\nlimit: {}\n", nil, []string{"refused: "}, exitFailed},
		"too slow to start":      {"slow_start", patientSettings, nil, []string{"refused: start: "}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, append([]string{"plugin", "check", guestIn(t, tt.guest, tt.settings)}, tt.args...)...)
			if got.status != tt.status || got.errors != "" {
				t.Errorf("status %d, %q, want %d", got.status, got.errors, tt.status)
			}
			for _, line := range tt.want {
				if !strings.Contains("\n"+got.out, "\n"+line) {
					t.Errorf("no line begins with %q:\n%s", line, got.out)
				}
			}
		})
	}
}

// What a plugin takes, of time and of memory, is measured: this one grows with each
// request, and the number after the self-test says so.
func TestPluginCheckMeasures(t *testing.T) {
	t.Parallel()
	settings := patientSettings + "vectors: [{name: nobody, token: x, want: bad}]\n"
	got := cordon(t, nil, "plugin", "check", guestIn(t, "leaking_memory", settings), "--org", "acme01")
	for _, line := range []string{
		`times          compile TIME, start TIME, call TIME`,
		`memory         64.0 KiB at first, at most 64.0 MiB; ([0-9.]+ MiB|[1-9]\d\d.\d KiB) after the self-test`,
		`limits         1s a call, 64.0 MiB of memory, \d+ instances at once, requests of 64.0 KiB, answers of 16.0 KiB`,
		`pass           nobody, TIME: .+`,
	} {
		pattern := strings.ReplaceAll(line, "TIME", `[0-9.]*[1-9][0-9.]*(µs|ms|s)`) // and not 0s
		if !regexp.MustCompile(`(?m)^` + pattern + `$`).MatchString(got.out) {
			t.Errorf("no line is %q:\n%s%s", line, got.out, got.errors)
		}
	}
}

func TestPluginCheckJSON(t *testing.T) {
	t.Parallel()
	check := func(args ...string) (report pluginReport, status int) {
		t.Helper()
		got := cordon(t, nil, append([]string{"plugin", "check", "--json"}, args...)...)
		decoder := json.NewDecoder(strings.NewReader(got.out))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&report); err != nil || got.errors != "" {
			t.Fatalf("%v, %q:\n%s", err, got.errors, got.out)
		}
		return report, got.status
	}
	vectors := filepath.Join(t.TempDir(), "vectors.yaml")
	if err := os.WriteFile(vectors, []byte("vectors: [{name: nobody, token: x, want: bad}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := guestIn(t, "good", patientSettings)
	if r, status := check(good); status != exitOK || !r.OK || r.Refused != "" || r.Name != "door" || len(r.SHA256) != 64 ||
		r.Limits.DeadlineMicros != 1_000_000 || r.Memory.Least != 65536 || len(r.Exports) == 0 || len(r.Warnings) == 0 {
		t.Errorf("status %d, %+v", status, r)
	}
	r, status := check(good, "--vectors", vectors)
	if status != exitFailed || r.OK || !strings.Contains(r.Refused, "nobody") || len(r.Vectors) != 1 || r.Vectors[0].Passed {
		t.Errorf("status %d, %+v", status, r)
	}
	if r, status := check(filepath.Join(t.TempDir(), "door.wasm")); status != exitFailed || r.OK || r.Refused == "" {
		t.Errorf("nothing there: status %d, %+v", status, r)
	}
}

// The trace tells what became of the token and never the token.
func TestPluginVerify(t *testing.T) {
	t.Parallel()
	file := guestIn(t, "token_answers", patientSettings)
	for name, tt := range map[string]struct {
		token  string // which is the answer
		want   string
		status int
	}{
		"good":    {`{"ok":true,"subject":{"kind":"device","type":"sensor","id":"d1"},"claims":{"a":1}}`, "subject        device:sensor/d1 of organisation acme01\n", exitOK},
		"refused": {`{"reason":"not on Sundays"}`, "refused: credential_bad\n", exitFailed},
		"broken":  {`{"ok":"secret-of-a-kind"}`, "refused: credential_unavailable\n", exitFailed},
		"none":    {``, "refused: ", exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, "plugin", "verify", file, "--org", "acme01", "--user", "use-plugin:door",
				"--client-id", "d:acme01:sensor:d1", "--token", tt.token)
			if got.status != tt.status || !strings.Contains(got.out, tt.want) {
				t.Errorf("status %d, want %d and %q:\n%s%s", got.status, tt.status, tt.want, got.out, got.errors)
			}
			if all := got.out + got.errors; tt.token != "" && strings.Contains(all, tt.token) || strings.Contains(all, "secret-of-a-kind") {
				t.Errorf("the token is printed:\n%s", all)
			}
		})
	}
}

// The steps are those of the broker, in its order: whose plugin it is, what it is
// asked, that it answered, and who came of that; for how long is the end of it. A
// refusal takes the place of the answer, so that it is plain how far a token came.
func TestPluginVerifySteps(t *testing.T) {
	t.Parallel()
	file := guestIn(t, "token_answers", patientSettings)
	for name, tt := range map[string]struct {
		token string // which is the answer
		want  []string
	}{
		"let in": {
			`{"ok":true,"subject":{"kind":"device","type":"sensor","id":"d1"},"claims":{"a":1,"b":2},"expires_at_ms":4102444800000,"cache_ttl_ms":60000}`,
			[]string{
				`binding        serves \[acme01\], asked for "acme01"`,
				`request        \d+ bytes: client ID "d:acme01:sensor:d1", a token of 139 bytes`,
				`guest          ran and was judged \(.+\)`,
				`subject        device:sensor/d1 of organisation acme01`,
				`claims         2`,
				`expires        2100-01-01T00:00:00Z`,
				`remembered     for 1m0s`,
				`ok: .+`,
			},
		},
		"refused by the plugin": {
			`{"reason":"not on Sundays"}`,
			[]string{`binding .+`, `request .+`, `guest .+`, `refused        .*not on Sundays`, `refused: credential_bad`},
		},
		"refused by the host, which does not believe it": {
			`{"ok":true,"subject":{"kind":"device","type":"sensor","id":"d1","org":"rival1"}}`,
			[]string{`binding .+`, `request .+`, `guest .+`, `refused        .+`, `refused: credential_unavailable`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := cordon(t, nil, "plugin", "verify", file, "--org", "acme01", "--user", "use-plugin:door",
				"--client-id", "d:acme01:sensor:d1", "--token", tt.token)
			fits := func(line, pattern string) bool { return regexp.MustCompile(`^` + pattern + `$`).MatchString(line) }
			if lines := strings.Split(strings.TrimSuffix(got.out, "\n"), "\n"); !slices.EqualFunc(lines, tt.want, fits) {
				t.Errorf("got\n%s%swant\n%s", got.out, got.errors, strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestPluginVerifyReadsTheToken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ input, want string }{
		"a line":            {"secret\n", "secret"},
		"a line of Windows": {"secret\r\n", "secret"},
		"no line end":       {"secret", "secret"},
		"two lines":         {"a\nb\n\n", "a\nb\n"},
		"nothing":           {"", ""},
	} {
		c := pluginVerifyCmd{Token: "-", stdin: strings.NewReader(tt.input)}
		got, err := c.credential()
		if err != nil || !got.HasPassword || string(got.Password.Reveal()) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := pluginVerifyCmd{Token: "-", stdin: strings.NewReader(strings.Repeat("x", tokenMost+1))}
	if _, err := c.credential(); err == nil {
		t.Error("a token without end is read")
	}
	if _, err := (&pluginVerifyCmd{ClientID: "a\x00"}).credential(); err == nil {
		t.Error("a client ID with a control character is taken")
	}
}

func TestPluginUsage(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no language":      {[]string{"new", "door"}, exitUsage, "--lang"},
		"no such language": {[]string{"new", "--lang", "cobol", "door"}, exitUsage, "cobol"},
		"a reserved name":  {[]string{"new", "--lang", "go", "token"}, exitFailed, "must be 1 to 36"},
		"a path":           {[]string{"new", "--lang", "go", "../door"}, exitFailed, "must be 1 to 36"},
		"no token":         {[]string{"verify", "door.wasm"}, exitUsage, "--token"},
		"not a module":     {[]string{"verify", "door.txt", "--token", "x"}, exitFailed, "not a .wasm file"},
		"no organisation":  {[]string{"check", "door.wasm", "--org", "NO"}, exitFailed, "an organisation is"},
	} {
		got := cordon(t, nil, append([]string{"plugin"}, tt.args...)...)
		if got.status != tt.status || !strings.Contains(got.errors, tt.want) {
			t.Errorf("%s: %+v, want status %d and %q", name, got, tt.status, tt.want)
		}
	}
}
