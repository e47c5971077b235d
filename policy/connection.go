package policy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"strings"
)

// DescribeTLS says what policies may know of a TLS connection; nil for none.
// A client certificate is only described: nothing here has verified it.
func DescribeTLS(state *tls.ConnectionState) *TLS {
	if state == nil {
		return nil
	}
	t := &TLS{SNI: state.ServerName, Version: strings.TrimPrefix(tls.VersionName(state.Version), "TLS ")}
	if len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		sum := sha256.Sum256(cert.Raw)
		t.Cert = &Certificate{
			Subject: cert.Subject.String(), SHA256: hex.EncodeToString(sum[:]),
			SAN: append(append([]string{}, cert.DNSNames...), cert.EmailAddresses...),
		}
	}
	return t
}

// OrgOfHost is ORG of a host name ORG.domain or ORG.messaging.domain, without a
// port. It answers false for any other name and for an empty domain. A host
// name is only a claim: it can contradict a credential and never replace it,
// and a label such as "mqtt" may not be an organisation's at all.
func OrgOfHost(host, domain string) (OrgID, bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	label, ok := strings.CutSuffix(host, "."+strings.ToLower(domain))
	if !ok || domain == "" {
		return OrgID{}, false
	}
	org, err := ParseOrgID(strings.TrimSuffix(label, ".messaging"))
	return org, err == nil
}
