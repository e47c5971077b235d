package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// eventFilter is what an application hears its devices with.
const eventFilter = "iot-2/type/+/id/+/evt/+/fmt/+"

// TestPubAndSub has the two commands speak over TLS with one real broker, in
// both versions of MQTT.
func TestPubAndSub(t *testing.T) {
	t.Parallel()
	d := startDemonstration(t)
	for _, version := range []string{"5", "3.1.1"} {
		t.Run("MQTT "+version, func(t *testing.T) {
			for qos := range 3 {
				t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) { d.pubReachesSub(t, version, qos) })
			}
			t.Run("a kept session gives what is asked for", func(t *testing.T) { d.keptSession(t, version) })
			t.Run("refusals", func(t *testing.T) { d.commandsRefused(t, version) })
			t.Run("one filter of two", func(t *testing.T) { d.oneOfTwo(t, version) })
			t.Run("lines", func(t *testing.T) { d.lines(t, version) })
			t.Run("signal", func(t *testing.T) { d.signal(t, version) })
			t.Run("will", func(t *testing.T) { d.will(t, version) })
			t.Run("taken over", func(t *testing.T) { d.takenOver(t, version) })
			t.Run("WebSocket", func(t *testing.T) { d.webSocket(t, version) })
		})
	}
	t.Run("payloads", d.payloads)
	t.Run("password from the environment", d.passwordVariable)
	t.Run("certificates", d.certificates)
	t.Run("time is up", d.timeIsUp)
	t.Run("output that takes nothing", d.brokenOutput)
}

// where says how to reach the broker.
func (d *demonstration) where(t *testing.T) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(d.address)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-h", "localhost", "-p", port, "--ca", d.caFile}
}

// as is a command line of the device or the application.
func (d *demonstration) as(t *testing.T, who, command, version string, args ...string) []string {
	t.Helper()
	id, user, password := deviceID, deviceUser, d.deviceToken
	if who == "app" {
		id, user, password = appID, d.appKey, d.appToken
	}
	line := append([]string{command, "-i", id, "-u", user, "-P", password, "-V", version}, d.where(t)...)
	return append(line, args...)
}

// background runs a command in this process.
type background struct {
	out   lines
	ended chan struct{}
	got   result
	stop  context.CancelFunc
}

// lines is a text that grows.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &background{ended: make(chan struct{}), stop: cancel}
	go func() {
		defer close(b.ended)
		var stderr bytes.Buffer
		status := run(ctx, args, &b.out, &stderr, func(string) (string, bool) { return "", false })
		b.got = result{status: status, out: b.out.String(), errors: stderr.String()}
	}()
	t.Cleanup(func() { cancel(); <-b.ended })
	return b
}

// until repeats an action until the command has ended: a subscriber does not say
// when it is there.
func (b *background) until(t *testing.T, again func()) result {
	t.Helper()
	deadline := within(t)
	for {
		again()
		select {
		case <-b.ended:
			return b.got
		case <-deadline.Done():
			t.Fatal("the command goes on")
		default:
		}
	}
}

// succeeds runs a command that has to.
func succeeds(t *testing.T, args ...string) result {
	t.Helper()
	got := cordon(t, nil, args...)
	if got.status != exitOK || got.errors != "" {
		t.Fatalf("%s: %+v", args[0], got)
	}
	return got
}

