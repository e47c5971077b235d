package wasm

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/policy"
)

// call is one request on its way through a guest, and what host functions know
// of it. It is used again for another one.
type call struct {
	clock  int64 // nanoseconds since 1970, as the guest sees it
	log    *pluginLog
	secret []byte // never in a log line or reason
	frame  frame  // of the host function that runs
	turn   turn

	org  policy.OrgID
	body []byte // the request; the buffer is the call's own
	outcome
}

// outcome is what came of a call. With nothing in it, the guest reports an internal
// error.
type outcome struct {
	said      *answer
	malformed error // what it said is no answer
	err       error // it said nothing
}

// calls are those that nobody uses at the moment.
type calls struct{ pool sync.Pool }

func (c *calls) take() *call {
	if used, ok := c.pool.Get().(*call); ok {
		return used
	}
	return &call{}
}

// put takes a call back. Nothing of the request stays in it.
func (c *calls) put(used *call) {
	clear(used.body)
	body := used.body[:0]
	if cap(body) > requestUsual {
		body = nil
	}
	*used = call{body: body}
	c.pool.Put(used)
}

// requestUsual is the longest request whose buffer is kept.
const requestUsual = 8 << 10

type callKey struct{}

// callContext is the context of a call until its deadline. Nothing waits for its
// end, which whoever asks finds by looking at the clock.
type callContext struct {
	context.Context //nolint:containedctx // it is one

	call     *call
	deadline time.Time
}

func (c *call) until(deadline time.Time) *callContext {
	return &callContext{context.Background(), c, deadline}
}

// Deadline implements [context.Context].
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Err implements [context.Context].
func (c *callContext) Err() error {
	if time.Now().Before(c.deadline) {
		return nil
	}
	return context.DeadlineExceeded
}

// Value implements [context.Context].
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return nil
}

// callOf is nil outside of a call.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// read moves the guest's clock on by a microsecond: a guest that waits for it to
// move is not stuck.
func (c *call) read() int64 {
	c.clock += int64(time.Microsecond)
	return c.clock
}

// pluginLog is the log of one plugin's guest, limited in bytes.
type pluginLog struct {
	log   *slog.Logger
	bytes *rate.Limiter
	now   func() time.Time
}

func newPluginLog(log *slog.Logger, bytesPerSecond int, now func() time.Time) *pluginLog {
	return &pluginLog{log, rate.NewLimiter(rate.Limit(bytesPerSecond), bytesPerSecond), now}
}

const lineBytes = 256 // of the guest's text

// write logs text, of which it does not keep anything. What is over the rate is lost.
func (c *call) write(ctx context.Context, level slog.Level, text []byte) {
	line := c.clean(text, lineBytes)
	if line != "" && c.log.bytes.AllowN(c.log.now(), len(line)) {
		c.log.log.Log(ctx, level, "plugin says", "text", line)
	}
}

// clean makes text fit for a log: valid, one line of at most most bytes, without
// the credential. It is cut last, or a piece of the credential could stay.
func (c *call) clean(text []byte, most int) string {
	if len(text) == 0 {
		return ""
	}
	if len(c.secret) >= 4 {
		text = bytes.ReplaceAll(text, c.secret, []byte("[redacted]"))
		encoded := base64.StdEncoding.AppendEncode(nil, c.secret)
		text = bytes.ReplaceAll(text, encoded, []byte("[redacted]"))
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, string(text[:min(len(text), most)])))
}
