package brokertest

import (
	"errors"
	"net"
	"net/url"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/cordon-mq/cordon/broker/ledger"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// Organisation is one that Seed made.
type Organisation struct {
	ID       policy.OrgID
	Tenant   ledger.Tenant
	APIKey   string
	APIToken string
	Tokens   map[string]string // of its devices, by their ID
}

// Seed makes an organisation with type sensor and devices d1 and d2.
func (n *Node) Seed(name string) *Organisation {
	n.t.Helper()
	id, err := policy.ParseOrgID(name)
	n.must(err)
	seed, err := n.Registry.SeedOrganisation(n.t.Context(), id, name)
	n.must(err)
	_, err = n.Registry.CreateType(n.t.Context(), id, registry.DeviceType{ID: "sensor"})
	n.must(err)
	o := &Organisation{
		ID: id, Tenant: ledger.Tenant{Org: id, Incarnation: seed.Organisation.Incarnation},
		APIKey: seed.APIKey.Key, APIToken: seed.APIToken, Tokens: map[string]string{},
	}
	n.AddDevice(o, "d1")
	n.AddDevice(o, "d2")
	return o
}

// AddDevice makes a device of type sensor.
func (n *Node) AddDevice(o *Organisation, id string) {
	n.t.Helper()
	_, token, err := n.Registry.CreateDevice(n.t.Context(), o.ID, registry.Device{Type: "sensor", ID: policy.ID(id)}, plugins.Secret{})
	n.must(err)
	o.Tokens[id] = token
}

// ClientID is how a device calls itself.
func (o *Organisation) ClientID(device string) string {
	return "d:" + o.ID.String() + ":sensor:" + device
}

// Options are those of an MQTT 3.1.1 client that does not come back by itself.
func (n *Node) Options(clientID, user, password string) *mqtt.ClientOptions {
	at := n.net // the client belongs to this run
	return mqtt.NewClientOptions().AddBroker("tcp://broker:1883").SetClientID(clientID).SetUsername(user).SetPassword(password).
		SetAutoReconnect(false).SetConnectRetry(false).SetProtocolVersion(4).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return at.Dial(), nil })
}

// DeviceOptions are those of a device with its token.
func (n *Node) DeviceOptions(o *Organisation, device string) *mqtt.ClientOptions {
	return n.Options(o.ClientID(device), "use-token-auth", o.Tokens[device])
}

// Connect returns a client and what its CONNECT came to.
func Connect(o *mqtt.ClientOptions) (mqtt.Client, error) {
	c := mqtt.NewClient(o)
	return c, Acknowledged(c.Connect())
}

// Acknowledged waits for the answer to what a client sent, and returns the error that
// it says.
func Acknowledged(token mqtt.Token) error {
	if !token.WaitTimeout(Patience) {
		return errors.New("no acknowledgement came")
	}
	return token.Error()
}
