package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wiotpMissing says what is not installed.
func wiotpMissing() string {
	if !installed("node") || exec.Command("node", "-e", "require.resolve('@wiotp/sdk')").Run() != nil {
		return "node or its package @wiotp/sdk is not installed; NODE_PATH may name the folder it is in"
	}
	return ""
}

// TestWatsonSDK has the platform's own SDK for Node.js, as it was published, work
// with Cordon: types, devices, bulk, location, diagnostics, events, commands, device
// status, last events and connection states.
func TestWatsonSDK(t *testing.T) {
	t.Parallel()
	if why := wiotpMissing(); why != "" {
		t.Skip(why)
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	var seed seeded
	made := succeeds(t, "init", "--data", data, "--domain", "iot.test", "--org", "acme01", "--json")
	if err := json.Unmarshal([]byte(made.out), &seed); err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(dir, filepath.Join(dir, "log"), []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GORACE=atexit_sleep_ms=10",
	}, "serve", "--data", data, "--domain", "iot.test", "--mqtts", "127.0.0.1:0", "--https", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	line, err := p.await(readyLine())
	if err != nil {
		t.Fatal(err)
	}
	port := func(door string) string {
		_, port, err := net.SplitHostPort(addressIn(line, door))
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	folder, err := filepath.Abs(filepath.Join("broker", "testdata", "wiotp"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--require", filepath.Join(folder, "names.js"), filepath.Join(folder, "sdk.js"),
		seed.APIKey, seed.APIToken, port("mqtts"), port("https"))
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+filepath.Join(data, "tls", "ca.crt"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "done\n") {
		t.Errorf("%v\n%s\nthe broker logged:\n%s", err, out, p.log)
	}
}
