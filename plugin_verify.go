package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// tokenMost is the longest token, in bytes: a plugin is asked to read no more.
const tokenMost = 64 << 10

type pluginVerifyCmd struct {
	inspection `embed:""`

	User     string `short:"u" placeholder:"NAME" help:"User name that the client would send."`
	Token    string `required:"" placeholder:"TEXT|-" help:"Token; - reads it from standard input, where no other process sees it."`
	ClientID string `name:"client-id" short:"i" placeholder:"ID" help:"Client ID that the client would send."`

	stdin io.Reader // nil: the process's own
}

// Run prints the steps, and fails where the token is refused. It never prints the
// token.
func (c *pluginVerifyCmd) Run(ctx context.Context, std *streams) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	credential, err := c.credential()
	if err != nil {
		return err
	}
	w := &printer{to: std.out}
	subject, err := wasm.Examine(ctx, c.File, options)
	if subject == nil {
		return err
	}
	defer subject.Close()
	if err != nil {
		w.printf("refused: %v", err)
		return errors.Join(errNoModule, w.err)
	}
	_, steps, err := subject.Verify(ctx, options.Org, credential)
	for _, step := range steps {
		took := ""
		if step.Took > 0 {
			took = fmt.Sprintf(" (%v)", step.Took.Round(time.Microsecond))
		}
		w.printf("%-14s %s%s", step.Name, step.Detail, took)
	}
	if w.err != nil {
		return w.err
	}
	if err != nil {
		w.printf("refused: %s", plugins.CauseOf(err))
		return errReported
	}
	w.printf("ok: what such a principal may do is for the policy to say")
	return w.err
}

// credential is what such a client would present, from this machine.
func (c *pluginVerifyCmd) credential() (*plugins.Credential, error) {
	id, err := policy.ParseClientID(c.ClientID)
	if err != nil {
		return nil, err
	}
	token := []byte(c.Token)
	if c.Token == "-" {
		in := c.stdin
		if in == nil {
			in = os.Stdin
		}
		if token, err = io.ReadAll(io.LimitReader(in, tokenMost+2)); err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}
		token = bytes.TrimSuffix(bytes.TrimSuffix(token, []byte("\n")), []byte("\r"))
	}
	if len(token) > tokenMost {
		return nil, fmt.Errorf("the token is longer than %d bytes", tokenMost)
	}
	return &plugins.Credential{
		Client: policy.Client{
			ID: id, Username: c.User, Protocol: "5", Listener: "mqtts", Address: netip.IPv6Loopback(),
			TLS: &policy.TLS{Version: "1.3"},
		},
		Password: plugins.NewSecret(token), HasPassword: true,
	}, nil
}
