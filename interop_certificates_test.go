package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// certified is a demonstration that trusts an authority, beside a second organisation
// that trusts another one of the same name. Both have the device of demoName.
type certified struct {
	w           *web
	s           *site
	root, rival *certificatetest.Authority
	path        string // of root, in the REST interface
}

const (
	rivalOrg  = "rival1"
	rivalID   = "d:" + rivalOrg + ":" + string(demoType) + ":" + string(demoDevice)
	certsHost = ".messaging.iot.test" // after the organisation
)

func startCertified(t *testing.T) *certified {
	t.Helper()
	w := startWeb(t, "CORDON_DOMAIN=iot.test")
	var seed seeded
	made := succeeds(t, "init", "--data", filepath.Dir(filepath.Dir(w.caFile)), "--domain", "iot.test", "--org", rivalOrg, "--json")
	if err := json.Unmarshal([]byte(made.out), &seed); err != nil {
		t.Fatal(err)
	}
	second := &web{demonstration: demonstration{doors: w.doors, appKey: seed.APIKey, appToken: seed.APIToken}, process: w.process}
	types := "/device/types"
	for _, status := range []int{
		second.call(t, http.MethodPost, types, map[string]any{"id": demoType}),
		second.call(t, http.MethodPost, types+"/"+string(demoType)+"/devices", map[string]any{"deviceId": demoDevice}),
	} {
		if status != http.StatusCreated {
			t.Fatalf("status %d", status)
		}
	}
	c := &certified{w: w, s: newSite(t, w.doors, w.log), root: certificatetest.New(t, "Devices"), rival: certificatetest.New(t, "Devices")}
	c.path = w.trust(t, c.root)
	second.trust(t, c.rival)
	return c
}

// demands has the devices bring what a level says. Applications go on with tokens.
func (c *certified) demands(t *testing.T, level string) {
	t.Helper()
	policy := map[string]any{"level": "tls_certificate_or_token", "types": map[string]string{string(demoType): level}}
	if status := c.w.call(t, http.MethodPut, "/riskmgmt/policies/connection", policy); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
}

// revokes uploads a list with one certificate.
func (c *certified) revokes(t *testing.T, leaf *certificatetest.Leaf) {
	t.Helper()
	list := c.root.List(time.Now().UnixNano(), []*x509.Certificate{leaf.Certificate})
	if status := c.w.call(t, http.MethodPut, c.path+"/crl", map[string]string{"crl": base64.StdEncoding.EncodeToString(list)}); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
}

// showing is the site to clients that show a certificate at an organisation's name.
func (c *certified) showing(t *testing.T, org string, leaf *certificatetest.Leaf) *site {
	t.Helper()
	s := *c.s
	s.settings = s.doors.tls(t)
	s.settings.ServerName = org + certsHost
	s.settings.Certificates = []tls.Certificate{leaf.TLS()}
	return &s
}

// TestInteropCertificatesPaho has both of Paho's libraries for Go show a certificate,
// without a username and beside a token.
func TestInteropCertificatesPaho(t *testing.T) {
	t.Parallel()
	c := startCertified(t)
	for _, level := range []string{"tls_certificate", "tls_token_and_certificate"} {
		c.demands(t, level)
		for _, l := range []library{{paho3Product(), "3.1", false}, {paho3Product(), "3.1.1", false}, {paho5Product(), "5", false}} {
			t.Run(level+" "+l.String(), func(t *testing.T) { c.paho(t, l, level) })
		}
	}
}

