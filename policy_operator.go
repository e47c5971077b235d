package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// maxAnswer bounds an answer of the operator's door, in bytes: two bundles may
// differ in everything.
const maxAnswer = 256 << 20

// operator calls the operator's door of the broker that runs on a data folder.
// Where none does, the same routes answer in this process, on the folder.
type operator struct {
	client *http.Client
	alone  bool // no broker is running
}

// withOperator opens the door, and closes it after f.
func withOperator(data string, f func(*operator) error) (err error) {
	client, err := control.Dial(data)
	if err == nil {
		defer client.CloseIdleConnections()
		return f(&operator{client: client})
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	if _, err := os.Stat(filepath.Join(data, "policy")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data folder %s has no policy revisions; a broker keeps them from its first start on", data)
	}
	files, book, err := openBook(data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	// What passes the gate here goes live when a broker starts.
	gate := func(ctx context.Context) revision.Check { return policyGate(ctx, func(*opa.Bundle) {}) }
	return f(&operator{client: &http.Client{Transport: inProcess{api.PolicyHandler(book, gate)}}, alone: true})
}

// call sends in, unless it is nil, and reads the answer into out.
func (o *operator) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	rq, err := http.NewRequestWithContext(ctx, method, control.BaseURL+path, body)
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	rs, err := o.client.Do(rq)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(rs.Body, maxAnswer))
	if err := errors.Join(err, rs.Body.Close()); err != nil {
		return err
	}
	if rs.StatusCode != http.StatusOK {
		var problem api.ErrorBody
		if json.Unmarshal(answer, &problem) != nil || problem.Message == "" {
			problem.Message = rs.Status
		}
		if len(problem.Problems) > 0 {
			return refusedPolicy(problem.Problems)
		}
		return errors.New(problem.Message)
	}
	return json.Unmarshal(answer, out)
}

// metrics are what the broker shows to Prometheus.
func (o *operator) metrics(ctx context.Context) (string, error) {
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(control.BaseURL, "/api/operator/v1")+"/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	rs, err := o.client.Do(rq)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(rs.Body, maxAnswer))
	if err := errors.Join(err, rs.Body.Close()); err != nil {
		return "", err
	}
	if rs.StatusCode != http.StatusOK {
		return "", errors.New(rs.Status)
	}
	return string(text), nil
}

// everyPage reads a whole list.
func everyPage[T any](ctx context.Context, o *operator, path string) ([]T, error) {
	all := []T{}
	for bookmark := ""; ; {
		query := url.Values{"_limit": {"100"}}
		if bookmark != "" {
			query.Set("_bookmark", bookmark)
		}
		var page api.List[T]
		if err := o.call(ctx, "GET", path+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Results...)
		if bookmark = page.Bookmark; bookmark == "" {
			return all, nil
		}
	}
}

// inProcess is a transport that ends in a handler of this process.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &inProcessAnswer{header: http.Header{}, status: http.StatusOK}
	t.handler.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

type inProcessAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *inProcessAnswer) Header() http.Header         { return w.header }
func (w *inProcessAnswer) WriteHeader(status int)      { w.status = status }
func (w *inProcessAnswer) Write(b []byte) (int, error) { return w.body.Write(b) }

// userName is who runs this process, as far as the system knows. The log takes
// it as a statement of the operator, who could make any.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}
