package badgerstore

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// quietLogger passes on what Badger logs, one level lower than Badger thinks
// fit for its daily work.
type quietLogger struct {
	logger *slog.Logger // nil for silence
}

func (l quietLogger) Errorf(format string, args ...any)   { l.log(slog.LevelError, format, args) }
func (l quietLogger) Warningf(format string, args ...any) { l.log(slog.LevelWarn, format, args) }
func (l quietLogger) Infof(format string, args ...any)    { l.log(slog.LevelDebug, format, args) }

// Debugf drops what even Badger calls detail.
func (l quietLogger) Debugf(string, ...any) {}

func (l quietLogger) log(level slog.Level, format string, args []any) {
	if l.logger == nil || !l.logger.Enabled(context.Background(), level) {
		return
	}
	message := "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
	l.logger.Log(context.Background(), level, message) //nolint:sloglint // the words are Badger's
}