func (d *demonstration) pubReachesSub(t *testing.T, version string, qos int) {
	q := fmt.Sprint(qos)
	sub := start(t, d.as(t, "app", "sub", version, "-t", eventFilter, "-q", q, "-v", "-C", "1")...)
	got := sub.until(t, func() {
		succeeds(t, d.as(t, "device", "pub", version, "-t", event, "-q", q, "-m", "21, 22")...)
	})
	if want := (result{status: exitOK, out: eventInside + " 21, 22\n"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// keep leaves an application's session with a subscription.
func (d *demonstration) keep(t *testing.T, version, name string) []string {
	t.Helper()
	id := "a:" + demoOrg + ":" + name + strings.ReplaceAll(version, ".", "-")
	args := append(d.as(t, "app", "sub", version, "-c", "-q", "2", "-t", eventFilter), "-i", id)
	var cmd struct{ subCmd }
	cmd.Host, cmd.CA, cmd.ID, cmd.User, cmd.Version, cmd.Password = "localhost", d.caFile, id, d.appKey, version, d.appToken
	_, port, _ := net.SplitHostPort(d.address)
	if _, err := fmt.Sscan(port, &cmd.Port); err != nil {
		t.Fatal(err)
	}
	conn, err := cmd.connect(within(t), &streams{io.Discard, io.Discard}, nil, session{keep: true, expiry: 60, inbox: newInbox(io.Discard, false, 0)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.leave()
	if refusals, err := conn.subscribe(within(t), []string{eventFilter}, 2); err != nil || errors.Join(refusals...) != nil {
		t.Fatal(err, refusals)
	}
	return args
}

// What was not printed is not acknowledged: it is there the next time.
func (d *demonstration) keptSession(t *testing.T, version string) {
	for qos := 1; qos <= 2; qos++ {
		sub := d.keep(t, version, fmt.Sprintf("kept%d-", qos))
		for n := range 3 {
			succeeds(t, d.as(t, "device", "pub", version, "-t", event, "-q", fmt.Sprint(qos), "-m", fmt.Sprint(n))...)
		}
		if got := succeeds(t, append(sub, "-C", "2")...); got.out != "0\n1\n" {
			t.Errorf("QoS %d: the first time: %q", qos, got.out)
		}
		if got := succeeds(t, append(sub, "-C", "1")...); got.out != "2\n" {
			t.Errorf("QoS %d: the second time: %q", qos, got.out)
		}
	}
}

func (d *demonstration) commandsRefused(t *testing.T, version string) {
	wrong := func(args []string) []string { return append(args, "-P", "wrong-token") }
	tests := []struct {
		name    string
		args    []string
		v3      string
		v5, why string // the latter is in the broker's own words
	}{
		{
			"connect", wrong(d.as(t, "device", "pub", version, "-t", event, "-m", "no")),
			"connection refused: Not authorized (0x05)", "connection refused: Not authorized (0x87)", "",
		},
		{
			"connect of sub", wrong(d.as(t, "device", "sub", version, "-t", command)),
			"connection refused: Not authorized (0x05)", "connection refused: Not authorized (0x87)", "",
		},
		{
			"publish QoS 1", d.as(t, "device", "pub", version, "-t", notItsOwn, "-q", "1", "-m", "no"),
			"publish not acknowledged: the broker closed the connection", "publish refused: Not authorized (0x87): a device publishes", "(decision ",
		},
		{
			"publish QoS 2", d.as(t, "device", "pub", version, "-t", notItsOwn, "-q", "2", "-m", "no"),
			"publish not acknowledged: the broker closed the connection", "publish refused: Not authorized (0x87): a device publishes", "(decision ",
		},
		{
			"subscribe", d.as(t, "device", "sub", version, "-t", "iot-2/evt/#"),
			`subscribe to "iot-2/evt/#" refused: Failure (0x80)`, `subscribe to "iot-2/evt/#" refused: Not authorized (0x87): a device subscribes`, "(decision ",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := cordon(t, nil, test.args...)
			want, why := test.v5, test.why
			if version != "5" {
				want, why = test.v3, ""
			}
			if got.status != exitFailed || got.out != "" || !strings.HasPrefix(got.errors, "cordon: "+want) ||
				!strings.Contains(got.errors, why) || strings.Count(got.errors, "\n") != 1 {
				t.Errorf("got %+v, want %q with %q", got, want, why)
			}
			if strings.Contains(got.errors, d.deviceToken) || strings.Contains(got.errors, "wrong-token") {
				t.Error("the error shows the password")
			}
		})
	}
}

// A filter that is refused is told, and the others are served.
func (d *demonstration) oneOfTwo(t *testing.T, version string) {
	sub := start(t, d.as(t, "device", "sub", version, "-t", "iot-2/evt/#", "-t", "iot-2/cmd/+/fmt/+", "-C", "1")...)
	got := sub.until(t, func() {
		succeeds(t, d.as(t, "app", "pub", version, "-t", commandInside, "-q", "1", "-m", "now")...)
	})
	if got.status != exitOK || got.out != "now\n" || !strings.Contains(got.errors, `subscribe to "iot-2/evt/#" refused`) {
		t.Errorf("got %+v", got)
	}
}

// child runs a command as a process of its own.
func child(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.CommandContext(within(t), "cordon", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, &stderr
}

func (d *demonstration) lines(t *testing.T, version string) {
	sub := d.keep(t, version, "lines")
	cmd, stderr := child(t, d.as(t, "device", "pub", version, "-t", event, "-q", "1", "-l")...)
	cmd.Stdin = strings.NewReader("one\n\ntwo\nthree")
	if err := cmd.Run(); err != nil || stderr.Len() > 0 {
		t.Fatalf("pub -l: %v\n%s", err, stderr)
	}
	if got := succeeds(t, append(sub, "-C", "3")...); got.out != "one\ntwo\nthree\n" {
		t.Errorf("got %q", got.out)
	}
	cmd, stderr = child(t, d.as(t, "device", "pub", version, "-t", event, "-l")...)
	cmd.Stdin = strings.NewReader(strings.Repeat("x", lineMax+1))
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(stderr.String(), "a line of more than") {
		t.Errorf("a long line: %v\n%s", err, stderr)
	}
}

// subscribed starts sub as a process, and returns when it has printed a command.
func (d *demonstration) subscribed(t *testing.T, version string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd, stderr := child(t, d.as(t, "device", "sub", version, append(args, "-t", "iot-2/cmd/+/fmt/+", "-v")...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	printed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		printed <- line
	}()
	for {
		succeeds(t, d.as(t, "app", "pub", version, "-t", commandInside, "-m", "now")...)
		select {
		case line := <-printed:
			if line != command+" now\n" {
				t.Fatalf("sub printed %q: %s", line, stderr)
			}
			return cmd, stderr
		default:
		}
	}
}

func (d *demonstration) signal(t *testing.T, version string) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd, stderr := d.subscribed(t, version)
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
			t.Errorf("%v: %v\n%s", signal, err, stderr)
		}
	}
}

// A will is published when sub is killed, and not when it is told to stop.
func (d *demonstration) will(t *testing.T, version string) {
	hears := d.keep(t, version, "mourner")
	will := []string{"--will-topic", event, "--will-payload", "gone", "--will-qos", "1"}
	told, _ := d.subscribed(t, version, will...)
	if err := errors.Join(told.Process.Signal(os.Interrupt), told.Wait()); err != nil {
		t.Fatal(err)
	}
	succeeds(t, d.as(t, "device", "pub", version, "-t", event, "-q", "1", "-m", "between")...)
	killed, _ := d.subscribed(t, version, will...)
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if got := succeeds(t, append(hears, "-C", "2")...); got.out != "between\ngone\n" {
		t.Errorf("got %q", got.out)
	}
}

func (d *demonstration) takenOver(t *testing.T, version string) {
	cmd, stderr := d.subscribed(t, version)
	succeeds(t, d.as(t, "device", "pub", version, "-t", event, "-m", "mine now")...)
	_ = cmd.Wait()
	want := "cordon: the broker closed the connection\n"
	if version == "5" {
		want = "cordon: disconnected: Session taken over (0x8E)"
	}
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("status %d, %q", cmd.ProcessState.ExitCode(), stderr)
	}
}

// webSocket puts a WebSocket before the broker, with a certificate of its own.
func (d *demonstration) webSocket(t *testing.T, version string) {
	broker := d.tls(t)
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mqtt" {
			http.Redirect(w, r, "/mqtt", http.StatusFound)
			return
		}
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"mqtt"}})
		if err != nil {
			return
		}
		front := websocket.NetConn(r.Context(), ws, websocket.MessageBinary)
		back, err := tls.Dial("tcp", d.address, broker)
		if err != nil {
			return
		}
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = io.Copy(front, back)
			_ = front.Close()
		}()
		_, _ = io.Copy(back, front)
		_ = back.Close()
		<-over
	}))
	t.Cleanup(front.Close)
	_, port, _ := net.SplitHostPort(front.Listener.Addr().String())
	over := func(args []string) []string {
		for i, arg := range args {
			if arg == "--ca" {
				args = append(args[:i], args[i+2:]...)
				break
			}
		}
		return append(args, "-h", "127.0.0.1", "-p", port, "--ws", "--insecure")
	}
	sub := start(t, over(d.as(t, "app", "sub", version, "-t", eventFilter, "-q", "1", "-C", "1"))...)
	got := sub.until(t, func() {
		succeeds := cordon(t, nil, over(d.as(t, "device", "pub", version, "-t", event, "-q", "1", "-m", "21"))...)
		if succeeds.status != exitOK {
			t.Fatalf("pub: %+v", succeeds)
		}
	})
	if got.status != exitOK || got.out != "21\n" {
		t.Errorf("got %+v", got)
	}
}

