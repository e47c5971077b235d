package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/coder/websocket"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/policy/topic"
)

// answerTime is how long pub and sub wait for an answer of the broker.
const answerTime = 30 * time.Second

// leaveTime is how long they wait to say goodbye.
const leaveTime = 2 * time.Second

// passwordVariable is where a password may stand instead of the command line,
// which every process of the machine can read.
const passwordVariable = "CORDON_PASSWORD"

// connectFlags are what pub and sub share: where the broker is, and who asks.
// The letters are those of Mosquitto's clients.
type connectFlags struct {
	Host      string `short:"h" default:"localhost" placeholder:"HOST" help:"Host of the broker (default: localhost)."`
	Port      uint16 `short:"p" placeholder:"PORT" help:"Port (default: 8883, 8443 with --ws, 1883 with --plain)."`
	ID        string `name:"id" short:"i" placeholder:"ID" help:"Client ID (default: the broker assigns one)."`
	User      string `short:"u" placeholder:"NAME" help:"User name."`
	Password  string `short:"P" placeholder:"TEXT" help:"Password. Other processes can read it here; better set CORDON_PASSWORD."`
	QoS       byte   `name:"qos" short:"q" default:"0" enum:"0,1,2" placeholder:"0|1|2" help:"Quality of service: 0 (the default), 1 or 2."`
	Version   string `name:"protocol-version" short:"V" default:"5" enum:"3.1.1,5" placeholder:"3.1.1|5" help:"Version of MQTT: 3.1.1 or 5 (the default)."`
	KeepAlive uint16 `name:"keepalive" short:"k" default:"60" placeholder:"SECONDS" help:"Keep alive; 0 is none (default: 60)."`

	CA       string `name:"ca" placeholder:"FILE" help:"PEM file of the certificate authorities to trust instead of the system's."`
	WS       bool   `name:"ws" help:"MQTT over WebSocket."`
	Insecure bool   `help:"Do not check the broker's certificate: anybody could be the broker."`
	Plain    bool   `help:"No TLS: everybody on the way reads along."`

	WillTopic   string `placeholder:"TOPIC" help:"Topic of the will, which the broker publishes if the connection is lost."`
	WillPayload string `placeholder:"TEXT" help:"Payload of the will."`
	WillQoS     byte   `name:"will-qos" default:"0" enum:"0,1,2" placeholder:"0|1|2" help:"Quality of service of the will."`
	WillRetain  bool   `help:"Have the will retained."`
}

// check finds what the flags say only together; it is a usage error.
func (f *connectFlags) check() error {
	switch {
	case f.Host == "":
		return errors.New("--host names nobody")
	case f.Plain && (f.CA != "" || f.Insecure):
		return errors.New("--plain has no certificate that --ca or --insecure could be about")
	case f.CA != "" && f.Insecure:
		return errors.New("--ca says what to check, --insecure not to")
	case f.Password != "" && f.User == "":
		return errors.New("--password needs --user")
	case f.WillTopic == "" && (f.WillPayload != "" || f.WillQoS != 0 || f.WillRetain):
		return errors.New("a will needs --will-topic")
	}
	if f.WillTopic != "" {
		if _, err := topic.ParseName(f.WillTopic); err != nil {
			return fmt.Errorf("--will-topic: %w", err)
		}
	}
	return nil
}

// publication is a message on its way out or in.
type publication struct {
	topic   string
	payload []byte
	qos     byte
	retain  bool
}

// connection is a client that is connected, of either version of MQTT. Its
// methods are for one goroutine.
type connection interface {
	// publish returns when the broker has acknowledged m, for QoS 0 when it is sent.
	publish(ctx context.Context, m publication) error
	// subscribe returns one error per filter, nil where it was granted.
	subscribe(ctx context.Context, filters []string, qos byte) ([]error, error)
	// lost yields once, when the connection ends before leave.
	lost() <-chan error
	// leave says goodbye, so that no will is published. Afterwards nothing more
	// is received.
	leave()
}

