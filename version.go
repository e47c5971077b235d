package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the release this source belongs to or leads to.
const version = "0.1.0-dev"

// versionCmd prints what is running.
type versionCmd struct {
	JSON bool `help:"Print one JSON object."`
}

// build is the answer of version --json. Revision, Time and Modified are
// absent where the binary was built without version control.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"` // of version control
	Time     string `json:"time,omitempty"`     // of that revision, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the tree had changes beside it
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Run prints the version on one line.
func (c *versionCmd) Run(std *streams) error {
	info, _ := debug.ReadBuildInfo()
	b := describeBuild(info)
	if c.JSON {
		return json.NewEncoder(std.out).Encode(b)
	}
	_, err := fmt.Fprintln(std.out, b)
	return err
}

// describeBuild reads what the Go linker noted; info may be nil.
func describeBuild(info *debug.BuildInfo) build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info == nil {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is the line for people: cordon 0.1.0 (1a2b3c4d5e6f, modified) go1.26.8 linux/amd64.
func (b build) String() string {
	s := "cordon " + b.Version
	if b.Revision != "" {
		s += " (" + b.Revision[:min(12, len(b.Revision))]
		if b.Modified {
			s += ", modified"
		}
		s += ")"
	}
	return s + " " + b.Go + " " + b.Platform
}
