package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// walk is one reader's way through one document: one shell that keeps its
// variables and its folder from block to block, and what runs beside it.
type walk struct {
	t        *testing.T
	ctx      context.Context // ends every program of the walk
	scratch  string
	clone    string
	life     *os.File // what lifelines read; its other end is open as long as the test runs
	next     *os.File // takes the file name of the next block
	done     *os.File // says "ok" after each
	skipping bool     // up to the end of the section
	skipped  int      // under this heading
	ports    map[string]string
}

// lifeline ends the process group of a shell when descriptor 3 ends: nothing is
// ever written there, and the other end goes with the process of the test.
const lifeline = `{ read -r _ <&3; kill -KILL 0; } </dev/null >/dev/null 2>&1 4<&- 5>&- & disown
`

// runner reads file names from descriptor 4, runs each in this very shell, and
// says so on descriptor 5. A command that fails ends the shell.
const runner = lifeline + `set -euo pipefail
while IFS= read -r block <&4; do
	. "$block" >"$block.out" 2>&1 </dev/null 4<&- 5>&-
	echo ok >&5
done`

// blockTime bounds one block: longer means that it waits for something, such as
// a server that was not marked as background.
const blockTime = 2 * time.Minute

// goCommand stands in for go: the program is built already, and the tests are
// what is running.
const goCommand = `#!/usr/bin/env bash
case "${1-} ${2-}" in
"run .") shift 2; exec cordon "$@" ;;
"test "*) echo "not run: go test inside go test"; exit 0 ;;
esac
exec %q "$@"
`

// newWalk starts the shell in the folder clone; the program is binary. All
// that it starts is gone when the test ends.
func newWalk(t *testing.T, binary, clone string) *walk {
	t.Helper()
	realGo, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	w := &walk{t: t, ctx: ctx, scratch: t.TempDir(), clone: clone, ports: map[string]string{}}
	bin := filepath.Join(w.scratch, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Symlink(binary, filepath.Join(bin, "cordon")),
		os.WriteFile(filepath.Join(bin, "go"), fmt.Appendf(nil, goCommand, realGo), 0o755)); err != nil {
		t.Fatal(err)
	}
	w.life, _ = w.pipe()
	shellNext, next := w.pipe()
	done, shellDone := w.pipe()
	w.next, w.done = next, done
	shell := w.command(runner, shellNext, shellDone)
	w.start(shell, nil)
	shellNext.Close()
	shellDone.Close()
	return w
}

// pipe makes a pipe that is closed with the test.
func (w *walk) pipe() (read, write *os.File) {
	w.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

// command is bash with a clean environment in a process group of its own. The
// files are descriptors 4 and up of the script; 3 is its lifeline.
func (w *walk) command(script string, files ...*os.File) *exec.Cmd {
	cmd := exec.CommandContext(w.ctx, "bash", "--noprofile", "--norc", "-c", script)
	cmd.ExtraFiles = append([]*os.File{w.life}, files...)
	cmd.Dir = w.clone
	cmd.Env = []string{
		"PATH=" + filepath.Join(w.scratch, "bin") + ":" + os.Getenv("PATH"),
		"HOME=" + w.scratch, "LC_ALL=C.UTF-8", "GOFLAGS=-buildvcs=false",
		"CORDON_MQTTS=127.0.0.1:0", "CORDON_HTTPS=127.0.0.1:0",
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN"} {
		if value, err := exec.CommandContext(w.ctx, "go", "env", name).Output(); err == nil {
			cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// start starts cmd and sees to it that its whole group is gone in the end:
// asked first, so that a server can close its store, killed after that.
func (w *walk) start(cmd *exec.Cmd, ended func()) {
	w.t.Helper()
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait()
		if ended != nil {
			ended()
		}
	}()
	w.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-gone
	})
}

// step runs one block and compares what it prints.
func (w *walk) step(b block) error {
	if w.skipping && w.skipped == b.heading {
		return nil
	}
	w.skipping = false
	if b.needs != "" && !installed(b.needs) {
		w.t.Logf("line %d: skipped up to the next heading: %s is not installed", b.line, b.needs)
		w.skipping, w.skipped = true, b.heading
		return nil
	}
	run := w.foreground
	if b.until != "" {
		run = w.background
	}
	output, err := run(b)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, demoToken.ReplaceAllString(output, "$1…"))
	}
	if want := w.withPorts(b.prints); want != "" && !printed(want).MatchString(output) {
		return fmt.Errorf("prints\n%s\nbut the document says\n%s", output, want)
	}
	return nil
}

