package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/cordon-mq/cordon/policy"
)

// ErrorBody is the answer to every request that fails.
type ErrorBody struct {
	Message    string      `json:"message" doc:"What is wrong, in words."`
	Exception  Exception   `json:"exception"`
	Violations []Violation `json:"violations,omitempty" nullable:"false" doc:"Each rule the request breaks."`
	// Problems are all that the gate found, where a policy does not pass it.
	Problems []PolicyProblem `json:"problems,omitempty" nullable:"false" doc:"Everything that is wrong with a policy that does not pass the gate."`
}

// Exception identifies a failure.
type Exception struct {
	ID         string   `json:"id" doc:"Stable identifier, such as CUDRS0007E."`
	Properties []string `json:"properties" nullable:"false" doc:"The fields concerned; may be empty."`
}

// Violation is one rule that the request breaks.
type Violation struct {
	Message   string    `json:"message"`
	Exception Exception `json:"exception"`
}

// fault is a failure that is ready to be told to a client.
type fault struct {
	status     int
	id         string // of the exception; empty: that of the status
	message    string
	violations []*policy.Error
	problems   []PolicyProblem
	header     http.Header // beyond the usual ones; may be nil
}

func (f *fault) Error() string { return f.message }

// invalid says that a field breaks a rule; text follows the field's name.
func invalid(field, text string) error {
	return &policy.Error{Kind: policy.KindInvalid, Field: field, Public: text}
}

// notFound says that there is no such thing in the caller's organisation.
func notFound(what string) error {
	return &policy.Error{Kind: policy.KindNotFound, Public: "no such " + what}
}

// faultOf decides what a client is told about err. Only what a policy.Error
// calls public gets out.
func faultOf(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	if v := violationsIn(err); len(v) > 0 {
		return &fault{status: http.StatusBadRequest, message: "the request is not valid: " + join(v), violations: v}
	}
	f = &fault{status: statusOf(policy.KindOf(err))}
	var e *policy.Error
	if errors.As(err, &e) && f.status != http.StatusInternalServerError {
		f.message = e.Public
	}
	if f.message == "" {
		f.message = strings.ToLower(http.StatusText(f.status))
	}
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusTooManyRequests {
		f.header = http.Header{"Retry-After": {"1"}}
	}
	return f
}

// violationsIn returns every broken rule that err is made of, in order. An error
// that holds anything else as well is not a matter of rules.
func violationsIn(err error) []*policy.Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*policy.Error
		for _, part := range joined.Unwrap() {
			v := violationsIn(part)
			if v == nil {
				return nil
			}
			all = append(all, v...)
		}
		return all
	}
	var e *policy.Error
	if errors.As(err, &e) && e.Kind == policy.KindInvalid {
		return []*policy.Error{e}
	}
	return nil
}

func join(violations []*policy.Error) string {
	texts := make([]string, len(violations))
	for i, v := range violations {
		texts[i] = ruleText(v)
	}
	return strings.Join(texts, "; ")
}

func ruleText(v *policy.Error) string {
	text := v.Public
	if text == "" {
		text = "not valid"
	}
	if v.Field == "" {
		return text
	}
	return v.Field + ": " + text
}

// body is what the client reads.
func (f *fault) body() *ErrorBody {
	b := &ErrorBody{
		Message:   f.message,
		Exception: Exception{ID: exceptionID(f.status), Properties: []string{}},
		Problems:  f.problems,
	}
	if f.id != "" {
		b.Exception.ID = f.id
	}
	for _, v := range f.violations {
		fields := []string{}
		if v.Field != "" {
			fields = append(fields, v.Field)
		}
		b.Exception.Properties = append(b.Exception.Properties, fields...)
		b.Violations = append(b.Violations, Violation{
			Message:   ruleText(v),
			Exception: Exception{ID: violationID, Properties: fields},
		})
	}
	return b
}

// note logs what is nobody's fault but ours.
func (a *API) note(r *http.Request, f *fault, err error) {
	if f.status == http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		a.log.LogAttrs(r.Context(), slog.LevelError, "request failed",
			slog.String("method", r.Method), slog.String("route", r.Pattern), slog.String("error", err.Error()))
	}
}

// fail answers a request that err ended, and returns the status it answered.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) int {
	f := faultOf(err)
	a.note(r, f, err)
	for name, values := range f.header {
		w.Header()[name] = values
	}
	a.write(w, r, f.status, f.body())
	return f.status
}
