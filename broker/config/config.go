package config

import (
	"net/netip"
	"path/filepath"
)

// Off closes a listener when it stands in place of an address.
const Off = "off"

// Config is every setting of serve. Relative paths are relative to the working
// directory, wherever they were written.
//
// The tags are read by the command line; the default tags and [Defaults] say
// the same, and a test holds them together.
type Config struct {
	// Data is the folder with everything Cordon keeps. The default is beside
	// the caller, so that a first start needs no privileges.
	Data string `name:"data" placeholder:"DIR" default:"./cordon-data" help:"Folder for everything Cordon keeps."`

	// Domain is the DNS name organisations live under (ORG.messaging.DOMAIN).
	// Default "localhost": a first start needs no DNS.
	Domain string `name:"domain" placeholder:"NAME" default:"localhost" help:"DNS name that organisations live under."`

	// TLSCert and TLSKey are PEM files, watched for changes. Default empty:
	// Cordon issues a certificate from a certificate authority of its own.
	TLSCert string `name:"tls-cert" placeholder:"FILE" help:"PEM certificate chain to serve instead of an issued one."`
	TLSKey  string `name:"tls-key" placeholder:"FILE" help:"PEM private key of --tls-cert."`

	// ACMEDirectory is the https URL of a certificate authority that speaks ACME, which
	// issues and renews certificates for ACMEDomain; giving it agrees to the authority's
	// terms. Default empty: none is asked.
	ACMEDirectory string `name:"acme-directory" placeholder:"URL" help:"ACME directory of an authority to get certificates from; agrees to its terms."`

	// ACMEEmail is where the authority writes to. Needed beside ACMEDirectory.
	ACMEEmail string `name:"acme-email" placeholder:"ADDRESS" help:"Your e-mail address, for the authority of --acme-directory."`

	// ACMEDomain are the names to get certificates for, each its own; {org} in one stands
	// for every organisation. Default empty: Domain alone.
	ACMEDomain []string `name:"acme-domain" placeholder:"NAME" help:"Name to get a certificate for; {org} in it is every organisation; repeatable (default: --domain)."`

	// ACMECA is a PEM file of who vouches for a private authority. Default empty: those
	// that the system trusts.
	ACMECA string `name:"acme-ca" placeholder:"FILE" help:"PEM certificate that vouches for the server of --acme-directory."`

	// ACMEHTTP is where names are proved over plain HTTP (HTTP-01), open only meanwhile.
	// Default empty: over TLS (TLS-ALPN-01) on the HTTPS listener, or else on MQTTS.
	ACMEHTTP string `name:"acme-http" placeholder:"ADDR" help:"Prove names by HTTP-01 on this address instead of on the TLS listeners."`

	// MQTTS, HTTPS and MQTT are listeners: HOST:PORT, :PORT for every address,
	// port 0 for a free one, or "off". MQTT carries credentials in the clear,
	// so it is off until somebody asks for it.
	MQTTS string `name:"mqtts" placeholder:"ADDR" default:":8883" help:"MQTT over TLS: HOST:PORT, or off."`
	HTTPS string `name:"https" placeholder:"ADDR" default:":8443" help:"REST, HTTP messaging and WebSocket: HOST:PORT, or off."`
	MQTT  string `name:"mqtt" placeholder:"ADDR" default:"off" help:"MQTT without TLS: HOST:PORT, or off."`

	// WSOrigin are the web origins whose pages may connect over WebSocket:
	// SCHEME://HOST, HOST, with a * for anything, or * alone for any. Default
	// none: only pages of the host they connect to. Programs are not concerned.
	WSOrigin []string `name:"ws-origin" placeholder:"ORIGIN" help:"Web origin that may use WebSocket, beside the own host; repeatable."`

	// ProxyProtocol are the networks, or single addresses, of proxies whose
	// connections start with a PROXY protocol header on every listener. Default
	// none: a header would let anybody choose an address.
	ProxyProtocol []string `name:"proxy-protocol" placeholder:"CIDR" help:"Network of proxies that send PROXY protocol headers; repeatable."`

	// MaxConnections bounds the connections of all listeners; more wait in the
	// kernel. Default 0: the limit on open files less 256 for everything else.
	MaxConnections int `name:"max-connections" placeholder:"N" default:"0" help:"Connections at one time; 0: as many as open files allow."`

	// MaxPending bounds the connections that are not authenticated, of all
	// addresses and of one; more are closed. Loopback addresses have no limit of
	// their own. Default 8192, which take 250 MB at worst, and 256.
	MaxPending           int `name:"max-pending" placeholder:"N" default:"8192" help:"Connections not yet authenticated at one time."`
	MaxPendingPerAddress int `name:"max-pending-per-address" placeholder:"N" default:"256" help:"The same for one IPv4 address or IPv6 /64."`

	// ConnectRate bounds the connections per second of one address, with a burst
	// of five seconds' worth. Default 100, for a site behind one address; a fleet
	// behind the address of one carrier needs more.
	ConnectRate int `name:"connect-rate-per-address" placeholder:"N" default:"100" help:"New connections per second of one IPv4 address or IPv6 /64."`

	// RESTRate bounds the REST calls per second of one organisation, with a burst of
	// two seconds' worth; messages over HTTP count as messages instead. Default 500, a
	// part of what a small machine answers, so that no organisation takes it all.
	RESTRate int `name:"rest-rate" placeholder:"N" default:"500" help:"REST calls per second of one organisation."`

	// Durability is process (the default: what is acknowledged survives the death
	// of the process) or power (of the machine too: one sync for each batch of
	// writes).
	Durability string `name:"durability" placeholder:"process|power" default:"process" help:"What an acknowledged message survives: the end of the process, or of the machine."`

	// MinFreeSpace is how many MiB the disk of Data must have free for messages at
	// QoS 1 and 2 to be accepted. Default 256: a disk that is full takes the store
	// with it. 0 accepts them to the last byte.
	MinFreeSpace int `name:"min-free-space" placeholder:"MIB" default:"256" help:"Free disk space below which QoS 1 and 2 messages are refused, in MiB."`

	// MaxBuffer is how many MiB all clients together may have waiting in memory:
	// packets on their way and queued messages. Default 1024. Who holds most
	// yields first.
	MaxBuffer int `name:"max-buffer" placeholder:"MIB" default:"1024" help:"Memory for packets and messages that wait for their clients, in MiB."`

	// Policy is where the bundle comes from that replaces the built-in one: a
	// folder, a .tar.gz archive as OPA builds it, or the https URL of one. Default
	// empty: the built-in policies.
	Policy string `name:"policy" placeholder:"DIR|FILE|URL" help:"Policy bundle to use instead of the built-in one, watched: a folder, a .tar.gz archive or its https URL."`

	// PolicyKey is a PEM file with the public key that has to have signed the
	// archive. Default empty: archives are not signed, and one that is signed is
	// refused, since nobody could tell by whom.
	PolicyKey string `name:"policy-key" placeholder:"FILE" help:"PEM public key that has to have signed the policy archive."`

	// PolicyTokenFile holds the token that the server of the URL wants to see,
	// read again for each request. Default empty: none.
	PolicyTokenFile string `name:"policy-token-file" placeholder:"FILE" help:"File with the Bearer token for the policy URL."`

	// PolicyInterval is how many seconds pass between two requests to the URL.
	// Default 60: a fleet of brokers asks its server as seldom as people notice.
	PolicyInterval int `name:"policy-interval" placeholder:"SECONDS" default:"60" help:"Seconds between two looks at the policy URL."`

	// PolicyKeep is how many policy revisions are kept to go back to. Default 100:
	// a few MiB. The log names the others for ever.
	PolicyKeep int `name:"policy-keep" placeholder:"N" default:"100" help:"Policy revisions to keep."`

	// DecisionLog is a file of JSON lines with the decisions that are recorded, one
	// of 64 MiB at a time and the five before it. Default empty: no file.
	DecisionLog string `name:"decision-log" placeholder:"FILE" help:"File to write recorded decisions to, as JSON lines."`

	// DecisionLogURL is a service that takes decision logs of Open Policy Agent:
	// they are posted to URL/logs. Default empty: none.
	DecisionLogURL string `name:"decision-log-url" placeholder:"URL" help:"Service to post recorded decisions to, as OPA does."`

	// DecisionLogTokenFile holds the token that the service wants to see, read again
	// for each request. Default empty: none.
	DecisionLogTokenFile string `name:"decision-log-token-file" placeholder:"FILE" help:"File with the Bearer token for the decision log URL."`

	// DecisionLogRetention is how many hours recorded decisions are kept in the data
	// folder. Default 168, a week: long enough to ask why on a Monday.
	DecisionLogRetention int `name:"decision-log-retention" placeholder:"HOURS" default:"168" help:"Hours that recorded decisions are kept in the data folder."`

	// DecisionLogSize is about how many MiB of them are kept; what is oldest goes
	// first, of the organisation that has most. Default 256; 0 keeps none there.
	DecisionLogSize int `name:"decision-log-size" placeholder:"MIB" default:"256" help:"Space for recorded decisions in the data folder, in MiB; 0: keep none."`

	// DecisionLogSample says that one of so many publishes and deliveries that were
	// allowed is recorded; everything else always is. Default 5000, which nobody
	// notices in the speed; 0 records none of these.
	DecisionLogSample int `name:"decision-log-sample" placeholder:"N" default:"5000" help:"Record one of so many allowed publishes and deliveries; 0: none."`

	// Plugins is the folder of token verifiers. Default empty, which Effective
	// turns into DATA/plugins.
	Plugins string `name:"plugins" placeholder:"DIR" help:"Folder of token verifiers, watched (default: plugins in the data folder)."`

	// CertificateFetchPrivate lets lists of revoked certificates and OCSP answers be
	// fetched from addresses that are not of the public internet. Default false:
	// organisations choose the addresses, and would reach what only the broker can.
	CertificateFetchPrivate bool `name:"certificate-fetch-private" help:"Fetch revocation lists and OCSP answers from private addresses too."`

	// Config is the YAML file the other settings may come from. It cannot name
	// another one. Default empty: no file.
	Config string `name:"config" placeholder:"FILE" help:"YAML file with any of these settings."`

	// LogFormat is text for people (the default) or json for machines.
	LogFormat string `name:"log-format" placeholder:"text|json" default:"text" help:"Form of the log: text or json."`

	// LogLevel is debug, info, warn or error. Default info: refusals are seen.
	LogLevel string `name:"log-level" placeholder:"LEVEL" default:"info" help:"Least level that is logged: debug, info, warn or error."`

	// Demo makes an organisation to try things with and keeps every listener
	// on the loopback interface. Default false.
	Demo bool `name:"demo" help:"Make a demonstration organisation; listen on 127.0.0.1 only."`

	// DemoReset issues new demonstration credentials; it needs Demo. Default
	// false.
	DemoReset bool `name:"demo-reset" help:"With --demo: issue new demonstration credentials."`
}

