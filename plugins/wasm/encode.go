package wasm

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"
)

// append writes r as JSON behind dst, up to now_ms, which ends it: the same
// request at another time begins with the same bytes.
func (r *request) append(dst []byte) []byte {
	dst = strconv.AppendInt(append(dst, `{"v":`...), int64(r.V), 10)
	dst = appendMember(dst, `,"org":`, r.Org)
	dst = appendMember(dst, `,"username":`, r.Username)
	dst = appendMember(dst, `,"client_id":`, r.ClientID)
	if r.Token != nil {
		dst = appendOctets(dst, `,"token":`, *r.Token)
	}
	dst = r.Peer.append(append(dst, `,"peer":`...))
	if a := r.Auth; a != nil {
		open := len(dst) + len(`,"auth":`)
		dst = appendMember(append(dst, `,"auth":{`...), `,"method":`, a.Method)
		if len(a.Data) > 0 {
			dst = appendOctets(dst, `,"data":`, a.Data)
		}
		dst = closed(dst, open)
	}
	if len(r.State) > 0 {
		dst = appendOctets(dst, `,"state":`, r.State)
	}
	return dst
}

// appendNow ends what append began.
func (r *request) appendNow(dst []byte) []byte {
	return append(strconv.AppendInt(append(dst, `,"now_ms":`...), r.NowMS, 10), '}')
}

func (p *peer) append(dst []byte) []byte {
	open := len(dst)
	dst = appendMember(append(dst, '{'), `,"address":`, p.Address)
	if t := p.TLS; t != nil {
		openTLS := len(dst) + len(`,"tls":`)
		dst = appendMember(append(dst, `,"tls":{`...), `,"version":`, t.Version)
		dst = appendMember(dst, `,"sni":`, t.SNI)
		if t.Cert != nil {
			dst = t.Cert.append(append(dst, `,"cert":`...))
		}
		dst = closed(dst, openTLS)
	}
	return closed(dst, open)
}

func (c *peerCert) append(dst []byte) []byte {
	open := len(dst)
	dst = appendMember(append(dst, '{'), `,"subject":`, c.Subject)
	for i, name := range c.SAN {
		if i == 0 {
			dst = append(dst, `,"san":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(dst, name)
	}
	if len(c.SAN) > 0 {
		dst = append(dst, ']')
	}
	return closed(appendMember(dst, `,"sha256":`, c.SHA256), open)
}

// closed ends the object that was opened at open. Every member was written with a
// comma before it; that of the first one goes.
func closed(dst []byte, open int) []byte {
	if first := open + 1; first < len(dst) && dst[first] == ',' {
		dst = append(dst[:first], dst[first+1:]...)
	}
	return append(dst, '}')
}

// appendMember writes a member of text unless it is empty.
func appendMember(dst []byte, name, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, name...), s)
}

func appendOctets(dst []byte, name string, b []byte) []byte {
	dst = append(append(dst, name...), '"')
	return append(base64.StdEncoding.AppendEncode(dst, b), '"')
}

// appendString quotes s, without the escapes that only HTML needs: a small guest
// reads more of what clients write that way. What is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	kept := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError && c >= utf8.RuneSelf {
			i += size
			continue
		}
		dst = append(dst, s[kept:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
		i += size
		kept = i
	}
	return append(append(dst, s[kept:]...), '"')
}
