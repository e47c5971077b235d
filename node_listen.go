package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/broker/listen"
)

// listen opens every door, and only then serves any of them: a port that is
// taken leaves nothing half open.
func (n *node) listen() error {
	all := n.maxConnections()
	admission := listen.NewAdmission(listen.AdmissionConfig{
		MaxConns: all, MaxPending: n.cfg.MaxPending, MaxPendingPerAddress: n.cfg.MaxPendingPerAddress,
		ConnectRate: float64(n.cfg.ConnectRate), Log: n.log,
	})
	base := listen.Config{Admission: admission, Proxies: n.cfg.Proxies(), MaxConns: all, Log: n.log}

	mqtts, mqtt, https := base, base, base
	mqtts.Name, mqtts.Address, mqtts.TLS = "mqtts", n.cfg.MQTTS, n.tls
	mqtts.RequestClientCert = n.certificates.wanted
	mqtt.Name, mqtt.Address = "mqtt", n.cfg.MQTT
	https.Name, https.Address, https.TLS = "https", n.cfg.HTTPS, n.tls.Clone()
	https.TLS.NextProtos = []string{"h2", "http/1.1"} // WebSocket clients ask for the latter
	// HTTP asks nobody who he is before the first request. Half is left to MQTT.
	https.MaxConns = max(1, all/2)

	for _, door := range []struct {
		open *(*listen.Listener)
		cfg  listen.Config
	}{{&n.mqtts, mqtts}, {&n.mqtt, mqtt}, {&n.https, https}} {
		if door.cfg.Address == config.Off {
			continue
		}
		l, err := listen.Listen(door.cfg)
		if err != nil {
			return err
		}
		n.onStop(l.Close)
		*door.open = l
	}
	if err := n.startACME(); err != nil {
		return err
	}
	operator, err := control.Listen(n.cfg.Data)
	if err != nil {
		return err
	}

	n.serveHTTP(n.api.OperatorHandler(), func(s *http.Server) error { return s.Serve(operator) })
	if n.https != nil {
		ws := n.webSocket(https.MaxConns)
		n.serveHTTP(ws.Before(n.api.Handler()), func(s *http.Server) error { return listen.ServeHTTP(n.https, s) })
		n.onStop(func() error { n.messaging.close(); return nil }) // before the server waits for its requests
	}
	for _, l := range []*listen.Listener{n.mqtts, n.mqtt} {
		if l != nil {
			n.work.Go(func() { n.report(l.Serve(n.broker.Serve)) })
		}
	}
	return nil
}

// webSocket is the broker behind an upgrade.
func (n *node) webSocket(maxConns int) *listen.WebSocket {
	ws := listen.NewWebSocket(listen.WebSocketConfig{
		Origins: n.cfg.WSOrigin, MaxConns: maxConns, Handle: n.broker.Serve, Log: n.log,
	})
	n.onStop(ws.Close)
	n.work.Go(ws.Wait)
	return ws
}

// spareFiles are left to the store, the policies and whoever looks in.
const spareFiles = 256

// maxConnections is how many connections all listeners take together. Go has
// raised the limit on open files to what the process may have.
func (n *node) maxConnections() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		n.log.Warn("limit on open files unknown", "err", err)
		return n.cfg.MaxConnections // 0 is the listeners' own default
	}
	possible := connectionsWith(files.Cur)
	if n.cfg.MaxConnections == 0 {
		return possible
	}
	if n.cfg.MaxConnections > possible {
		n.log.Warn("max-connections is more than open files allow", "max_connections", n.cfg.MaxConnections, "open_files", files.Cur)
	}
	return n.cfg.MaxConnections
}

// connectionsWith leaves spareFiles, but at most half.
func connectionsWith(files uint64) int {
	const most = 1 << 20 // where the limit is no limit
	files = min(files, most)
	return int(max(files/2, files-min(files, spareFiles)))
}

// serveHTTP serves h until stop. Its limits are against clients that trickle; an
// upgraded connection has its own.
func (n *node) serveHTTP(h http.Handler, serve func(*http.Server) error) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute,
		WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	n.onStop(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			return errors.Join(err, server.Close())
		}
		return nil
	})
	n.work.Go(func() { n.report(serve(server)) })
}

// report passes on the error of a listener that was not told to stop.
func (n *node) report(err error) {
	if err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		select {
		case n.failed <- err:
		default:
		}
	}
}

// addresses are the real ones, for the ready line.
func (n *node) addresses() []any {
	var attrs []any
	if n.mqtts != nil {
		attrs = append(attrs, slog.String("mqtts", n.mqtts.Addr().String()))
	}
	if n.https != nil {
		attrs = append(attrs, slog.String("https", n.https.Addr().String()))
	}
	if n.mqtt != nil {
		attrs = append(attrs, slog.String("mqtt", n.mqtt.Addr().String()))
	}
	return attrs
}
