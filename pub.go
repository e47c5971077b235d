package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/policy/topic"
)

// The largest payloads that pub sends, in bytes: MQTT's own bound for a whole
// packet, and what a line of a stream of messages may have.
const (
	payloadMax = 268_435_455
	lineMax    = 1 << 20
)

// pubCmd publishes one message, or one for each line it reads.
type pubCmd struct {
	connectFlags `embed:""`

	Topic   *string `short:"t" required:"" placeholder:"TOPIC" help:"Topic to publish to."`
	Message *string `short:"m" required:"" xor:"message" placeholder:"TEXT" help:"Payload."`
	File    *string `short:"f" required:"" xor:"message" placeholder:"FILE" help:"File that is the payload."`
	Null    bool    `name:"null-message" short:"n" required:"" xor:"message" help:"An empty payload; with -r it deletes what is retained."`
	Lines   bool    `name:"stdin-line" short:"l" required:"" xor:"message" help:"One message for each line of standard input that is not empty."`
	Retain  bool    `short:"r" help:"Have the message retained."`
}

// Validate looks at all flags together; kong calls it, and a problem is a usage
// error.
func (c *pubCmd) Validate() error {
	if c.Topic != nil { // or kong says that it is missing
		if _, err := topic.ParseName(*c.Topic); err != nil {
			return fmt.Errorf("--topic: %q: %w", *c.Topic, err)
		}
	}
	return c.check()
}

// Run ends when the broker has acknowledged everything.
func (c *pubCmd) Run(ctx context.Context, std *streams, lookup config.Lookup) error {
	payload, err := c.payload()
	if err != nil {
		return err
	}
	conn, err := c.connect(ctx, std, lookup, session{})
	if err != nil {
		return err
	}
	defer conn.leave()
	if c.Lines {
		return c.publishLines(ctx, conn, os.Stdin)
	}
	return c.send(ctx, conn, payload)
}

// payload is that of the one message; read before anybody is called.
func (c *pubCmd) payload() ([]byte, error) {
	switch {
	case c.Message != nil:
		return []byte(*c.Message), nil
	case c.File != nil:
		file, err := os.Open(*c.File)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		b, err := readAll(file, payloadMax)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", *c.File, err)
		}
		return b, nil
	default:
		return nil, nil
	}
}

func (c *pubCmd) send(ctx context.Context, conn connection, payload []byte) error {
	return conn.publish(ctx, publication{topic: *c.Topic, payload: payload, qos: c.QoS, retain: c.Retain})
}

// publishLines sends each line when it comes, and waits for its acknowledgement
// before the next.
func (c *pubCmd) publishLines(ctx context.Context, conn connection, in io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines, ended := make(chan []byte), make(chan error, 1)
	// Nobody waits for this goroutine: a read of standard input cannot be broken
	// off, and the program ends.
	go func() { ended <- readLines(ctx, in, lines) }()
	for {
		select {
		case line := <-lines:
			if err := c.send(ctx, conn, line); err != nil {
				return err
			}
		case err := <-ended:
			return err
		case err := <-conn.lost():
			return err
		case <-ctx.Done():
			return spoken(ctx.Err())
		}
	}
}

// readLines passes on the lines of in that are not empty, until ctx ends.
func readLines(ctx context.Context, in io.Reader, lines chan<- []byte) error {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, lineMax)
	for scanner.Scan() {
		if len(scanner.Bytes()) == 0 {
			continue
		}
		select {
		case lines <- append([]byte(nil), scanner.Bytes()...):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line of more than %d bytes", lineMax)
	}
	return scanner.Err()
}

// readAll reads r to its end, and no more than most bytes.
func readAll(r io.Reader, most int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	return b, err
}
