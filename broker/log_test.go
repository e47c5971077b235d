package broker_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// ctx is for calls that a test waits for anyway.
var ctx = context.Background()

var storeOptions store.Options

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func orgID(t *testing.T, name string) policy.OrgID {
	t.Helper()
	id, err := policy.ParseOrgID(name)
	must(t, err)
	return id
}

// logRecords is a slog.Handler that keeps what is logged.
type logRecords struct {
	guarded struct {
		sync.Mutex
		records []logRecord
	}
}

// logRecord is one line: its message under "msg", and each attribute as text.
type logRecord map[string]string

func (l *logRecords) Enabled(context.Context, slog.Level) bool { return true }
func (l *logRecords) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logRecords) WithGroup(string) slog.Handler            { return l }

func (l *logRecords) Handle(_ context.Context, r slog.Record) error {
	rec := logRecord{"msg": r.Message}
	r.Attrs(func(a slog.Attr) bool { rec[a.Key] = a.Value.String(); return true })
	l.guarded.Lock()
	defer l.guarded.Unlock()
	l.guarded.records = append(l.guarded.records, rec)
	return nil
}

// find returns the records that have every one of the given pairs of key and value.
func (l *logRecords) find(pairs ...string) (found []logRecord) {
	l.guarded.Lock()
	defer l.guarded.Unlock()
next:
	for _, r := range l.guarded.records {
		for i := 0; i < len(pairs); i += 2 {
			if r[pairs[i]] != pairs[i+1] {
				continue next
			}
		}
		found = append(found, r)
	}
	return found
}

func (l *logRecords) text() string {
	var b strings.Builder
	for _, r := range l.find() {
		for k, v := range r {
			b.WriteString(k + "=" + v + " ")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
