package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		give string
		want Settings
	}{
		{"nothing", "", Settings{}},
		{"comments", "# data: x\n\n", Settings{}},
		{"an empty document", "---\n", Settings{}},
		{
			"every kind of value", "data: /var/lib/cordon\nmqtts: :8883\nmqtt: off\ndemo: true\ntls-cert: 'a b.pem'\n",
			Settings{"data": "/var/lib/cordon", "mqtts": ":8883", "mqtt": "off", "demo": true, "tls-cert": "a b.pem"},
		},
		{"quotes", "domain: \"example.org\" # ours\n\"https\": ':0'\n", Settings{"domain": "example.org", "https": ":0"}},
		{"flow style", "{mqtt: off, demo: false}", Settings{"mqtt": "off", "demo": false}},
		{"an empty text", "policy: ''\n", Settings{"policy": ""}},
		{"a number", "max-pending: 100\n", Settings{"max-pending": 100}},
		{"a list", "ws-origin:\n  - https://a.example\n  - '*.b.example'\n", Settings{"ws-origin": []string{"https://a.example", "*.b.example"}}},
		{"a list in flow style", "proxy-protocol: [10.0.0.0/8]\n", Settings{"proxy-protocol": []string{"10.0.0.0/8"}}},
		{"an empty list", "ws-origin: []\n", Settings{"ws-origin": []string{}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse("cordon.yaml", []byte(test.give))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		give string
		want []string // the start of each line of the error
	}{
		{"an unknown field", "data: x\ntls-crt: a.pem\n", []string{`cordon.yaml:2:1: unknown field "tls-crt"; the fields are data, `}},
		{"a field in Go's spelling", "LogLevel: info\n", []string{`cordon.yaml:1:1: unknown field "LogLevel"`}},
		{"all unknown fields", "a: 1\nmqtt: off\n  # deep\nb: 2\n", []string{"cordon.yaml:1:1: ", "cordon.yaml:4:1: "}},
		{"a field twice", "data: x\ndata: y\n", []string{"cordon.yaml:2:1: "}},
		{"another file", "config: other.yaml\n", []string{"cordon.yaml:1:1: a configuration file cannot"}},
		{"a number for a text", "mqtts: 8883\n", []string{"cordon.yaml:1:1: want a text"}},
		{"a text for a switch", "demo: yes\n", []string{"cordon.yaml:1:1: want true or false"}},
		{"a text for a number", "max-pending: '100'\n", []string{"cordon.yaml:1:1: want a whole number"}},
		{"a fraction for a number", "max-pending: 1.5\n", []string{"cordon.yaml:1:1: want a whole number"}},
		{"a number beyond all", "max-pending: 99999999999999999999\n", []string{"cordon.yaml:1:1: want a whole number"}},
		{"a text for a list", "ws-origin: https://a.example\n", []string{"cordon.yaml:1:1: want a list of texts"}},
		{"a list of numbers", "proxy-protocol: [10]\n", []string{"cordon.yaml:1:1: in the list: want a text"}},
		{"a list in a list", "ws-origin: [[a]]\n", []string{"cordon.yaml:1:1: in the list: want a text"}},
		{"no value", "policy:\n", []string{"cordon.yaml:1:1: want a text"}},
		{"a nested value", "data:\n  dir: x\n", []string{"cordon.yaml:1:1: want a text"}},
		{"an anchor", "data: &a x\n", []string{"cordon.yaml:1:1: want a text"}},
		{"an alias", "data: *a\n", []string{"cordon.yaml:1:1: want a text"}},
		{"a merge", "<<: {data: x}\n", []string{`cordon.yaml:1:1: unknown field "<<"`}},
		{"a tag", "data: !!str 5\n", []string{"cordon.yaml:1:1: want a text"}},
		{"a list", "- data\n", []string{"cordon.yaml:1:1: want `name: value` lines"}},
		{"a word", "data", []string{"cordon.yaml:1:1: want `name: value` lines"}},
		{"a second document", "data: x\n---\n  domain: y\n", []string{"cordon.yaml:3:3: a second document"}},
		{"broken YAML", "data: [\n", []string{"cordon.yaml:1:7: "}},
		{"too much", strings.Repeat("#\n", fileMax), []string{"cordon.yaml: larger than 16384 bytes"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse("cordon.yaml", []byte(test.give))
			if err == nil {
				t.Fatalf("accepted as %v", got)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("line %d is %q, want %q…", i+1, lines[i], want)
				}
			}
		})
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cordon.yaml")
	if _, err := File(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("domain: example.org\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := File(path)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, Settings{"domain": "example.org"}) {
		t.Errorf("got %v", got)
	}
}

// Whatever the bytes, Parse answers with known settings of the right type or
// with an error that names the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "data: x\n", "mqtt: off\ndemo: true\n", "a: &a b\nc: *a\n", "- x\n", "data: [\n", "x: |\n y\n", "? a\n: b\n",
		"data: x\n---\ndata: y\n", "\ufeffdata: x\n", "data: \"\\u0000\"\n", "{demo: false}", "<<: {}\n", "max-pending: 7\nws-origin: [a, '*']\n", "data: !!binary aGk=\n",
	} {
		f.Add([]byte(seed))
	}
	known := map[string]kind{}
	for _, s := range settings() {
		known[s.name] = s.kind
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		stated, err := Parse("f.yaml", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("the error names no file: %v", err)
			}
			if stated != nil {
				t.Errorf("settings beside an error: %v", stated)
			}
			return
		}
		for name, value := range stated {
			want, ok := known[name]
			got := map[reflect.Type]kind{
				reflect.TypeFor[string](): text, reflect.TypeFor[bool](): truth, reflect.TypeFor[int](): number, reflect.TypeFor[[]string](): list,
			}[reflect.TypeOf(value)]
			if !ok || got != want || name == "config" {
				t.Errorf("%s = %v (%T)", name, value, value)
			}
			if text, is := value.(string); is && utf8.Valid(data) && !utf8.ValidString(text) {
				t.Errorf("%s = %q", name, text)
			}
		}
	})
}
