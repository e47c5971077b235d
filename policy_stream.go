package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
)

// maxEvent bounds one event of a stream, in bytes.
const maxEvent = 64 << 20

// stream sends in, unless it is nil, and hands each event of the answer to tell
// until the broker ends it, tell fails or ctx ends.
func (o *operator) stream(ctx context.Context, method, path string, in any, tell func(event string, data []byte) error) (err error) {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, method, control.BaseURL+path, body)
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	rs, err := o.client.Do(rq)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rs.Body.Close()) }()
	if rs.StatusCode != http.StatusOK {
		return problemOf(rs)
	}
	lines := bufio.NewScanner(rs.Body)
	lines.Buffer(nil, maxEvent)
	event := ""
	for lines.Scan() {
		line := lines.Bytes()
		if name, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			event = string(name)
		}
		data, ok := bytes.CutPrefix(line, []byte("data: "))
		if !ok {
			continue
		}
		if event == "error" {
			return problemIn(data, "the broker gave up")
		}
		if err := tell(event, data); err != nil {
			return err
		}
	}
	return lines.Err()
}

// problemOf is what a broker said that refused a call.
func problemOf(rs *http.Response) error {
	answer, err := io.ReadAll(io.LimitReader(rs.Body, maxAnswer))
	if err != nil {
		return err
	}
	return problemIn(answer, rs.Status)
}

func problemIn(body []byte, otherwise string) error {
	var problem api.ErrorBody
	if json.Unmarshal(body, &problem) != nil || problem.Message == "" {
		problem.Message = otherwise
	}
	if len(problem.Problems) > 0 {
		return refusedPolicy(problem.Problems)
	}
	return errors.New(problem.Message)
}

// review sends a request whose answer is progress and then one result.
func review(ctx context.Context, o *operator, std *streams, path string, in, result any) error {
	done := false
	err := o.stream(ctx, "POST", path, in, func(event string, data []byte) error {
		switch event {
		case "progress":
			var p api.ReviewProgress
			if err := json.Unmarshal(data, &p); err != nil {
				return err
			}
			return showProgress(std.err, &p)
		case "result":
			done = true
			return json.Unmarshal(data, result)
		}
		return nil
	})
	if err == nil && !done {
		err = errors.New("the broker ended before it had a result")
	}
	return err
}

func showProgress(w io.Writer, p *api.ReviewProgress) (err error) {
	if p.Total > 0 {
		_, err = fmt.Fprintf(w, "%s: %d of %d\n", p.Phase, p.Done, p.Total)
	} else {
		_, err = fmt.Fprintf(w, "%s: %d\n", p.Phase, p.Done)
	}
	return err
}
