package main

import (
	"encoding/json"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	got := cordon(t, nil, "version")
	if got.status != exitOK || got.errors != "" {
		t.Fatalf("got %+v", got)
	}
	if !strings.HasPrefix(got.out, "cordon "+version+" ") || strings.Count(got.out, "\n") != 1 {
		t.Errorf("got %q", got.out)
	}
}

func TestVersionJSON(t *testing.T) {
	t.Parallel()
	got := cordon(t, nil, "version", "--json")
	var b build
	if err := json.Unmarshal([]byte(got.out), &b); err != nil {
		t.Fatalf("%q: %v", got.out, err)
	}
	if b.Version != version || b.Go != runtime.Version() || b.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("got %+v", b)
	}
}

func TestDescribeBuild(t *testing.T) {
	t.Parallel()
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	rest := " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH
	tests := []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"nothing known", nil, "cordon " + version + rest},
		{"no version control", &debug.BuildInfo{}, "cordon " + version + rest},
		{"a clean tree", &debug.BuildInfo{Settings: []debug.BuildSetting{
			setting("vcs.revision", "0123456789abcdef0123"), setting("vcs.modified", "false"),
		}}, "cordon " + version + " (0123456789ab)" + rest},
		{"a changed tree", &debug.BuildInfo{Settings: []debug.BuildSetting{
			setting("vcs.revision", "0123"), setting("vcs.modified", "true"),
		}}, "cordon " + version + " (0123, modified)" + rest},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := describeBuild(test.info).String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
