package wasm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Report is what is known of a module before it is put into service.
type Report struct {
	Name    string
	SHA256  string // of the file, in hexadecimal
	Bytes   int
	ABI     string // such as "auth_abi v1.0"
	Exports []string
	Imports []string // such as "cordon.hmac_sha256 (i32, i32, i32, i32, i32) -> ()"
	Orgs    []policy.OrgID

	MemoryMinBytes  int64
	MemoryMaxBytes  int64 // what it declares, at most the limit
	MemoryUsedBytes int64 // by one instance after the self-test
	Limits          Limits
	CompileTime     time.Duration // from the cache, where it was there
	StartTime       time.Duration
	CallTime        time.Duration // median of the self-test's requests, one after the other

	Vectors  []VectorResult
	Warnings []string
}

// Passed reports whether the self-test passed.
func (r *Report) Passed() bool {
	return !slices.ContainsFunc(r.Vectors, func(v VectorResult) bool { return !v.Passed })
}

// Step is one line of the trace of a verification.
type Step struct {
	Name   string // such as "answer"
	Detail string
	Took   time.Duration
}

// Subject is a module that is looked at, in service nowhere.
type Subject struct {
	host   *Host
	plugin *plugin
	report Report
}

// InspectOptions say how to look at a module.
type InspectOptions struct {
	Options
	// Org is the organisation a module without a list of its own is bound to; zero:
	// the folder it lies in, else "example".
	Org policy.OrgID
	// Vectors is a file of vectors to run beside those of the .yaml; may be empty.
	Vectors string
}

// Inspect loads the module at path, with the .yaml beside it, as Open would, and
// tests it. The error says why it would be refused; the report then holds what
// was found until there.
func Inspect(ctx context.Context, path string, o InspectOptions) (Report, error) {
	s, err := Examine(ctx, path, o)
	if s == nil {
		return Report{}, err
	}
	defer s.Close()
	return s.report, err
}

// Examine is Inspect, and keeps the module ready for [Subject.Verify]. The Subject
// is nil when the module could not be read at all; close it otherwise, also with
// an error.
func Examine(ctx context.Context, path string, o InspectOptions) (*Subject, error) {
	module, ok := strings.CutSuffix(path, ".wasm")
	if !ok {
		return nil, fmt.Errorf("%s: not a .wasm file", filepath.Base(path))
	}
	h, err := newHost(o.Options)
	if err != nil {
		return nil, err
	}
	s := &Subject{host: h}
	at := place{filepath.Base(filepath.Dir(module)), filepath.Base(module)}
	return s, s.examine(ctx, at, files{path, module + ".yaml"}, o)
}

