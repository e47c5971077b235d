package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a story waits for what has to come. It is far above what
// anything takes.
const patience = 15 * time.Second

// process is one run of the program. The test binary plays it: TestMain puts it
// into the path under the program's name.
type process struct {
	cmd   *exec.Cmd
	log   *processLog
	out   *os.File      // its standard output
	ended chan struct{} // closed when it is gone
	err   error         // how it ended; read after ended
}

// startProcess runs the program in dir. What it logs is appended to the file at
// logPath.
func startProcess(dir, logPath string, env []string, args ...string) (*process, error) {
	file, err := os.OpenFile(logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	// A file and not a pipe: what was printed before a line of the log is there
	// when that line is.
	out, err := os.CreateTemp(dir, "stdout")
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	p := &process{cmd: exec.Command("cordon", args...), log: newProcessLog(file), out: out, ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, out, p.log
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, file.Close(), out.Close())
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
		p.log.end()
	}()
	return p, nil
}

// stdout is what the process has printed so far.
func (p *process) stdout() string {
	text, err := os.ReadFile(p.out.Name())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// await returns the next line of the log that matches, after the one that was
// returned last.
func (p *process) await(pattern *regexp.Regexp) (string, error) {
	deadline := time.After(patience)
	for {
		line, changed, ended := p.log.next(pattern)
		switch {
		case line != "":
			return line, nil
		case ended:
			return "", fmt.Errorf("the program ended and never logged %q; it logged\n%s", pattern, p.log)
		}
		select {
		case <-changed:
		case <-deadline:
			return "", fmt.Errorf("not logged: %q; logged\n%s", pattern, p.log)
		}
	}
}

// stop asks the process to end, waits, and says what was wrong with its end or
// the whole run.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines go into the log
		<-p.ended
		return fmt.Errorf("it did not stop:\n%s", p.log)
	}
	err := errors.Join(p.err, p.out.Close())
	if err != nil || strings.Contains(p.log.String(), "panic") {
		return fmt.Errorf("it ended with %w:\n%s", err, p.log)
	}
	return nil
}

// kill ends the process with no chance to put anything in order.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.out.Close()
}

// processLog takes what a process logs and lets others wait for it.
type processLog struct {
	file *os.File

	state struct {
		sync.Mutex
		text    []byte
		awaited int           // up to here lines were returned by next
		changed chan struct{} // closed at the next change
		ended   bool
	}
}

func newProcessLog(file *os.File) *processLog {
	l := &processLog{file: file}
	l.state.changed = make(chan struct{})
	return l
}

// Write takes output of the process.
func (l *processLog) Write(p []byte) (int, error) {
	l.state.Lock()
	defer l.state.Unlock()
	l.state.text = append(l.state.text, p...)
	n, err := l.file.Write(p)
	l.changedLocked()
	return n, err
}

func (l *processLog) end() {
	l.state.Lock()
	defer l.state.Unlock()
	l.state.ended = true
	_ = l.file.Close()
	l.changedLocked()
}

func (l *processLog) changedLocked() {
	close(l.state.changed)
	l.state.changed = make(chan struct{})
}

// next returns the first whole line that matches and was not passed yet, or
// else what to wait for.
func (l *processLog) next(pattern *regexp.Regexp) (line string, changed <-chan struct{}, ended bool) {
	l.state.Lock()
	defer l.state.Unlock()
	at := l.state.awaited
	for {
		end := bytes.IndexByte(l.state.text[at:], '\n')
		if end < 0 {
			return "", l.state.changed, l.state.ended
		}
		whole := l.state.text[at : at+end]
		at += end + 1
		if pattern.Match(whole) {
			l.state.awaited = at
			return string(whole) + "\n", nil, false
		}
	}
}

// rewind lets next begin with the first line again.
func (l *processLog) rewind() {
	l.state.Lock()
	defer l.state.Unlock()
	l.state.awaited = 0
}

func (l *processLog) String() string {
	l.state.Lock()
	defer l.state.Unlock()
	return string(l.state.text)
}

// readyLine matches what is logged when every listener accepts, as text or JSON.
func readyLine() *regexp.Regexp { return regexp.MustCompile(`msg=ready|"msg":"ready"`) }

// addressIn is the address of a listener in that line; empty when it is off.
func addressIn(line, name string) string {
	found := regexp.MustCompile(`\b` + name + `"?[=:]"?([0-9.:]+)`).FindStringSubmatch(line)
	if found == nil {
		return ""
	}
	return found[1]
}
