package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cordon-mq/cordon/bench/report"
	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/wire"
)

// hostileModules are those of plugins/wasm/testdata/guests that load and then
// misbehave.
func hostileModules() []string {
	return []string{
		"endless_loop", "hang_without_loop", "copying", "host_calls", "growing_memory", "table_growth",
		"deep_recursion", "leaking_memory", "trap", "answer_huge",
	}
}

// pluginsTrial is what every step shares.
type pluginsTrial struct {
	pluginsConfig
	program *program
	broker  *broker
	key     []byte // of the tokens; thrown away with the folder
	found   *pluginsFound

	stop    atomic.Int64 // ns, the longest since it was last taken
	loaded  atomic.Int64 // lines that say so of jwt
	clients atomic.Int64 // for client IDs of their own
}

// install lays the plugins out: jwt, and the hostile ones, some copies of each.
func (t *pluginsTrial) install(ctx context.Context) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/cordon-mq/cordon").Output()
	if err != nil {
		return err
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "plugins")
	if err := os.MkdirAll(t.folder(), 0o700); err != nil {
		return err
	}
	for _, name := range t.modules {
		name = filepath.Base(name)
		binary, err := os.ReadFile(filepath.Join(source, "wasm", "testdata", "guests", name+".wasm"))
		if err != nil {
			return err
		}
		for i := range t.copies {
			if err := os.WriteFile(filepath.Join(t.folder(), name+itoa(i)+".wasm"), binary, 0o600); err != nil { //nolint:gosec // the folder of the trial, and a base name
				return err
			}
		}
	}
	say("building the plugin jwt")
	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(t.folder(), "jwt.wasm"), ".")
	build.Dir, build.Env = filepath.Join(source, "jwt"), append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build plugins/jwt: %w\n%s", err, out)
	}
	t.key = []byte(rand.Text() + rand.Text())
	if err := os.WriteFile(filepath.Join(t.folder(), "jwt.key"), t.key, 0o600); err != nil {
		return err
	}
	module, err := os.ReadFile(filepath.Join(t.folder(), "jwt.wasm"))
	if err == nil {
		err = os.WriteFile(filepath.Join(t.folder(), "kept.wasm"), module, 0o600) //nolint:gosec // the folder of the trial
	}
	return errors.Join(err, t.settings("kept", 0, 300), t.settings("jwt", 0, 0))
}

func (t *pluginsTrial) folder() string { return filepath.Join(t.program.data, "plugins", organisation) }