func (c *certified) paho(t *testing.T, l library, level string) {
	greets := greeting{id: deviceID, filters: []string{"iot-2/cmd/+/fmt/+"}, qos: 2}
	if level == "tls_token_and_certificate" {
		greets.user, greets.password = deviceUser, c.w.deviceToken
	}
	leaf := c.root.Issue(demoName)
	app := c.s.join(t, library{paho5Product(), "5", false}, c.w.app("iot-2/type/+/id/+/evt/+/fmt/+"))
	device := c.showing(t, demoOrg, leaf).join(t, l, greets)
	goes(t, device, event, app, eventInside)
	goes(t, app, commandInside, device, command)

	c.revokes(t, leaf)
	select {
	case <-device.lost:
	case <-within(t).Done():
		t.Error("connected with a revoked certificate")
	}
	refused := func(why string, s *site, g greeting) {
		t.Helper()
		_, err := s.tries(t, l, g)
		if err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authori") && !strings.Contains(err.Error(), "requires a client certificate (decision ") {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("revoked", c.showing(t, demoOrg, leaf), greets)

	foreign := c.rival.Issue(demoName)
	refused("of another organisation", c.showing(t, demoOrg, foreign), greets)
	refused("at another organisation's name", c.showing(t, rivalOrg, foreign), greets)
	// At home, where no level was chosen, the certificate alone is taken.
	c.showing(t, rivalOrg, foreign).join(t, l, greeting{id: rivalID}).leave()

	if level == "tls_token_and_certificate" {
		greets.password = "made-up-token"
		refused("with a wrong token", c.showing(t, demoOrg, c.root.Issue(demoName)), greets)
		return
	}
	refused("without a certificate", c.s, c.w.device())
	c.showing(t, demoOrg, c.root.Issue(demoName)).join(t, l, greets).leave()
}

// ibmiotfMissing says what is not installed.
func ibmiotfMissing() string {
	if !installed("node") || exec.Command("node", "-e", "require.resolve('ibmiotf')").Run() != nil {
		return "node or its package ibmiotf is not installed; NODE_PATH may name the folder it is in"
	}
	return ""
}

// TestInteropCertificatesIBMIoTF has the platform's older SDK for Node.js, as it was
// published, show a certificate. It sends a username and a token always, so the level
// has to be one at which a certificate is all that counts, or the token be a real one.
func TestInteropCertificatesIBMIoTF(t *testing.T) {
	t.Parallel()
	if why := ibmiotfMissing(); why != "" {
		t.Skip(why)
	}
	c := startCertified(t)
	const madeUp = "made-up-token"
	for _, tt := range []struct {
		level, token string
		read         bool // the certificates are given as text and not as files
	}{
		{"tls_certificate", madeUp, false},
		{"tls_token_and_certificate", c.w.deviceToken, true},
	} {
		t.Run(tt.level, func(t *testing.T) {
			c.demands(t, tt.level)
			leaf := c.root.Issue(demoName)
			app := c.s.join(t, library{paho5Product(), "5", false}, c.w.app("iot-2/type/+/id/+/evt/+/fmt/+"))
			device := c.ibmiotf(t, demoOrg, tt.token, c.root, leaf, tt.read)
			app.wants(t, message{topic: eventInside, payload: `{"d":{"t":21}}`, qos: 2})
			device.wants(t, "published")
			for qos := range byte(3) {
				app.sends(t, message{topic: commandInside, payload: strconv.Itoa(int(qos)), qos: qos})
				device.wants(t, "command reboot json "+command+" "+strconv.Itoa(int(qos)))
			}

			c.revokes(t, leaf)
			device.wants(t, "disconnected")
			const refused = "error: Connection refused: Not authorized"
			device.wants(t, refused) // it came back by itself
			c.ibmiotf(t, demoOrg, tt.token, c.rival, c.rival.Issue(demoName), tt.read).wants(t, refused)
			other := c.root.Issue("d:" + string(demoType) + ":other")
			c.ibmiotf(t, demoOrg, tt.token, c.root, other, tt.read).wants(t, refused)
		})
	}
	t.Run("a token that is sent is checked", func(t *testing.T) {
		c.demands(t, "tls_certificate_or_token")
		leaf := c.root.Issue(demoName)
		c.ibmiotf(t, demoOrg, madeUp, c.root, leaf, false).wants(t, "error: Connection refused: Not authorized")
		c.ibmiotf(t, demoOrg, c.w.deviceToken, c.root, leaf, false).wants(t, "published")
	})
}

// sdk has the lines that a process of broker/testdata/ibmiotf/device.js prints.
type sdk <-chan string

// ibmiotf has the SDK connect as a device of an organisation.
func (c *certified) ibmiotf(t *testing.T, org, token string, root *certificatetest.Authority, leaf *certificatetest.Leaf, read bool) sdk {
	t.Helper()
	config := map[string]any{
		"org": org, "domain": "iot.test", "type": demoType, "id": demoDevice, "auth-method": "token", "auth-token": token,
		"use-client-certs": true,
	}
	key := uploadOf(t, leaf)["privateKey"]
	if read {
		// It does not read server-ca then. Whom it trusts is what client-ca holds.
		server, err := os.ReadFile(c.w.caFile)
		if err != nil {
			t.Fatal(err)
		}
		config["read-certs"] = true
		config["client-ca"] = certificatetest.PEM(root.Certificate) + string(server)
		config["client-cert"], config["client-key"] = certificatetest.PEM(leaf.Certificate), key
	} else {
		dir := t.TempDir()
		config["server-ca"] = c.w.caFile
		for name, text := range map[string]string{
			"client-ca": certificatetest.PEM(root.Certificate), "client-cert": certificatetest.PEM(leaf.Certificate), "client-key": key,
		} {
			path := filepath.Join(dir, name+".pem")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config[name] = path
		}
	}
	_, port, err := net.SplitHostPort(c.w.address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(map[string]any{"port": number, "config": config})
	if err != nil {
		t.Fatal(err)
	}
	return startSDK(t, line)
}

func startSDK(t *testing.T, settings []byte) sdk {
	t.Helper()
	names, err := filepath.Abs(filepath.Join("broker", "testdata", "wiotp", "names.js"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "--require", names, filepath.Join("broker", "testdata", "ibmiotf", "device.js"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 64)
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		for range lines { // what nobody wanted to know
		}
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("the SDK: %v\n%s", err, stderr)
		}
	})
	if _, err := stdin.Write(append(settings, '\n')); err != nil {
		t.Error(err)
	}
	return lines
}

// wants waits for the next line, which has to be that.
func (p sdk) wants(t *testing.T, want string) {
	t.Helper()
	select {
	case got, ok := <-p:
		if got != want {
			t.Fatalf("the SDK says %q (%t), want %q", got, ok, want)
		}
	case <-within(t).Done():
		t.Fatalf("the SDK does not say %q", want)
	}
}
