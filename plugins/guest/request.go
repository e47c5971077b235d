package guest

import (
	"errors"
	"slices"
	"unicode/utf8"
)

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
	if !utf8.Valid(data) {
		return nil, ErrSyntax
	}
	p := &parser{data: data, text: string(data)}
	r := &Request{Token: []byte{}}
	var v int64
	err := p.nested(0, func(name string) error {
		switch name {
		case "v":
			return p.readInt(&v)
		case "org":
			return p.readString(&r.Org)
		case "username":
			return p.readString(&r.Username)
		case "client_id":
			return p.readString(&r.ClientID)
		case "token":
			return p.readBytes(&r.Token)
		case "now_ms":
			return p.readInt(&r.NowMS)
		case "state":
			return p.readBytes(&r.State)
		case "peer":
			return p.readPeer(&r.Peer)
		case "auth":
			return p.readAuth(r)
		default:
			return p.skip(1)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case v != version || r.NowMS < 1:
		return nil, errRequest
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return r, nil
}

func (p *parser) readPeer(peer *Peer) error {
	return p.nested(1, func(name string) error {
		switch name {
		case "address":
			return p.readString(&peer.Address)
		case "tls":
			peer.TLS = &TLS{}
			return p.readTLS(peer.TLS)
		default:
			return p.skip(2)
		}
	})
}

func (p *parser) readTLS(tls *TLS) error {
	return p.nested(2, func(name string) error {
		switch name {
		case "version":
			return p.readString(&tls.Version)
		case "sni":
			return p.readString(&tls.SNI)
		case "cert":
			tls.Cert = &Certificate{}
			return p.readCertificate(tls.Cert)
		default:
			return p.skip(3)
		}
	})
}

func (p *parser) readCertificate(cert *Certificate) error {
	return p.nested(3, func(name string) error {
		switch name {
		case "subject":
			return p.readString(&cert.Subject)
		case "sha256":
			return p.readString(&cert.SHA256)
		case "san":
			return p.readStrings(&cert.SAN)
		default:
			return p.skip(4)
		}
	})
}

func (p *parser) readAuth(r *Request) error {
	r.Auth = &Auth{Data: []byte{}}
	return p.nested(1, func(name string) error {
		switch name {
		case "method":
			return p.readString(&r.Auth.Method)
		case "data":
			return p.readBytes(&r.Auth.Data)
		default:
			return p.skip(2)
		}
	})
}

// nested reads a value that has to be an object and lies inside depth others.
// The host names no member twice, and a name that comes twice is refused.
func (p *parser) nested(depth int, read func(name string) error) error {
	if p.next() != '{' {
		return errRequest
	}
	var names []string
	return p.members(depth+1, func(name string) error {
		if slices.Contains(names, name) {
			return ErrDuplicate
		}
		names = append(names, name)
		return read(name)
	})
}

func (p *parser) skip(depth int) error {
	_, err := p.value(depth)
	return err
}

func (p *parser) readString(to *string) (err error) {
	if p.next() != '"' {
		return errRequest
	}
	*to, err = p.string()
	return err
}

func (p *parser) readStrings(to *[]string) error {
	value, err := p.value(MaxDepth - 1)
	if err != nil {
		return err
	}
	list, ok := value.([]any)
	for _, v := range list {
		s, isString := v.(string)
		*to = append(*to, s)
		ok = ok && isString
	}
	if !ok {
		return errRequest
	}
	return nil
}

func (p *parser) readInt(to *int64) error {
	value, err := p.value(MaxDepth)
	if err != nil {
		return err
	}
	number, _ := value.(Number)
	i, ok := number.Int64()
	if !ok {
		return errRequest
	}
	*to = i
	return nil
}

func (p *parser) readBytes(to *[]byte) error {
	var text string
	if err := p.readString(&text); err != nil {
		return err
	}
	data, err := decodeBase64(text)
	if err != nil {
		return errRequest
	}
	*to = data
	return nil
}
