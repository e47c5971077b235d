package config

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	if err := Defaults().Validate(); err != nil {
		t.Fatal(err)
	}
}

// The command line reads the default tags, everybody else calls Defaults.
func TestDefaultTagsSayWhatDefaultsSays(t *testing.T) {
	t.Parallel()
	defaults := reflect.ValueOf(Defaults())
	for field, value := range defaults.Fields() {
		tag := field.Tag.Get("default")
		if value.Kind() == reflect.String && tag != value.String() {
			t.Errorf("%s: tag says %q, Defaults says %q", field.Name, tag, value)
		}
		if value.Kind() == reflect.Int && tag != strconv.FormatInt(value.Int(), 10) {
			t.Errorf("%s: tag says %q, Defaults says %d", field.Name, tag, value.Int())
		}
		if value.Kind() == reflect.Slice && (tag != "" || value.Len() > 0) {
			t.Errorf("%s: a list starts empty", field.Name)
		}
		if value.Kind() == reflect.Bool && value.Bool() {
			t.Errorf("%s: a switch starts off", field.Name)
		}
		if field.Tag.Get("name") == "" || field.Tag.Get("help") == "" {
			t.Errorf("%s: has no name or no help", field.Name)
		}
	}
}

func TestEnvName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"data": "CORDON_DATA", "tls-cert": "CORDON_TLS_CERT", "demo-reset": "CORDON_DEMO_RESET"} {
		if got := EnvName(name); got != want {
			t.Errorf("EnvName(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*Config)
		want   []string // the start of each line of the error, in order
	}{
		{"every listener on a free port", func(c *Config) { c.MQTTS, c.HTTPS, c.MQTT = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0" }, nil},
		{"one listener", func(c *Config) { c.MQTTS, c.HTTPS, c.MQTT = "off", "off", "[::1]:1883" }, nil},
		{"an address by name", func(c *Config) { c.MQTTS = "Broker-1.example.org:8883" }, nil},
		{"one port, two hosts", func(c *Config) { c.MQTTS, c.HTTPS = "127.0.0.1:8883", "127.0.0.2:8883" }, nil},
		{"a certificate with its key", func(c *Config) { c.TLSCert, c.TLSKey = "a.pem", "b.pem" }, nil},
		{"a longer domain", func(c *Config) { c.Domain = "iot.example-1.org" }, nil},
		{"the demonstration", func(c *Config) { c.Demo, c.DemoReset = true, true }, nil},
		{"the demonstration on loopback hosts", func(c *Config) {
			c.Demo, c.MQTTS, c.HTTPS, c.MQTT = true, "127.8.0.1:8883", "[::1]:8443", "localhost:0"
		}, nil},
		{"origins of every form", func(c *Config) {
			c.WSOrigin = []string{"*", "https://a.example", "http://localhost:3000", "*.b.example", "https://*.c.example:*", "127.0.0.1:8080"}
		}, nil},
		{"proxies of every form", func(c *Config) { c.ProxyProtocol = []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"} }, nil},
		{"as many connections as fit", func(c *Config) { c.MaxConnections = 0 }, nil},

		{"an origin with a path", func(c *Config) { c.WSOrigin = []string{"https://a.example/x"} }, []string{`ws-origin: "https://a.example/x"`}},
		{"an origin of another scheme", func(c *Config) { c.WSOrigin = []string{"ftp://a.example"} }, []string{`ws-origin: "ftp://a.example"`}},
		{"an origin that is a pattern", func(c *Config) { c.WSOrigin = []string{"[a-z].example", "a?.example"} }, []string{"ws-origin: ", "ws-origin: "}},
		{"an origin with nobody", func(c *Config) { c.WSOrigin = []string{"https://", "null:x"} }, []string{"ws-origin: ", "ws-origin: "}},
		{"a proxy by name", func(c *Config) { c.ProxyProtocol = []string{"proxy.example"} }, []string{`proxy-protocol: "proxy.example"`}},
		{"a proxy in the IPv6 form of IPv4", func(c *Config) { c.ProxyProtocol = []string{"::ffff:10.0.0.1"} }, []string{"proxy-protocol: "}},
		{"a proxy with a zone", func(c *Config) { c.ProxyProtocol = []string{"fe80::1%eth0"} }, []string{"proxy-protocol: "}},
		{"limits out of range", func(c *Config) {
			c.MaxConnections, c.MaxPending, c.MaxPendingPerAddress, c.ConnectRate, c.RESTRate = -1, 0, 0, limitMax+1, 0
		}, []string{"max-connections: -1", "max-pending: 0", "max-pending-per-address: 0", "connect-rate-per-address: 10000001", "rest-rate: 0"}},
		{"no data folder", func(c *Config) { c.Data = "" }, []string{"data: names no folder"}},
		{"no domain", func(c *Config) { c.Domain = "" }, []string{`domain: ""`}},
		{"a domain in capitals", func(c *Config) { c.Domain = "Example.org" }, []string{`domain: "Example.org"`}},
		{"a domain that is an address", func(c *Config) { c.Domain = "127.0.0.1" }, []string{`domain: "127.0.0.1"`}},
		{"a domain with an empty label", func(c *Config) { c.Domain = "a..b" }, []string{`domain: "a..b"`}},
		{"a domain with a wildcard", func(c *Config) { c.Domain = "*.example.org" }, []string{`domain: "*.example.org"`}},
		{"a domain that leaves no room", func(c *Config) { c.Domain = strings.Repeat("a.", 111) + "b" }, []string{"domain: "}},
		{"a certificate without its key", func(c *Config) { c.TLSCert = "a.pem" }, []string{"tls-key: missing"}},
		{"a key without its certificate", func(c *Config) { c.TLSKey = "a.pem" }, []string{"tls-cert: missing"}},
		{"a bare port", func(c *Config) { c.MQTTS = "8883" }, []string{`mqtts: "8883" is neither`}},
		{"no address", func(c *Config) { c.HTTPS = "" }, []string{`https: "" is neither`}},
		{"a port by name", func(c *Config) { c.HTTPS = ":https" }, []string{`https: ":https" has no port`}},
		{"a port too large", func(c *Config) { c.MQTT = ":65536" }, []string{`mqtt: ":65536" has no port`}},
		{"a negative port", func(c *Config) { c.MQTT = ":-1" }, []string{`mqtt: ":-1" has no port`}},
		{"a host with a space", func(c *Config) { c.MQTT = "a b:1883" }, []string{`mqtt: "a b:1883" has a host`}},
		{"everything off", func(c *Config) { c.MQTTS, c.HTTPS = "off", "off" }, []string{"mqtts, https, mqtt: all are off"}},
		{"one address twice", func(c *Config) { c.HTTPS = ":8883" }, []string{`https: ":8883" is the address of mqtts`}},
		{"an unknown log format", func(c *Config) { c.LogFormat = "xml" }, []string{`log-format: "xml"`}},
		{"an unknown log level", func(c *Config) { c.LogLevel = "INFO" }, []string{`log-level: "INFO"`}},
		{"a reset of no demonstration", func(c *Config) { c.DemoReset = true }, []string{"demo-reset: needs demo"}},
		{"the demonstration on every address", func(c *Config) { c.Demo, c.MQTTS = true, "0.0.0.0:8883" }, []string{`mqtts: "0.0.0.0:8883" is not a loopback`}},
		{"the demonstration on a foreign address", func(c *Config) { c.Demo, c.MQTT = true, "192.0.2.1:1883" }, []string{`mqtt: "192.0.2.1:1883" is not a loopback`}},
		{"the demonstration on a name", func(c *Config) { c.Demo, c.HTTPS = true, "localhost.example.org:8443" }, []string{`https: "localhost.example.org:8443" is not a loopback`}},
		{"all problems at once", func(c *Config) {
			*c = Config{TLSCert: "a.pem", MQTTS: "x", HTTPS: "off", MQTT: "off", DemoReset: true, MaxPending: 1, MaxPendingPerAddress: 1, ConnectRate: 1, RESTRate: 1, PolicyInterval: 1, PolicyKeep: 1, DecisionLogRetention: 1}
		}, []string{"data: ", "domain: ", "tls-key: ", "mqtts: ", "max-buffer: ", "durability: ", "log-format: ", "log-level: ", "demo-reset: "}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := Defaults()
			test.change(&c)
			err := c.Validate()
			if len(test.want) == 0 {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			if err == nil {
				t.Fatalf("accepted, want %q", test.want)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %d problems, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is %q, want %q…", i+1, lines[i], want)
				}
			}
		})
	}
}

func TestEffective(t *testing.T) {
	t.Parallel()
	plain := Defaults()
	demo := Defaults()
	demo.Demo = true
	demo.MQTTS = "[::1]:0"
	demo.Plugins = "elsewhere"
	tests := []struct {
		name                        string
		give                        Config
		mqtts, https, mqtt, plugins string
	}{
		{"no demonstration", plain, ":8883", ":8443", "off", "cordon-data/plugins"},
		{"demonstration", demo, "[::1]:0", "127.0.0.1:8443", "off", "elsewhere"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := test.give.Effective()
			if got.MQTTS != test.mqtts || got.HTTPS != test.https || got.MQTT != test.mqtt || got.Plugins != test.plugins {
				t.Errorf("got %+v", got)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("is not valid any more: %v", err)
			}
		})
	}
}

func TestProxies(t *testing.T) {
	t.Parallel()
	got := Config{ProxyProtocol: []string{"10.1.2.3/8", "192.0.2.1", "2001:db8::1"}}.Proxies()
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