func (s *Subject) examine(ctx context.Context, at place, f files, o InspectOptions) error {
	if err := checkName(at.name); err != nil {
		return err
	}
	source, err := read(at, f, s.host.limits)
	if err != nil {
		return err
	}
	r := &s.report
	r.Name, r.SHA256, r.Bytes, r.Warnings = at.name, hex.EncodeToString(source.module[:]), len(source.binary), source.warnings
	r.Limits = source.settings.apply(s.host.limits)
	if r.Orgs, err = inspectedOrgs(at, source.settings, o.Org); err != nil {
		return err
	}
	p, err := s.host.prepare(source, binding{r.Orgs})
	if err != nil {
		return err
	}
	s.describe(p.module, p.limits)
	begin := time.Now()
	if err := s.host.compile(ctx, p, nil); err != nil {
		return err
	}
	s.plugin = p
	r.CompileTime = time.Since(begin)
	p.keys = newKeySets(source.settings.JWKS, nil, "", s.host.client, p.log, s.host.now)
	p.keys.complete(ctx)
	begin = time.Now()
	if err := p.tryStart(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.StartTime = time.Since(begin)
	return s.test(ctx, o.Vectors)
}

func inspectedOrgs(at place, s *settings, org policy.OrgID) ([]policy.OrgID, error) {
	listed, err := s.organisations()
	if err != nil || len(listed) > 0 {
		return listed, err
	}
	if org.IsZero() {
		if org, err = policy.ParseOrgID(at.folder); err != nil {
			if org, err = policy.ParseOrgID("example"); err != nil {
				return nil, err
			}
		}
	}
	return []policy.OrgID{org}, nil
}

func (s *Subject) describe(m *module, l Limits) {
	r := &s.report
	for name, f := range m.exportedFns {
		r.Exports = append(r.Exports, name+" "+f.String())
	}
	for _, i := range m.imports {
		r.Imports = append(r.Imports, i.String()+" "+i.signature.String())
	}
	slices.Sort(r.Exports)
	slices.Sort(r.Imports)
	r.ABI = fmt.Sprintf("auth_abi v%d", abiVersion)
	r.MemoryMinBytes = int64(m.memoryMin) * pageBytes
	r.MemoryMaxBytes = int64(min(m.memoryMax, l.memoryPages())) * pageBytes
	if _, ok := m.exportedFns[exportConfigure]; !ok {
		r.Warnings = append(r.Warnings, "does not export "+exportConfigure+": its settings and secrets reach nobody")
	}
}

// test runs the vectors and says which of them failed.
func (s *Subject) test(ctx context.Context, path string) error {
	r, p := &s.report, s.plugin
	vectors := p.source.settings.Vectors
	if path != "" {
		text, err := readBounded(path, settingsBytes)
		if err != nil {
			return err
		}
		more, err := parseVectors(text)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		vectors = append(slices.Clone(vectors), more...)
	}
	if len(vectors) == 0 {
		r.Warnings = append(r.Warnings, "has no vectors: nothing shows that it verifies anything")
	}
	r.Vectors = p.selfTest(ctx, vectors)
	var took []time.Duration
	for range 10 {
		for _, v := range vectors {
			took = append(took, p.test(ctx, v).Took)
		}
	}
	if slices.Sort(took); len(took) > 0 {
		r.CallTime = took[len(took)/2]
	}
	r.MemoryUsedBytes = p.largest()
	for n, v := range r.Vectors {
		if !v.Passed {
			return fmt.Errorf("self-test %d, %q: %s", n+1, v.Name, v.Detail)
		}
	}
	return nil
}

// Report is what Examine found.
func (s *Subject) Report() Report { return s.report }

// Verify asks the plugin about c, and says step by step what happened. The trace
// holds neither the token nor anything the plugin could have hidden it in.
func (s *Subject) Verify(ctx context.Context, org policy.OrgID, c *plugins.Credential) (policy.Principal, []Step, error) {
	if s.plugin == nil {
		return policy.Principal{}, nil, &plugins.Refusal{Cause: policy.CauseUnavailable, Err: errors.New("the module does not load")}
	}
	var steps []Step
	step := func(name, format string, args ...any) {
		steps = append(steps, Step{Name: name, Detail: fmt.Sprintf(format, args...)})
	}
	p, now := s.plugin, s.host.now()
	if org.IsZero() {
		org = p.only()
	}
	step("binding", "serves %v, asked for %q", p.orgs, org)
	r := newRequest(org, c, nil)
	step("request", "%d bytes: client ID %q, a token of %d bytes", len(r.appendNow(r.append(nil))), r.ClientID, c.Password.Len())
	begin := time.Now()
	got, ttl := p.asked(ctx, org, r, now)
	steps = append(steps, Step{"guest", "ran and was judged", time.Since(begin)})
	if got.err == nil && got.challenge == nil {
		q := got.principal
		step("subject", "%s of organisation %s", q.Subject(), q.Org)
		step("claims", "%d", len(q.Claims))
		step("expires", "%s", expiry(q.ExpiresAt))
		step("remembered", "for %v", ttl)
		return q, steps, nil
	}
	step("refused", "%v", got.err)
	return policy.Principal{}, steps, got.err
}

func expiry(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// Close gives everything back.
func (s *Subject) Close() error {
	if s.plugin != nil {
		s.plugin.retire()
	}
	return s.host.Close()
}
