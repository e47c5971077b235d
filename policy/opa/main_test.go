package opa

import (
	"context"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The built-in policies and schemas, read as files: this package does not import
// the one that embeds them.
func builtinSchemas() fs.FS { return os.DirFS("../../rego/schemas") }

func builtinBundle() fs.FS {
	all := fstest.MapFS{}
	root := os.DirFS("../../rego")
	_ = fs.WalkDir(root, "cordon", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := fs.ReadFile(root, name)
			all[name] = &fstest.MapFile{Data: text}
		}
		return err
	})
	return all
}

// module makes a bundle of one file per package: the text without its package line.
func module(texts map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for pkg, text := range texts {
		files["cordon/"+pkg+"/"+pkg+".rego"] = &fstest.MapFile{Data: []byte("package cordon." + pkg + "\n\n" + text)}
	}
	return files
}

func mustLoad(t testing.TB, fsys fs.FS) *Bundle {
	t.Helper()
	b, report := Load(context.Background(), fsys, builtinSchemas())
	if b == nil {
		var out strings.Builder
		_, _ = report.WriteTo(&out)
		t.Fatalf("bundle does not load:\n%s", out.String())
	}
	return b
}

func engineOf(t testing.TB, fsys fs.FS, o Options) *Engine {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second // a busy machine may stall; only its own test is about time
	}
	e := New(o)
	e.Activate(mustLoad(t, fsys))
	return e
}

func mustOrg(t testing.TB, s string) policy.OrgID {
	t.Helper()
	o, err := policy.ParseOrgID(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func deviceFacts(t testing.TB) *policy.Facts {
	t.Helper()
	org := mustOrg(t, "acme01")
	return &policy.Facts{
		Principal: &policy.Principal{
			Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d1",
			Verifier: "token", Registered: true, Groups: []string{"hall"},
		},
		Org: &policy.Organisation{ID: org, ConnectionLevel: "tls"},
		Client: &policy.Client{
			ID: "d:acme01:sensor:d1", Username: "use-token-auth", Protocol: "5", Listener: "mqtts",
			Address: netip.MustParseAddr("192.0.2.7"), TLS: &policy.TLS{Version: "1.3"},
		},
	}
}

// publishTo is a publish of a device to its short topic.
func publishTo(t testing.TB, name string) *policy.Request {
	t.Helper()
	n, err := topic.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := strings.CutPrefix(name, "iot-2/")
	return &policy.Request{
		Action: policy.ActionPublish, Topic: n, QoS: 1, Size: 64,
		Levels: append([]string{"iot-2", "type", "sensor", "id", "d1"}, strings.Split(rest, "/")...),
	}
}

func subscribeTo(t testing.TB, filter string) *policy.Request {
	t.Helper()
	f, err := topic.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := strings.CutPrefix(filter, "iot-2/")
	return &policy.Request{
		Action: policy.ActionSubscribe, Filter: f, QoS: 1,
		Levels: append([]string{"iot-2", "type", "sensor", "id", "d1"}, strings.Split(rest, "/")...),
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// fsWith adds a file to a bundle.
func fsWith(files fstest.MapFS, name, text string) fstest.MapFS {
	files[name] = &fstest.MapFile{Data: []byte(text)}
	return files
}
