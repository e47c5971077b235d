package pki

import (
	"crypto/tls"
	"sync"
)

// Shown are certificates by server name, which go before those of a platform. The zero
// value has none. All methods may be called at the same time; a handshake waits for
// none of them longer than a map takes to change.
type Shown struct {
	guarded struct {
		sync.RWMutex
		names map[string]*tls.Certificate // lower case
		of    map[string][]string         // the names of each owner
	}
}

// Set replaces what one owner shows: certificates by host name in lower case. Names of
// different owners must not meet; who calls has seen to that. None takes all away.
// Handshakes in progress keep what they have.
func (s *Shown) Set(owner string, certificates map[string]*tls.Certificate) {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if s.guarded.of == nil {
		s.guarded.names, s.guarded.of = map[string]*tls.Certificate{}, map[string][]string{}
	}
	for _, name := range s.guarded.of[owner] {
		delete(s.guarded.names, name)
	}
	delete(s.guarded.of, owner)
	for name, c := range certificates {
		s.guarded.names[name] = c
		s.guarded.of[owner] = append(s.guarded.of[owner], name)
	}
}

// For is the certificate of a server name as a client sent it, or nil.
func (s *Shown) For(serverName string) *tls.Certificate {
	name := canonical(serverName)
	s.guarded.RLock()
	defer s.guarded.RUnlock()
	return s.guarded.names[name]
}

// Before returns config with the certificates of s before its own. The settings are
// the same otherwise, and config is not changed.
func (s *Shown) Before(config *tls.Config) *tls.Config {
	config = config.Clone()
	platform := config.GetCertificate
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c := s.For(hello.ServerName); c != nil {
			return c, nil
		}
		return platform(hello)
	}
	return config
}