// Defaults is the Config of a start that was told nothing.
func Defaults() Config {
	return Config{
		Data:      "./cordon-data",
		Domain:    "localhost",
		MQTTS:     ":8883",
		HTTPS:     ":8443",
		MQTT:      Off,
		LogFormat: "text",
		LogLevel:  "info",

		MaxPending:           8192,
		MaxPendingPerAddress: 256,
		ConnectRate:          100,
		RESTRate:             500,

		Durability:   "process",
		MinFreeSpace: 256,
		MaxBuffer:    1024,

		PolicyInterval: 60,
		PolicyKeep:     100,

		DecisionLogRetention: 168,
		DecisionLogSize:      256,
		DecisionLogSample:    5000,
	}
}

// Proxies are the networks of a valid c's ProxyProtocol.
func (c Config) Proxies() []netip.Prefix {
	networks := make([]netip.Prefix, 0, len(c.ProxyProtocol))
	for _, text := range c.ProxyProtocol {
		if network, ok := parseNetwork(text); ok {
			networks = append(networks, network)
		}
	}
	return networks
}

// Effective returns a valid c with what settings imply for others filled in:
// Plugins has a value, and with Demo every listener that is open names a
// loopback host.
func (c Config) Effective() Config {
	if c.Plugins == "" {
		c.Plugins = filepath.Join(c.Data, "plugins")
	}
	if c.Demo {
		c.MQTTS = onLoopback(c.MQTTS)
		c.HTTPS = onLoopback(c.HTTPS)
		c.MQTT = onLoopback(c.MQTT)
	}
	return c
}

// onLoopback puts a host before an address that has none; others were
// validated to be loopback already.
func onLoopback(address string) string {
	if a, err := parseAddress(address); err == nil && !a.off && a.host == "" {
		return "127.0.0.1" + address
	}
	return address
}