// demoToken finds the tokens that a demonstration prints, for the output of a test
// to leave them out: in its export line, and after the flags of a client.
var demoToken = regexp.MustCompile(`((?:TOKEN=|-P |-u )')[^']*`)

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// foreground runs a block in the shell and returns its output.
func (w *walk) foreground(b block) (string, error) {
	file := filepath.Join(w.scratch, fmt.Sprintf("line%d", b.line))
	if err := os.WriteFile(file, []byte(w.withPorts(b.commands)), 0o600); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(w.next, file); err != nil {
		return "", err
	}
	if err := w.done.SetReadDeadline(time.Now().Add(blockTime)); err != nil {
		return "", err
	}
	_, failed := io.ReadFull(w.done, make([]byte, len("ok\n")))
	output, err := os.ReadFile(file + ".out")
	switch {
	case errors.Is(failed, os.ErrDeadlineExceeded):
		return string(output), fmt.Errorf("it still runs after %v", blockTime)
	case failed != nil:
		return string(output), errors.New("a command failed")
	}
	return string(output), err
}

// listeners are the addresses a document may give to a server; each becomes a
// free port.
var listeners = regexp.MustCompile(`--(mqtts|https|mqtt)[= ][^ \n]*:[0-9]+`)

// background runs a block in a shell of its own and returns once it has printed
// what it is to be waited for, with the output so far.
func (w *walk) background(b block) (string, error) {
	cmd := w.command(lifeline + "set -euo pipefail\n" + listeners.ReplaceAllString(b.commands, "--$1 127.0.0.1:0"))
	output := &awaited{text: b.until, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = output, output
	w.start(cmd, output.end)
	select {
	case <-output.seen:
	case <-time.After(blockTime):
	}
	text, ok := output.read()
	if !ok {
		return text, fmt.Errorf("it ended, or never printed %q", b.until)
	}
	w.notePorts(text)
	return text, w.paste(b.line, text)
}

// paste does what a document asks its reader to do with the export lines that a
// server prints: they go into the shell.
func (w *walk) paste(line int, output string) error {
	var exports strings.Builder
	for l := range strings.Lines(output) {
		if strings.HasPrefix(l, "export ") {
			exports.WriteString(l)
		}
	}
	if exports.Len() == 0 {
		return nil
	}
	_, err := w.foreground(block{line: line, commands: exports.String()})
	return err
}

// awaited is the output of a program that is waited for. A mutex of its own
// guards it: the program goes on printing while the walk goes on.
type awaited struct {
	text string        // what is waited for
	seen chan struct{} // closed when it was printed, or never will be

	state struct {
		sync.Mutex
		output bytes.Buffer
		found  bool
		closed bool // seen is closed
	}
}

// Write takes output of the program.
func (a *awaited) Write(p []byte) (int, error) {
	a.state.Lock()
	defer a.state.Unlock()
	a.state.output.Write(p)
	// Whole lines only: what follows the text in its line is wanted as well.
	whole := a.state.output.Bytes()[:bytes.LastIndexByte(a.state.output.Bytes(), '\n')+1]
	if !a.state.closed && bytes.Contains(whole, []byte(a.text)) {
		a.state.found, a.state.closed = true, true
		close(a.seen)
	}
	return len(p), nil
}

// end says that the program is gone.
func (a *awaited) end() {
	a.state.Lock()
	defer a.state.Unlock()
	if !a.state.closed {
		a.state.closed = true
		close(a.seen)
	}
}

// read returns the output so far and whether it has what was waited for.
func (a *awaited) read() (string, bool) {
	a.state.Lock()
	defer a.state.Unlock()
	return a.state.output.String(), a.state.found
}

// ready finds the addresses in the line that says a server is ready.
var ready = regexp.MustCompile(`\b(mqtts|https|mqtt)=\S*:([0-9]+)`)

// notePorts learns which ports a server got in place of the default ones.
func (w *walk) notePorts(output string) {
	for line := range strings.Lines(output) {
		if !strings.Contains(line, "msg=ready") {
			continue
		}
		for _, found := range ready.FindAllStringSubmatch(line, -1) {
			w.ports[map[string]string{"mqtts": "8883", "https": "8443", "mqtt": "1883"}[found[1]]] = found[2]
		}
	}
}

// defaultPort finds the ports that a document means the running server by.
var defaultPort = regexp.MustCompile(`\b(8883|8443|1883)\b`)

// withPorts puts the ports of the running server in place of the default ones.
func (w *walk) withPorts(text string) string {
	return defaultPort.ReplaceAllStringFunc(text, func(port string) string {
		if got, ok := w.ports[port]; ok {
			return got
		}
		return port
	})
}

// printed matches the output that a document shows.
func printed(want string) *regexp.Regexp {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(want)), "…", ".*?")
	return regexp.MustCompile(`(?s)\A\s*` + pattern + `\s*\z`)
}