// settings writes the n-th settings of a jwt, each of them others. Answers are
// remembered for so many seconds: with none, each token is verified by the module.
func (t *pluginsTrial) settings(plugin string, n, remember int) error {
	const text = `settings:
  algorithms: [HS256]
  issuer: trial
  any_audience: true
  clock_skew_seconds: %d
  remember_seconds: %d
  hmac_keys: [{secret: key}]
  identity: {kind: application, app: {claim: sub}}
secrets: {key: jwt.key}
limits: {deadline: 1s}
`
	path := filepath.Join(t.folder(), plugin+".yaml")
	if err := os.WriteFile(path+".tmp", fmt.Appendf(nil, text, n%300, remember), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// watch sees each line of the log.
func (t *pluginsTrial) watch(line string) {
	if strings.Contains(line, `msg="plugin loaded" plugin=jwt `) {
		t.loaded.Add(1)
	}
	if d, ok := stopIn(line); ok {
		for {
			longest := t.stop.Load()
			if int64(d) <= longest || t.stop.CompareAndSwap(longest, int64(d)) {
				break
			}
		}
	}
}

// stopIn is the longer of the two stops that a line of GODEBUG=gctrace=1 tells:
// before and after marking, each with the time until everybody had stopped.
func stopIn(line string) (time.Duration, bool) {
	_, rest, ok := strings.Cut(line, "%: ")
	clock, _, isClock := strings.Cut(rest, " ms clock")
	phases := strings.Split(clock, "+")
	if !strings.HasPrefix(line, "gc ") || !ok || !isClock || len(phases) != 3 {
		return 0, false
	}
	before, _ := strconv.ParseFloat(phases[0], 64)
	after, _ := strconv.ParseFloat(phases[2], 64)
	return time.Duration(max(before, after) * float64(time.Millisecond)), true
}

// faults are the errors logged that nobody provoked.
func (t *pluginsTrial) faults() []string {
	all, _ := t.broker.log.faults()
	return slices.DeleteFunc(all, func(line string) bool { return strings.Contains(line, "plugin quarantined") })
}

// latencies measures connects alone and beside hostile modules, in turn.
func (t *pluginsTrial) latencies(ctx context.Context) error {
	for i := range t.runs {
		for _, with := range []bool{false, true} {
			runs := &t.found.alone
			if with {
				runs = &t.found.beside
			}
			if err := t.measure(ctx, runs, with); err != nil {
				return err
			}
			say("run %d of %d, hostile %t: p99 %s ms, longest stop %s ms", i+1, t.runs, with, report.Number(runs.p99[i]), report.Number(runs.pauses[i]))
		}
	}
	return nil
}

func (t *pluginsTrial) measure(ctx context.Context, runs *pluginRuns, with bool) error {
	span, cancel := context.WithTimeout(ctx, t.span)
	defer cancel()
	before, err := usageOf(t.broker.pid())
	if err != nil {
		return err
	}
	t.stop.Store(0)
	var work sync.WaitGroup
	if with {
		work.Go(func() { t.provoke(span, runs) })
	}
	latencies, failed := t.connects(span)
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	after, err := usageOf(t.broker.pid())
	if err != nil {
		return err
	}
	slices.Sort(latencies)
	runs.connects += len(latencies)
	runs.failed += failed
	runs.p50 = append(runs.p50, milliseconds(quantile(latencies, 0.50)))
	runs.p99 = append(runs.p99, milliseconds(quantile(latencies, 0.99)))
	runs.pauses = append(runs.pauses, milliseconds(time.Duration(t.stop.Load())))
	runs.cpu = append(runs.cpu, (after.cpu-before.cpu).Seconds()/t.span.Seconds())
	return nil
}

// at calls f at a rate, each time in a goroutine, until the context ends, and waits
// for all.
func at(ctx context.Context, rate int, f func(n int, due time.Time)) {
	var calls sync.WaitGroup
	defer calls.Wait()
	zero := time.Now()
	for n := 0; ; n++ {
		due := zero.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if pause(ctx, time.Until(due)) != nil {
			return
		}
		calls.Go(func() { f(n, due) })
	}
}

// connects makes ordinary connects. Latency counts from when each was due.
func (t *pluginsTrial) connects(ctx context.Context) (latencies []time.Duration, failed int) {
	var guarded sync.Mutex
	at(ctx, t.rate, func(_ int, due time.Time) {
		err := t.connect(ctx, t.application())
		took := time.Since(due)
		guarded.Lock()
		defer guarded.Unlock()
		if err != nil {
			failed++
			return
		}
		latencies = append(latencies, took)
	})
	return latencies, failed
}

func (t *pluginsTrial) application() client.Config {
	return t.program.application("c"+itoa(int(t.clients.Add(1))), wire.V5, true)
}

// connect takes a context that the end of a measurement does not end: what has
// begun counts.
func (t *pluginsTrial) connect(ctx context.Context, who client.Config) error {
	conn, err := client.Dial(context.WithoutCancel(ctx), who)
	if err != nil {
		return err
	}
	return conn.Close()
}

// provoke asks one hostile module after the other.
func (t *pluginsTrial) provoke(ctx context.Context, runs *pluginRuns) {
	var refused, let atomic.Int64
	names := t.modules
	at(ctx, t.hostile, func(n int, _ time.Time) {
		who := t.asking(names[n%len(names)]+itoa(n/len(names)%t.copies), rand.Text())
		switch err := t.connect(ctx, who); {
		case err == nil:
			let.Add(1)
		case errors.As(err, new(*client.RefusedError)):
			refused.Add(1)
		}
	})
	runs.refused += int(refused.Load())
	runs.let += int(let.Load())
}

// asking is an application that connects under a name of its own and asks a plugin.
func (t *pluginsTrial) asking(plugin, password string) client.Config {
	who := t.application()
	who.Username, who.Password, who.AnswerTime = "use-plugin:"+plugin, password, 30*time.Second
	return who
}

// bearer is one with a token of its own, for a plugin that is a jwt.
func (t *pluginsTrial) bearer(plugin string, expires time.Time) client.Config {
	who := t.asking(plugin, "")
	id := who.ClientID[strings.LastIndexByte(who.ClientID, ':')+1:]
	who.Password = signedToken(t.key, map[string]any{"iss": "trial", "sub": id, "exp": expires.Unix(), "scope": "read", "site": "north"})
	return who
}

// signedToken is a JSON Web Token signed with HS256.
func signedToken(key []byte, claims map[string]any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v) // of maps of text and numbers: cannot fail
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// rateNames are the cases of rates, in pairs: with an API key, and with a token.
func rateNames() []string {
	return []string{
		"API key, which the registry verifies; a new client each time",
		"token (HS256), which the plugin jwt verifies; a new client each time",
		"API key; clients that come again",
		"token; clients that come again, for whom the answer is remembered",
	}
}

// rates measures how many connects there are in a second, each way in turn.
func (t *pluginsTrial) rates(ctx context.Context) error {
	const known = 16 // clients of each worker that come again
	expires := time.Now().Add(time.Hour)
	key, token := make([][known]client.Config, t.workers), make([][known]client.Config, t.workers)
	for w := range t.workers {
		for i := range known {
			key[w][i], token[w][i] = t.application(), t.bearer("kept", expires)
		}
	}
	cases := []func(worker, n int) client.Config{
		func(_, _ int) client.Config { return t.application() },
		func(_, _ int) client.Config { return t.bearer("jwt", expires) },
		func(worker, n int) client.Config { return key[worker][n%known] },
		func(worker, n int) client.Config { return token[worker][n%known] },
	}
	t.found.rates = make([][]float64, len(cases))
	for range t.runs {
		for i, who := range cases {
			rate, err := t.rateOf(ctx, who)
			if err != nil {
				return err
			}
			t.found.rates[i] = append(t.found.rates[i], rate)
		}
	}
	for i, name := range rateNames() {
		say("connects a second, %s: %s", name, listed(t.found.rates[i]))
	}
	return nil
}

// rateOf is how many connects there are in a second of those that who names.
func (t *pluginsTrial) rateOf(ctx context.Context, who func(worker, n int) client.Config) (float64, error) {
	var connects atomic.Int64
	span, cancel := context.WithTimeout(ctx, t.span/2)
	defer cancel()
	began := time.Now()
	err := each(ctx, t.workers, t.workers, func(worker int) error {
		for n := 0; span.Err() == nil; n++ {
			if err := t.connect(ctx, who(worker, n)); err != nil {
				return err
			}
			connects.Add(1)
		}
		return nil
	})
	return float64(connects.Load()) / time.Since(began).Seconds(), err
}

// verify has many clients come, each for the first time: with an API key, of which the
// broker keeps what it keeps of any client, and with a token, in several instances.
func (t *pluginsTrial) verify(ctx context.Context) error {
	n := count(t.verifications)
	for _, c := range []struct {
		what string
		who  func() client.Config
	}{
		{n + " clients with an API key", t.application},
		{n + " clients with a token, verified by a module made by Go", func() client.Config { return t.bearer("jwt", time.Now().Add(time.Hour)) }},
	} {
		err := t.compare(ctx, c.what, func(look func(done, of int)) error {
			var done atomic.Int64
			return each(ctx, t.verifications, t.workers, func(int) error {
				err := t.connect(ctx, c.who())
				look(int(done.Add(1)), t.verifications)
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reload gives the plugin new settings again and again, and asks each version.
func (t *pluginsTrial) reload(ctx context.Context) error {
	return t.compare(ctx, count(t.reloads)+" reloads of it", func(look func(done, of int)) error {
		for i := range t.reloads {
			was := t.loaded.Load()
			if err := t.settings("jwt", i+1, 0); err != nil {
				return err
			}
			for give := time.Now().Add(time.Minute); t.loaded.Load() == was; {
				if err := pause(ctx, 20*time.Millisecond); err != nil {
					return err
				}
				if time.Now().After(give) {
					return errors.New("new settings were not taken up")
				}
			}
			if err := t.connect(ctx, t.bearer("jwt", time.Now().Add(time.Hour))); err != nil {
				return err
			}
			look(i+1, t.reloads)
		}
		return nil
	})
}

// compare looks at memory before and after f, each time at rest, and after each
// tenth of it.
func (t *pluginsTrial) compare(ctx context.Context, what string, f func(look func(done, of int)) error) error {
	const rest = 5 * time.Second
	say("%s", what)
	found := resident{what: what}
	var guarded sync.Mutex
	look := func(done, of int) {
		if done%max(1, of/10) != 0 {
			return
		}
		if u, err := usageOf(t.broker.pid()); err == nil {
			guarded.Lock()
			defer guarded.Unlock()
			found.meanwhile = append(found.meanwhile, u.resident)
			say("%d of %d: RSS %s", done, of, megabytes(u.resident))
		}
	}
	for _, r := range []*int64{&found.before, &found.after} {
		if r == &found.after {
			if err := f(look); err != nil {
				return err
			}
		}
		if err := pause(ctx, rest); err != nil {
			return err
		}
		u, err := usageOf(t.broker.pid())
		if err != nil {
			return err
		}
		*r = u.resident
	}
	t.found.resident = append(t.found.resident, found)
	return nil
}