func (d *demonstration) payloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("from\na file"), 0o600); err != nil {
		t.Fatal(err)
	}
	sub := d.keep(t, "5", "payloads")
	for _, args := range [][]string{{"-m", ""}, {"-n", "-r"}, {"-f", file}} {
		succeeds(t, d.as(t, "device", "pub", "5", append(args, "-t", event, "-q", "1")...)...)
	}
	if got := succeeds(t, append(sub, "-C", "3")...); got.out != "\n\nfrom\na file\n" {
		t.Errorf("got %q", got.out)
	}
	missing := cordon(t, nil, d.as(t, "device", "pub", "5", "-t", event, "-f", file+"x")...)
	if missing.status != exitFailed || !strings.Contains(missing.errors, "no such file") {
		t.Errorf("a missing file: %+v", missing)
	}
}

func (d *demonstration) passwordVariable(t *testing.T) {
	args := append([]string{"pub", "-i", deviceID, "-u", deviceUser, "-t", event, "-m", "x", "-q", "1"}, d.where(t)...)
	if got := cordon(t, map[string]string{passwordVariable: d.deviceToken}, args...); got.status != exitOK || got.errors != "" {
		t.Errorf("right: %+v", got)
	}
	if got := cordon(t, map[string]string{passwordVariable: "wrong"}, args...); got.status != exitFailed {
		t.Errorf("wrong: %+v", got)
	}
	if got := cordon(t, map[string]string{passwordVariable: "wrong"}, append(args, "-P", d.deviceToken)...); got.status != exitOK {
		t.Errorf("the command line wins: %+v", got)
	}
}

