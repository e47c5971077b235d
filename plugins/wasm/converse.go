package wasm

import (
	"context"

	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Conversation is a plugins.Verifier that also leads MQTT 5 AUTH exchanges
// [MQTT-4.12]. The caller asks its verifiers in order with the client's first
// data; whoever does not answer plugins.ErrNotMine leads the exchange to its end.
type Conversation interface {
	plugins.Verifier
	// Converse takes what the client sent and returns what to answer. Its errors are
	// those of Verify. The caller bounds how many turns there are.
	Converse(ctx context.Context, c *plugins.Credential, turn Turn) (Reply, error)
}

// Turn is what the client sent: with CONNECT or with AUTH.
type Turn struct {
	Method string // Authentication Method, the same in every turn
	Data   []byte // Authentication Data
	State  []byte // of the last Reply; nil in the first turn
}

// Reply goes back to the client: in AUTH, or in CONNACK when Done.
type Reply struct {
	Done      bool
	Principal policy.Principal // when Done
	Data      []byte           // Authentication Data; may be empty
	// State is at most 4 KiB. The caller keeps it with the connection and gives it to
	// nobody but the next Converse.
	State []byte
}
