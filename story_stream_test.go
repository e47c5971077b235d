package main

import (
	"bufio"
	"context"
	"flag"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api/control"
)

// eventStream is a stream of server-sent events of a story.
type eventStream struct {
	events chan string // "NAME DATA"; closed at the end
	cancel context.CancelFunc
	done   chan struct{}
}

func (e *eventStream) close() {
	e.cancel()
	<-e.done
}

// stream opens a stream of events and prints the status of the answer; anything but
// 200 with what is said. With -u it is an organisation's, else the operator's.
func (s *story) stream(args []string) {
	set := flag.NewFlagSet("stream", 0)
	basic := set.String("u", "", "USER:PASSWORD")
	args = s.options(set, args, 2, 2)
	client, base := s.overTLS(), "https://"+s.ts.Getenv("HTTPS")+"/api/v0002"
	if *basic == "" {
		var err error
		client, err = control.Dial(s.data)
		s.ts.Check(err)
		base = control.BaseURL
	}
	client.Timeout = 0
	ctx, cancel := context.WithCancel(s.tb.Context())
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, base+args[1], nil)
	s.ts.Check(err)
	if user, password, ok := strings.Cut(*basic, ":"); ok {
		rq.SetBasicAuth(user, password)
	}
	rs, err := client.Do(rq)
	s.ts.Check(err)
	s.printf("%d\n", rs.StatusCode)
	if rs.StatusCode != http.StatusOK {
		text, err := io.ReadAll(rs.Body)
		cancel()
		_ = rs.Body.Close()
		s.ts.Check(err)
		s.printf("%s\n", text)
		return
	}
	e := &eventStream{events: make(chan string, 1024), cancel: cancel, done: make(chan struct{})}
	if earlier := s.streams[args[0]]; earlier != nil {
		earlier.close()
	}
	s.streams[args[0]] = e
	go func() {
		defer close(e.done)
		defer client.CloseIdleConnections()
		defer rs.Body.Close()
		defer close(e.events)
		lines, name := bufio.NewScanner(rs.Body), ""
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = text
			}
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				select {
				case e.events <- name + " " + text:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
}

// event waits for the next event of a stream that matches, and prints it; or "end".
func (s *story) event(args []string) {
	args = s.options(flag.NewFlagSet("event", 0), args, 2, 2)
	e := s.streams[args[0]]
	if e == nil {
		s.ts.Fatalf("there is no stream %s", args[0])
	}
	pattern, err := regexp.Compile(args[1])
	s.ts.Check(err)
	deadline := time.After(patience)
	for {
		select {
		case text, open := <-e.events:
			if name := s.secrets.foundIn([]byte(text)); name != "" {
				s.ts.Fatalf("an event has %s in it", name)
			}
			if !open {
				text = "end"
			}
			if pattern.MatchString(text) {
				s.printf("%s\n", text)
				return
			}
			if !open {
				s.ts.Fatalf("the stream ended")
			}
		case <-deadline:
			s.ts.Fatalf("no event %q", pattern)
		}
	}
}

// capture puts what a group of a pattern matched in the last output into a variable.
func (s *story) capture(args []string) {
	args = s.options(flag.NewFlagSet("capture", 0), args, 2, 2)
	pattern, err := regexp.Compile(`(?m)` + args[1])
	s.ts.Check(err)
	found := pattern.FindStringSubmatch(s.ts.ReadFile("stdout"))
	if len(found) != 2 {
		s.ts.Fatalf("%q with its group is not in the last output", args[1])
	}
	s.ts.Setenv(args[0], found[1])
}
