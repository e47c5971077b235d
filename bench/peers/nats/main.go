// Command nats runs nats-server with its MQTT listener and JetStream in files,
// for the benchmarks of Cordon to compare with. It is a module of its own so
// that its versions stay out of Cordon's.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startTime bounds how long the server may take until it accepts clients.
const startTime = 20 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
}

func run() error {
	address := flag.String("mqtt", "", "address to listen on, HOST:PORT")
	data := flag.String("data", "", "folder for JetStream")
	flag.Parse()
	host, text, err := net.SplitHostPort(*address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "bench",
		Host:       host,
		Port:       server.RANDOM_PORT, // for NATS clients, of which there are none
		JetStream:  true,
		StoreDir:   *data,
		NoSigs:     true,
		MQTT:       server.MQTTOpts{Host: host, Port: port},
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	s.Start()
	if !s.ReadyForConnections(startTime) {
		return errors.New("not ready in time")
	}
	<-signals
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}