func (d *demonstration) certificates(t *testing.T) {
	who := []string{"pub", "-i", deviceID, "-u", deviceUser, "-P", d.deviceToken, "-t", event, "-q", "1", "-m", "x"}
	where := d.where(t)[:4:4]
	noCA := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(noCA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		args   []string
		status int
		errors string
	}{
		{"the system's authorities", where, exitFailed, "certificate"},
		{"the broker's", append(where, "--ca", d.caFile), exitOK, ""},
		{"none in the file", append(where, "--ca", noCA), exitFailed, "no PEM certificate"},
		{"unchecked", append(where, "--insecure"), exitOK, "cordon: warning: the broker's certificate is not checked\n"},
		{"another name", append(d.where(t), "-h", "127.0.0.2"), exitFailed, "127.0.0.2"},
		{"no TLS where TLS is spoken", append(where, "--plain", "-V", "3.1.1"), exitFailed, ""},
	} {
		got := cordon(t, nil, append(append([]string{}, who...), test.args...)...)
		if got.status != test.status || !strings.Contains(got.errors, test.errors) || test.errors == "" && (got.errors == "") != (got.status == exitOK) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

func (d *demonstration) timeIsUp(t *testing.T) {
	t.Parallel()
	for want, args := range map[result][]string{
		{status: exitOK}: {"-W", "1"},
		{status: exitFailed, errors: "cordon: after 1 s, 2 of 2 messages are missing\n"}: {"-W", "1", "-C", "2"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			id := "a:" + demoOrg + ":w" + fmt.Sprint(len(args))
			if got := cordon(t, nil, append(d.as(t, "app", "sub", "5", "-t", commandInside, "-i", id), args...)...); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func (d *demonstration) brokenOutput(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		sub := d.keep(t, version, "deaf")
		succeeds(t, d.as(t, "device", "pub", version, "-t", event, "-q", "1", "-m", "heard later")...)
		var stderr bytes.Buffer
		status := run(within(t), sub, failing{}, &stderr, func(string) (string, bool) { return "", false })
		if status != exitFailed || stderr.String() != "cordon: context canceled\n" { // the words of failing
			t.Errorf("MQTT %s: status %d, %q", version, status, stderr.String())
		}
		if got := succeeds(t, append(sub, "-C", "1")...); got.out != "heard later\n" {
			t.Errorf("MQTT %s: lost: %q", version, got.out)
		}
	}
}
