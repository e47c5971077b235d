package guest

import "errors"

// Request is what one client presented. Nothing in it is verified but the
// organisation and the peer's address.
type Request struct {
	// Org is the organisation whose plugin this is, such as "acme01"; empty where
	// the plugin serves several.
	Org      string
	Username string
	ClientID string // such as "d:acme01:sensor:d1"
	Token    []byte // the password; empty if there was none
	Peer     Peer
	NowMS    int64  // Unix milliseconds: a plugin has no clock of its own
	Auth     *Auth  // nil outside an AUTH exchange
	State    []byte // what Continue handed over; nil at the beginning
}

// Auth is the client's part of an MQTT 5 AUTH exchange.
type Auth struct {
	Method string // Authentication Method, such as "SCRAM-SHA-256"
	Data   []byte // Authentication Data
}

// Peer says where a connection comes from.
type Peer struct {
	Address string // such as "192.0.2.7"
	TLS     *TLS   // nil without TLS
}

// TLS says what the handshake agreed on.
type TLS struct {
	Version string // such as "1.3"
	SNI     string
	Cert    *Certificate // nil without one
}

// Certificate is the client's: presented, and trusted by nobody yet. The client
// did prove that it has the key.
type Certificate struct {
	Subject string
	SAN     []string
	SHA256  string // of the DER form, in hexadecimal
}

// version is the contract's, which a request and a configuration carry as v.
const version = 1

var errRequest = errors.New("the request is not one of auth_abi v1")

// parseRequest reads a request. It passes over members that later minor versions
// may add. It reads member by member, without a map between: every client waits
// for it.
func parseRequest(data []byte) (*Request, error) {
	p, r := parse(string(data)), &Request{Token: []byte{}}
	v := int64(0)
	mark := p.enter(1)
	for p.member(mark) {
		switch p.name() {
		case "v":
			v = p.readInt()
		case "org":
			r.Org = p.readString()
		case "username":
			r.Username = p.readString()
		case "client_id":
			r.ClientID = p.readString()
		case "token":
			r.Token = p.readBytes()
		case "now_ms":
			r.NowMS = p.readInt()
		case "state":
			r.State = p.readBytes()
		case "peer":
			p.readPeer(&r.Peer)
		case "auth":
			r.Auth = p.readAuth()
		default:
			p.skip(1)
		}
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	if v != version || r.NowMS < 1 {
		return nil, errRequest
	}
	return r, nil
}

func (p *parser) readPeer(peer *Peer) {
	mark := p.enter(2)
	for p.member(mark) {
		switch p.name() {
		case "address":
			peer.Address = p.readString()
		case "tls":
			peer.TLS = p.readTLS()
		default:
			p.skip(2)
		}
	}
}

func (p *parser) readTLS() *TLS {
	tls := &TLS{}
	mark := p.enter(3)
	for p.member(mark) {
		switch p.name() {
		case "version":
			tls.Version = p.readString()
		case "sni":
			tls.SNI = p.readString()
		case "cert":
			tls.Cert = p.readCertificate()
		default:
			p.skip(3)
		}
	}
	return tls
}

func (p *parser) readCertificate() *Certificate {
	cert := &Certificate{}
	mark := p.enter(4)
	for p.member(mark) {
		switch p.name() {
		case "subject":
			cert.Subject = p.readString()
		case "sha256":
			cert.SHA256 = p.readString()
		case "san":
			cert.SAN = p.readStrings()
		default:
			p.skip(4)
		}
	}
	return cert
}

func (p *parser) readAuth() *Auth {
	auth := &Auth{Data: []byte{}}
	mark := p.enter(2)
	for p.member(mark) {
		switch p.name() {
		case "method":
			auth.Method = p.readString()
		case "data":
			auth.Data = p.readBytes()
		default:
			p.skip(2)
		}
	}
	return auth
}

// name is that of the member at hand.
func (p *parser) name() string { return p.names[len(p.names)-1] }

func (p *parser) readString() string {
	if p.next() != '"' {
		p.fail(errRequest)
		return ""
	}
	return p.string()
}

func (p *parser) readStrings() (list []string) {
	if p.next() != '[' {
		p.fail(errRequest)
		return nil
	}
	for more := p.open(MaxDepth); more; more = p.more() {
		list = append(list, p.readString())
	}
	return list
}

func (p *parser) readInt() int64 {
	p.next()
	i, ok := p.number().Int64()
	if !ok {
		p.fail(errRequest)
	}
	return i
}

func (p *parser) readBytes() []byte {
	data, err := decodeBase64(p.readString())
	if err != nil {
		p.fail(errRequest)
	}
	return data
}
