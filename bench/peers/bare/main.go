// Command bare answers each CONNECT over TLS with a CONNACK and does nothing
// else: what crypto/tls and the kernel take of a connection to a broker in Go.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

const (
	patience  = 5 * time.Second // for one connection
	maxPacket = 4 << 10         // bytes of what a client may send before its CONNACK
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address := flag.String("mqtts", "", "address to listen on, HOST:PORT")
	cert := flag.String("cert", "", "PEM file of the certificate")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", *address, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var work sync.WaitGroup
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil: // the last ones may end
			if err == nil {
				_ = conn.Close()
			}
			work.Wait()
			return nil
		case err != nil:
			return err
		}
		work.Go(func() { serve(conn) })
	}
}

// serve takes one read for the CONNECT, which is how the generator writes it.
func serve(conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return
	}
	packet := make([]byte, maxPacket)
	if n, err := conn.Read(packet); err != nil || n == 0 || packet[0] != 0x10 {
		return
	}
	if _, err := conn.Write([]byte{0x20, 2, 0, 0}); err != nil {
		return
	}
	_, _ = conn.Read(packet) // DISCONNECT, or the end
}
