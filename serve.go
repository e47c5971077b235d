package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/cordon-mq/cordon/broker/config"
)

// serveCmd runs the broker until it is told to stop.
type serveCmd struct {
	config.Config `embed:""`
}

// shutdownTime is how long clients get to hear goodbye.
const shutdownTime = 5 * time.Second

// Validate looks at all settings together; kong calls it, and a problem is a
// usage error.
func (c *serveCmd) Validate() error { return c.Config.Validate() }

// Run starts every part, says ready, and stops them in the opposite order.
func (c *serveCmd) Run(ctx context.Context, std *streams) error {
	cfg := c.Effective()
	log := newLogger(std.err, cfg)
	n, err := startNode(ctx, cfg, log, std.err)
	if err != nil {
		return err
	}
	if err := n.listen(); err != nil {
		return errors.Join(err, n.stop())
	}
	// After the listeners: tokens are shown once, so none may be made by a start
	// that fails.
	if cfg.Demo {
		if err := n.demo(ctx, std.out, cfg.DemoReset); err != nil {
			return errors.Join(err, n.stop())
		}
		n.printTour(std.out)
	}
	log.Info("ready", n.addresses()...)
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err = <-n.failed:
		log.Error("a listener failed", "err", err)
	}
	return errors.Join(err, n.stop())
}

func newLogger(w io.Writer, cfg config.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(cfg.LogLevel)) // validated; info if it were not
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// hosts are the machine's own names for the certificate.
func hosts() []string {
	name, err := os.Hostname()
	if err != nil {
		return nil
	}
	return []string{name}
}

// portOf is the port of a listener that is open.
func portOf(l net.Addr) string {
	_, port, err := net.SplitHostPort(l.String())
	if err != nil {
		return fmt.Sprint(l)
	}
	return port
}
