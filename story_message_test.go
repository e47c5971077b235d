package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// messageAnswer is what a request was answered.
type messageAnswer struct {
	text string
	err  error
}

// message posts to one of the paths of messages, and prints the status, headers
// that say something, and the body. The host is what the request asks for; it
// always goes to this broker. With -1 it is HTTP/1.1, else HTTP/2; with -later it
// is answered while the story goes on, by the command answer.
func (s *story) message(args []string) {
	set := flag.NewFlagSet("message", 0)
	authorise := s.authorisation(set)
	host := set.String("host", "", "HOST")
	contentType := set.String("type", "application/json", "TYPE")
	old := set.Bool("1", false, "HTTP/1.1")
	later := set.Bool("later", false, "answered later")
	args = s.options(set, args, 1, 2)
	rq, err := http.NewRequestWithContext(s.tb.Context(), http.MethodPost,
		"https://"+s.ts.Getenv("HTTPS")+"/api/v0002"+args[0], strings.NewReader(strings.Join(args[1:], "")))
	s.ts.Check(err)
	rq.Host = *host
	if len(args) > 1 {
		rq.Header.Set("Content-Type", *contentType)
	}
	authorise(rq)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: s.trusting("localhost"), ForceAttemptHTTP2: !*old,
	}}
	if *later {
		asked := make(chan messageAnswer, 1)
		s.asked = asked
		go func() { asked <- exchange(client, rq) }()
		return
	}
	s.print(exchange(client, rq))
}

func (s *story) messageAnswer(args []string) {
	s.options(flag.NewFlagSet("answer", 0), args, 0, 0)
	if s.asked == nil {
		s.ts.Fatalf("nothing was sent with -later")
	}
	s.print(<-s.asked)
	s.asked = nil
}

func (s *story) print(a messageAnswer) {
	s.ts.Check(a.err)
	if name := s.secrets.foundIn([]byte(a.text)); name != "" {
		s.ts.Fatalf("the answer has %s in it", name)
	}
	_, err := io.WriteString(s.ts.Stdout(), a.text)
	s.ts.Check(err)
}

// exchange sends rq and returns what is worth printing of the answer.
func exchange(client *http.Client, rq *http.Request) messageAnswer {
	defer client.CloseIdleConnections()
	rs, err := client.Do(rq)
	if err != nil {
		return messageAnswer{err: err}
	}
	defer rs.Body.Close()
	body, err := io.ReadAll(rs.Body)
	var text strings.Builder
	fmt.Fprintf(&text, "%d\n", rs.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(rs.Header)) {
		if strings.HasPrefix(name, "X-D") || strings.HasPrefix(name, "X-Command") || name == "Retry-After" || name == "Content-Type" {
			fmt.Fprintf(&text, "%s: %s\n", name, rs.Header.Get(name))
		}
	}
	fmt.Fprintf(&text, "%s\n", body)
	return messageAnswer{text.String(), err}
}
