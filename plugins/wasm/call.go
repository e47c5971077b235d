package wasm

import (
	"bytes"
	"context"
	"encoding/base64"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// call is what host functions know about the call of a guest they serve. It
// travels in the context.
type call struct {
	clock  int64 // nanoseconds since 1970, as the guest sees it
	log    *pluginLog
	secret []byte // never in a log line or reason
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
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