// session is what a connection keeps on the broker, and what it hears.
type session struct {
	keep   bool
	expiry uint32 // seconds; MQTT 5
	inbox  *inbox // nil: nothing is received
}

// connect opens the connection. The caller has to leave it.
func (f *connectFlags) connect(ctx context.Context, std *streams, lookup config.Lookup, s session) (connection, error) {
	if f.Insecure {
		fmt.Fprintln(std.err, "cordon: warning: the broker's certificate is not checked")
	}
	password := f.Password
	if password == "" && f.User != "" {
		password, _ = lookup(passwordVariable)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var c connection
	var err error
	if f.Version == "5" {
		c, err = f.connect5(ctx, password, s)
	} else {
		c, err = f.connect3(ctx, password, s)
	}
	if err != nil && ctx.Err() != nil { // the reason, rather than what it led to
		err = ctx.Err()
	}
	return c, spoken(err)
}

// spoken puts the end of a context into words.
func spoken(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, context.DeadlineExceeded):
		return errSilent
	default:
		return err
	}
}

// dial opens the transport. Once it is open, ctx has no hold of it.
func (f *connectFlags) dial(ctx context.Context) (net.Conn, error) {
	secure, err := f.tls()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(f.Host, strconv.Itoa(int(f.port())))
	switch {
	case f.WS:
		return dialWebSocket(ctx, address, secure)
	case f.Plain:
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	default:
		return (&tls.Dialer{Config: secure}).DialContext(ctx, "tcp", address)
	}
}

func (f *connectFlags) port() uint16 {
	switch {
	case f.Port != 0:
		return f.Port
	case f.Plain:
		return 1883
	case f.WS:
		return 8443
	default:
		return 8883
	}
}

// tls is how the broker has to prove itself; nil without TLS.
func (f *connectFlags) tls() (*tls.Config, error) {
	if f.Plain {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.Host, InsecureSkipVerify: f.Insecure} //nolint:gosec // asked for, and warned of
	if f.CA == "" {
		return c, nil
	}
	text, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no PEM certificate in it", f.CA)
	}
	return c, nil
}

// dialWebSocket opens the path that MQTT has by custom. It goes nowhere else:
// the credential is for the host that was named.
func dialWebSocket(ctx context.Context, address string, secure *tls.Config) (net.Conn, error) {
	scheme := "ws"
	if secure != nil {
		scheme = "wss"
	}
	transport := &http.Transport{TLSClientConfig: secure}
	defer transport.CloseIdleConnections()
	ws, answer, err := websocket.Dial(ctx, scheme+"://"+address+"/mqtt", &websocket.DialOptions{
		Subprotocols: []string{"mqtt"},
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	})
	if answer != nil && answer.Body != nil {
		defer answer.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != "mqtt" { // [MQTT-6.0.0-4]
		return nil, errors.Join(errors.New("the server does not speak MQTT over WebSocket"), ws.CloseNow())
	}
	return websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary), nil
}

// refusedError is what the broker said no to, and why.
type refusedError struct {
	what   string // such as "connection refused"
	code   string // in words
	number byte
	reason string // the broker's own words; may be empty
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("%s: %s (0x%02X)", e.what, e.code, e.number)
	if e.reason != "" {
		text += ": " + printable(e.reason)
	}
	return text
}

// How a broker leaves its client alone.
var (
	errClosedByBroker = errors.New("the broker closed the connection")
	errSilent         = errors.New("the broker does not answer")
)

// connectionLost says what err, which ended a connection, means.
func connectionLost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		return errClosedByBroker
	}
	return fmt.Errorf("connection lost: %w", err)
}

// printable takes what could steer a terminal out of a text that somebody else wrote.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// leaveWithin waits for f, but not longer than leaveTime: a consumer of the output
// that does not read must not keep the program from ending.
func leaveWithin(f func()) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		f()
	}()
	select {
	case <-left:
	case <-time.After(leaveTime):
	}
}
