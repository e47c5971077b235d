package wasm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// builtGuest builds testdata/goguest once for all tests.
var builtGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "guest.wasm")
	build := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", out, "./testdata/goguest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return os.ReadFile(out)
})

func goGuest(t testing.TB) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a module with the go command, which takes a while")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("there is no go command to build a module with")
	}
	b, err := builtGuest()
	if err != nil {
		t.Fatal("build the guest:", err)
	}
	return b
}

// goHost is a host with the guest for acme01. Its machine code stays beside the
// go command's cache from run to run.
func goHost(t testing.TB, l Limits) (*Host, plugins.Verifier) {
	t.Helper()
	dir := t.TempDir()
	layBytes(t, dir, "acme01/it", goGuest(t), "secrets: {key: it.key}")
	if err := os.WriteFile(filepath.Join(dir, "acme01/it.key"), []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, Options{Dir: dir, Limits: l, CacheDir: machineCode(t)})
	return h, find(t, h, "it", "")
}

func machineCode(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		return t.TempDir()
	}
	return filepath.Join(cache, "cordon-test", "wasm")
}

// goToken is the token of client ID id.
func goToken(id string) *plugins.Credential {
	mac := fmt.Sprintf("%x", hmacOf(sha256.New, []byte("correct horse"), []byte(id)))
	c := token(mac)
	c.Client.ID = policy.ClientID(id)
	return c
}

func TestAGuestMadeByGo(t *testing.T) {
	t.Parallel()
	h, v := goHost(t, patient())
	if p := mustVerify(t, v, goToken("d:acme01:sensor:d1")); p.ID != "d1" {
		t.Errorf("%+v", p)
	}
	for _, text := range []string{"", "x", strings.Repeat("0", 64), "sleep"} {
		if _, err := v.Verify(t.Context(), token(text)); !errors.Is(err, plugins.ErrBad) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// The same instance goes on for a long time: its own collector keeps it small.
	for i := range 1500 {
		mustVerify(t, v, goToken("c"+strconv.Itoa(i)))
	}
	p := h.table.Load().plugins[place{"acme01", "it"}]
	if n := p.calls(); n < 1500 {
		t.Errorf("the instance was replaced: %d calls", n)
	}
	t.Logf("a guest made by Go uses %d KiB", p.largest()>>10)
}

// The rewriting does not change what a real module means, and wazero accepts it.
func TestRewritingAGuestMadeByGo(t *testing.T) {
	t.Parallel()
	b := goGuest(t)
	m, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.rewrite(Limits{}.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB become %d KiB", len(b)>>10, len(out)>>10)
	if err := valid(t, out); err != nil {
		t.Error(err)
	}
	again, err := parse(out)
	if err != nil || again.globals != m.globals+2 || len(again.functions) != len(m.functions)+2 || len(again.exported) != len(m.exported) {
		t.Errorf("%v", err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "good", "vectors: [{name: v, token: x, want: ok, subject: {kind: device}}]")
	path := filepath.Join(dir, "acme01", "it.wasm")
	r, err := Inspect(t.Context(), path, InspectOptions{Options: Options{Limits: patient()}})
	if err != nil || !r.Passed() || r.ABI != "auth_abi v1" || len(r.Vectors) != 1 || r.MemoryMinBytes != pageBytes ||
		r.Orgs[0].String() != "acme01" || r.MemoryUsedBytes != pageBytes || len(r.Exports) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	more := filepath.Join(dir, "vectors.yaml")
	if err := os.WriteFile(more, []byte("vectors: [{name: w, token: x, want: bad}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err = Inspect(t.Context(), path, InspectOptions{Options: Options{Limits: patient()}, Vectors: more})
	if err == nil || r.Passed() || len(r.Vectors) != 2 || r.Vectors[1].Got != "ok" {
		t.Errorf("%+v, %v", r, err)
	}
	lay(t, dir, "acme01/broken", "no_abi", "")
	if r, err = Inspect(t.Context(), filepath.Join(dir, "acme01", "broken.wasm"), InspectOptions{}); err == nil || r.Bytes == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err = Inspect(t.Context(), filepath.Join(dir, "nowhere.wasm"), InspectOptions{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestVerifyStepByStep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lay(t, dir, "it", "token_answers", "")
	s, err := Examine(t.Context(), filepath.Join(dir, "it.wasm"), InspectOptions{
		Options: Options{Limits: patient()}, Org: organisation(t, "acme01"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, steps, err := s.Verify(t.Context(), policy.OrgID{}, token(okAnswer))
	if err != nil || p.ID != "d1" || len(steps) < 5 {
		t.Errorf("%+v, %v, %v", p, steps, err)
	}
	_, steps, err = s.Verify(t.Context(), policy.OrgID{}, token(`{"reason":"hunter2"}`))
	if !errors.Is(err, plugins.ErrBad) || steps[len(steps)-1].Name != "refused" || strings.Contains(fmt.Sprint(steps), `{"reason"`) {
		t.Errorf("%v, %v", steps, err)
	}
}

// resident is the memory of this process that is in use, after a collection.
func resident(t testing.TB) int {
	t.Helper()
	for range 3 { // finalizers give machine code back
		runtime.GC()
	}
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc to read the resident memory from")
	}
	_, after, _ := bytes.Cut(status, []byte("VmRSS:"))
	n, err := strconv.Atoi(string(bytes.Fields(after)[0]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// endurance is how long the tests of memory are: CORDON_ENDURANCE=1 runs them in
// full.
func endurance(t testing.TB, short, full int) int {
	t.Helper()
	if os.Getenv("CORDON_ENDURANCE") != "" {
		return full
	}
	return short
}

func TestMemoryIsFlatOverReloads(t *testing.T) {
	n := endurance(t, 60, 1000)
	dir := t.TempDir()
	lay(t, dir, "acme01/it", "features", "")
	h := open(t, Options{Dir: dir, Limits: patient()})
	reload := func(times int) {
		for i := range times {
			// Another module each time, as an author would write it.
			b := append(guests(t)["features"], 0, 5, 4)
			layBytes(t, dir, "acme01/it", append(b, fmt.Sprintf("%04d", i)...), fmt.Sprintf("settings: {n: %d}", i))
			if err := h.scan(context.Background()); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, find(t, h, "it", ""), token("x"))
		}
		h.retiring.Wait()
	}
	reload(30)
	before := resident(t)
	reload(n)
	after := resident(t)
	t.Logf("resident: %d KiB before, %d KiB after %d reloads", before>>10, after>>10, n)
	if after > before+24<<20 {
		t.Errorf("grew by %d KiB", (after-before)>>10)
	}
}

func TestMemoryIsFlatOverVerifications(t *testing.T) {
	n := endurance(t, 2_000, 1_000_000)
	_, v := goHost(t, Limits{Deadline: time.Second, StartDeadline: 20 * time.Second, CallsPerInstance: 500})
	verify := func(times int) {
		for i := range times {
			mustVerify(t, v, goToken("c"+strconv.Itoa(i)))
		}
	}
	verify(1200)
	before := resident(t)
	verify(n)
	after := resident(t)
	t.Logf("resident: %d KiB before, %d KiB after %d verifications", before>>10, after>>10, n)
	if after > before+32<<20 {
		t.Errorf("grew by %d KiB", (after-before)>>10)
	}
}
