package ledger

import (
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// State is what is known of the connections of one client ID.
type State struct {
	ClientID  string    `json:"clientId"`
	Kind      string    `json:"kind"` // of its principal, such as "device"
	Type      policy.ID `json:"type,omitempty"`
	ID        policy.ID `json:"id,omitempty"`
	App       policy.ID `json:"app,omitempty"`
	Device    uint64    `json:"device,omitempty"` // its incarnation
	Connected bool      `json:"connected"`
	// Of the last connection.
	Address     string    `json:"address,omitempty"`
	Port        uint16    `json:"port,omitempty"`
	Secure      bool      `json:"secure,omitempty"`
	Protocol    string    `json:"protocol,omitempty"`
	User        string    `json:"user,omitempty"`
	CertName    string    `json:"certName,omitempty"`
	Durable     bool      `json:"durable,omitempty"`
	ConnectTime time.Time `json:"connectTime,omitzero"`
	// Of the last disconnect.
	DisconnectTime time.Time `json:"disconnectTime,omitzero"`
	CloseCode      int       `json:"closeCode,omitempty"`
	Reason         string    `json:"reason,omitempty"`
	// What went over the connection that ended. Messages are PUBLISH packets.
	ReadBytes       uint64 `json:"-"`
	ReadMessages    uint64 `json:"-"`
	WrittenBytes    uint64 `json:"-"`
	WrittenMessages uint64 `json:"-"`
	// The last of both.
	ActivityEvent string    `json:"activityEvent,omitempty"`
	ActivityTime  time.Time `json:"activityTime,omitzero"`
}

func stateKey(t Tenant, client string) store.Key {
	return t.scope().Key(store.KindClientState, client)
}

// State is what is known of a client; ok is false where nothing is.
func (l *Ledger) State(t Tenant, client string) (_ State, ok bool, err error) {
	return readState(l.store, t, client)
}

// State is the same, with what the batch is about to write.
func (b *Batch) State(t Tenant, client string) (_ State, ok bool, err error) {
	return readState(b, t, client)
}

func readState(s getter, t Tenant, client string) (_ State, ok bool, err error) {
	found, ok, err := read[State](s, stateKey(t, client))
	if ok {
		found.ClientID = client
	}
	return found, ok, err
}

// PutState notes s.
func (b *Batch) PutState(t Tenant, s *State) error { return b.put(stateKey(t, s.ClientID), s) }

// DropState forgets a client.
func (b *Batch) DropState(t Tenant, client string) { b.add(store.Delete(stateKey(t, client))) }

// States calls fn with the clients whose IDs sort after `after`, shorter ones
// first and then by the alphabet, until it returns false.
func (l *Ledger) States(t Tenant, after string, fn func(*State) bool) error {
	from := store.Key{}
	if after != "" {
		from = stateKey(t, after)
	}
	return l.store.Scan(t.scope().Prefix(store.KindClientState), from, func(key store.Key, value []byte) bool {
		s, err := decode[State](value)
		if parts := key.Parts(); err == nil && len(parts) == 1 {
			s.ClientID = parts[0]
		}
		return err != nil || fn(&s)
	})
}
