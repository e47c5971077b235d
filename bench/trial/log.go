package main

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tailLines   = 40   // of the log that are kept
	faultLines  = 20   // of errors and panics that are kept
	longestLine = 4096 // bytes of one line that are looked at
)

// brokerLog reads what the program logs as it comes and keeps little of it.
type brokerLog struct {
	ready chan time.Time // holds when it said so, once it has

	restoredLine, collected *regexp.Regexp

	watch func(line string) // sees every line, one at a time; may be nil

	state struct {
		sync.Mutex
		rest     []byte // the beginning of a line
		tail     []string
		faults   []string // first of the errors and panics
		faulty   int      // how many there were
		restored restored
		heap     int64 // bytes alive after the last collection; 0: not known
	}
}

// restored is what a start says it found.
type restored struct {
	sessions, messages, dropped int
	took                        time.Duration
}

func newBrokerLog() *brokerLog {
	return &brokerLog{
		ready:        make(chan time.Time, 1),
		restoredLine: regexp.MustCompile(`msg=restored sessions=(\d+) .*messages=(\d+) .*dropped=(\d+) took=(\S+)`),
		collected:    regexp.MustCompile(`^gc \d+ @.* \d+->\d+->(\d+) MB`),
	}
}

// Write takes output of the program.
func (l *brokerLog) Write(b []byte) (int, error) {
	l.state.Lock()
	defer l.state.Unlock()
	l.state.rest = append(l.state.rest, b...)
	for {
		end := bytes.IndexByte(l.state.rest, '\n')
		if end < 0 {
			break
		}
		l.lineLocked(string(l.state.rest[:min(end, longestLine)]))
		l.state.rest = append(l.state.rest[:0], l.state.rest[end+1:]...)
	}
	return len(b), nil
}

func (l *brokerLog) lineLocked(line string) {
	if l.watch != nil {
		l.watch(line)
	}
	if found := l.collected.FindStringSubmatch(line); found != nil {
		megabytes, _ := strconv.ParseInt(found[1], 10, 64)
		l.state.heap = megabytes << 20
		return
	}
	if len(l.state.tail) == tailLines {
		l.state.tail = append(l.state.tail[:0], l.state.tail[1:]...)
	}
	l.state.tail = append(l.state.tail, line)
	if isFault(line) {
		l.state.faulty++
		if len(l.state.faults) < faultLines {
			l.state.faults = append(l.state.faults, line)
		}
	}
	if found := l.restoredLine.FindStringSubmatch(line); found != nil {
		r := &l.state.restored
		r.sessions, _ = strconv.Atoi(found[1])
		r.messages, _ = strconv.Atoi(found[2])
		r.dropped, _ = strconv.Atoi(found[3])
		r.took, _ = time.ParseDuration(found[4])
	}
	if strings.Contains(line, "msg=ready ") {
		select {
		case l.ready <- time.Now():
		default:
		}
	}
}

// isFault reports whether a line says that something is wrong with the program.
func isFault(line string) bool {
	return strings.Contains(line, "level=ERROR") || strings.HasPrefix(line, "panic:") ||
		strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "DATA RACE")
}

func (l *brokerLog) tail() string {
	l.state.Lock()
	defer l.state.Unlock()
	return strings.Join(l.state.tail, "\n")
}

// faults are the first errors and panics, and how many there were.
func (l *brokerLog) faults() (first []string, all int) {
	l.state.Lock()
	defer l.state.Unlock()
	return append([]string(nil), l.state.faults...), l.state.faulty
}

func (l *brokerLog) found() restored {
	l.state.Lock()
	defer l.state.Unlock()
	return l.state.restored
}

// heap is the live heap after the last collection, where the program was told
// to say so.
func (l *brokerLog) heap() int64 {
	l.state.Lock()
	defer l.state.Unlock()
	return l.state.heap
}
