package config

import (
	"io"
	"os"
	"path/filepath"
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

// Every setting can come from every source, under its one name.
func TestEverySettingFromEverySource(t *testing.T) {
	t.Parallel()
	value := map[string]string{
		"data": "d", "domain": "d.example", "tls-cert": "c.pem", "tls-key": "k.pem", "mqtts": ":1", "https": ":2", "mqtt": ":3",
		"policy": "p", "plugins": "g", "log-format": "json", "log-level": "debug", "demo": "true", "demo-reset": "true",
	}
	want := Config{
		Data: "d", Domain: "d.example", TLSCert: "c.pem", TLSKey: "k.pem", MQTTS: ":1", HTTPS: ":2", MQTT: ":3",
		Policy: "p", Plugins: "g", LogFormat: "json", LogLevel: "debug", Demo: true, DemoReset: true,
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
		lines.WriteString(s.name + ": " + text + "\n")
		args = append(args, "--"+s.name+"="+text)
		environment[EnvName(s.name)] = text
	}
	file := writeFile(t, lines.String())

	fromFlags, err := parse(t, nil, args...)
	if err != nil || fromFlags.Serve.Config != want {
		t.Errorf("flags: %+v, %v", fromFlags.Serve.Config, err)
	}
	fromEnvironment, err := parse(t, environment, "serve")
	if err != nil || fromEnvironment.Serve.Config != want {
		t.Errorf("environment: %+v, %v", fromEnvironment.Serve.Config, err)
	}
	fromFile, err := parse(t, nil, "serve", "--config", file)
	want.Config = file
	if err != nil || fromFile.Serve.Config != want {
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
