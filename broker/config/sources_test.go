package config

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// grammar is a command line as the program has it: one command with every
// setting, one that shares the name of a single setting.
type grammar struct {
	Serve struct{ Config } `cmd:""`
	Init  struct {
		Data string `default:"./cordon-data"`
		JSON bool
	} `cmd:""`
}

// BeforeResolve is how a grammar joins the sources.
func (g *grammar) BeforeResolve(ctx *kong.Context, lookup Lookup) error {
	return AddSources(ctx, lookup)
}

func parse(t *testing.T, environment map[string]string, args ...string) (grammar, error) {
	t.Helper()
	var g grammar
	lookup := Lookup(func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	})
	parser, err := kong.New(&g, kong.Bind(lookup), kong.Writers(io.Discard, io.Discard), kong.Exit(func(int) { t.Error("left early") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return g, err
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cordon.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "domain: file.example\ndemo: true\nmqtt: 127.0.0.1:0\n")
	type vars = map[string]string
	tests := []struct {
		name   string
		env    vars
		args   []string
		domain string
		demo   bool
		mqtt   string
	}{
		{"default", nil, nil, "localhost", false, "off"},
		{"file over default", nil, []string{"--config", file}, "file.example", true, "127.0.0.1:0"},
		{"the file named by the environment", vars{"CORDON_CONFIG": file}, nil, "file.example", true, "127.0.0.1:0"},
		{"environment over default", vars{"CORDON_DOMAIN": "env.example", "CORDON_DEMO": "1"}, nil, "env.example", true, "off"},
		{"environment over file", vars{"CORDON_DOMAIN": "env.example", "CORDON_DEMO": "false"}, []string{"--config", file}, "env.example", false, "127.0.0.1:0"},
		{"an empty variable is not set", vars{"CORDON_DOMAIN": "", "CORDON_DEMO": ""}, []string{"--config", file}, "file.example", true, "127.0.0.1:0"},
		{"flag over environment", vars{"CORDON_DOMAIN": "env.example"}, []string{"--domain", "flag.example"}, "flag.example", false, "off"},
		{"flag over environment over file", vars{"CORDON_DOMAIN": "env.example", "CORDON_MQTT": "127.0.0.1:1"}, []string{"--config", file, "--domain=flag.example"}, "flag.example", true, "127.0.0.1:1"},
		{"a flag may restate the default", vars{"CORDON_MQTT": "127.0.0.1:1"}, []string{"--config", file, "--mqtt=off", "--demo=false"}, "file.example", false, "off"},
		{"the file named by a flag over the environment's", vars{"CORDON_CONFIG": "missing.yaml"}, []string{"--config", file}, "file.example", true, "127.0.0.1:0"},
		{"variables that are no setting", vars{"CORDON_PORT": "tcp://10.0.0.1:8883", "CORDON_NOSUCH": "1"}, nil, "localhost", false, "off"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(t, test.env, append([]string{"serve"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if got.Serve.Domain != test.domain || got.Serve.Demo != test.demo || got.Serve.MQTT != test.mqtt {
				t.Errorf("got domain %q, demo %t, mqtt %q; want %q, %t, %q",
					got.Serve.Domain, got.Serve.Demo, got.Serve.MQTT, test.domain, test.demo, test.mqtt)
			}
			if got.Serve.Data != Defaults().Data {
				t.Errorf("data became %q", got.Serve.Data)
			}
		})
	}
}

// Sources of a list do not add up: the strongest one states all of it.
func TestPrecedenceOfLists(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "ws-origin: [file.example, both.example]\nmax-pending: 3\n")
	tests := []struct {
		name    string
		env     map[string]string
		args    []string
		origins []string
		pending int
	}{
		{"default", nil, nil, nil, 8192},
		{"file", nil, []string{"--config", file}, []string{"file.example", "both.example"}, 3},
		{"environment over file", map[string]string{"CORDON_WS_ORIGIN": "env.example, both.example", "CORDON_MAX_PENDING": "4"}, []string{"--config", file}, []string{"env.example", "both.example"}, 4},
		{"flags over environment", map[string]string{"CORDON_WS_ORIGIN": "env.example", "CORDON_MAX_PENDING": "4"}, []string{"--config", file, "--ws-origin=a.example", "--ws-origin", "b.example", "--max-pending=5"}, []string{"a.example", "b.example"}, 5},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := parse(t, test.env, append([]string{"serve"}, test.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Serve.WSOrigin, test.origins) || got.Serve.MaxPending != test.pending {
				t.Errorf("got origins %q and %d pending, want %q and %d", got.Serve.WSOrigin, got.Serve.MaxPending, test.origins, test.pending)
			}
		})
	}
}

// Every setting can come from every source, under its one name.
func TestEverySettingFromEverySource(t *testing.T) {
	t.Parallel()
	value := map[string]string{
		"data": "d", "domain": "d.example", "tls-cert": "c.pem", "tls-key": "k.pem", "mqtts": ":1", "https": ":2", "mqtt": ":3",
		"policy": "https://p", "policy-key": "y", "policy-token-file": "f", "policy-interval": "10", "policy-keep": "11", "plugins": "g", "log-format": "json", "log-level": "debug", "demo": "true", "demo-reset": "true",
		"ws-origin": "https://a.example,*.b.example", "proxy-protocol": "10.0.0.0/8,192.0.2.1",
		"max-connections": "5", "max-pending": "6", "max-pending-per-address": "7", "connect-rate-per-address": "8", "rest-rate": "15",
		"durability": "power", "min-free-space": "9", "max-buffer": "17",
		"decision-log": "l", "decision-log-url": "https://l", "decision-log-token-file": "t", "decision-log-retention": "12", "decision-log-size": "13", "decision-log-sample": "14", "certificate-fetch-private": "true",
		"acme-directory": "https://a", "acme-email": "a@b", "acme-domain": "a.example,{org}.a.example", "acme-ca": "r.pem", "acme-http": ":4",
	}
	want := Config{
		Data: "d", Domain: "d.example", TLSCert: "c.pem", TLSKey: "k.pem", MQTTS: ":1", HTTPS: ":2", MQTT: ":3",
		Policy: "https://p", PolicyKey: "y", PolicyTokenFile: "f", PolicyInterval: 10, PolicyKeep: 11, Plugins: "g", LogFormat: "json", LogLevel: "debug", Demo: true, DemoReset: true,
		WSOrigin: []string{"https://a.example", "*.b.example"}, ProxyProtocol: []string{"10.0.0.0/8", "192.0.2.1"},
		MaxConnections: 5, MaxPending: 6, MaxPendingPerAddress: 7, ConnectRate: 8, RESTRate: 15, Durability: "power", MinFreeSpace: 9, MaxBuffer: 17,
		DecisionLog: "l", DecisionLogURL: "https://l", DecisionLogTokenFile: "t", DecisionLogRetention: 12, DecisionLogSize: 13, DecisionLogSample: 14, CertificateFetchPrivate: true,
		ACMEDirectory: "https://a", ACMEEmail: "a@b", ACMEDomain: []string{"a.example", "{org}.a.example"}, ACMECA: "r.pem", ACMEHTTP: ":4",
	}
	var lines strings.Builder
	args := []string{"serve"}
	environment := map[string]string{}
	for _, s := range settings() {
		if s.name == "config" {
			continue
		}
		text, ok := value[s.name]
		if !ok {
			t.Fatalf("the test has no value for %s", s.name)
		}
		inFile := text
		if s.kind == list {
			inFile = "['" + strings.ReplaceAll(text, ",", "', '") + "']"
		}
		lines.WriteString(s.name + ": " + inFile + "\n")
		args = append(args, "--"+s.name+"="+text)
		environment[EnvName(s.name)] = text
	}
	file := writeFile(t, lines.String())

	fromFlags, err := parse(t, nil, args...)
	if err != nil || !reflect.DeepEqual(fromFlags.Serve.Config, want) {
		t.Errorf("flags: %+v, %v", fromFlags.Serve.Config, err)
	}
	fromEnvironment, err := parse(t, environment, "serve")
	if err != nil || !reflect.DeepEqual(fromEnvironment.Serve.Config, want) {
		t.Errorf("environment: %+v, %v", fromEnvironment.Serve.Config, err)
	}
	fromFile, err := parse(t, nil, "serve", "--config", file)
	want.Config = file
	if err != nil || !reflect.DeepEqual(fromFile.Serve.Config, want) {
		t.Errorf("file: %+v, %v", fromFile.Serve.Config, err)
	}
}

func TestSourcesRefuse(t *testing.T) {
	t.Parallel()
	unknown := writeFile(t, "nosuch: 1\n")
	wrong := writeFile(t, "mqtts: '8883'\nlog-level: loud\n")
	tests := []struct {
		name string
		env  map[string]string
		args []string
		want string
	}{
		{"an unknown field", nil, []string{"serve", "--config", unknown}, unknown + ":1:1: unknown field \"nosuch\""},
		{"a missing file", nil, []string{"serve", "--config", "missing.yaml"}, "read configuration: open missing.yaml"},
		{"a switch that is neither", map[string]string{"CORDON_DEMO": "maybe"}, []string{"serve"}, `CORDON_DEMO: "maybe" is neither true nor false`},
		{"a number that is none", map[string]string{"CORDON_MAX_PENDING": "many"}, []string{"serve"}, `CORDON_MAX_PENDING: "many" is not a whole number`},
		{"a list with an empty element", map[string]string{"CORDON_PROXY_PROTOCOL": "10.0.0.0/8,"}, []string{"serve"}, `proxy-protocol: "" is neither`},
		{"values that do not validate", nil, []string{"serve", "--config", wrong}, "mqtts: \"8883\" is neither HOST:PORT, :PORT nor off\nlog-level: \"loud\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := parse(t, test.env, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// A command without --config shares the environment and reads no file.
func TestCommandWithoutFile(t *testing.T) {
	t.Parallel()
	got, err := parse(t, map[string]string{"CORDON_DATA": "elsewhere", "CORDON_CONFIG": "missing.yaml", "CORDON_JSON": "true"}, "init")
	if err != nil {
		t.Fatal(err)
	}
	if got.Init.Data != "elsewhere" || got.Init.JSON {
		t.Errorf("got %+v", got.Init)
	}
}
