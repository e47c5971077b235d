package pki

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"
)

const (
	day = 24 * time.Hour

	caYears = 10
	// serverDays is what strict clients accept at most.
	serverDays = 397
	// backdate lets clients in whose clock is slow.
	backdate = time.Hour
	// caNotice is how long before its end the CA is complained about.
	caNotice = 365 * day
)

// createCA makes the self-signed certificate of key and writes it to path. Its
// subject depends on the key alone: a certificate made again from the same key
// verifies what the first one did, and CAs of two installations never share a
// name.
func createCA(path string, key *ecdsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(public)
	template := &x509.Certificate{
		Subject: pkix.Name{
			Organization: []string{"Cordon"},
			CommonName:   fmt.Sprintf("Cordon CA %x", digest[:4]),
		},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs servers, not other CAs
	}
	return createCertificate(path, template, template, &key.PublicKey, key)
}

// issueLocked issues the server certificate if there is a reason to.
func (a *Authority) issueLocked() error {
	names := Names{Domain: a.domain, Organisations: a.issuing.organisations, Hosts: a.hosts}.altNames()
	a.warnLocked(names)
	now := a.now()
	reason := a.whyIssue(names, now)
	if reason == "" {
		return nil
	}
	leaf, err := a.createServer(names, now)
	if err != nil {
		return fmt.Errorf("issue server certificate %s: %w", a.serverFile(), err)
	}
	a.show(leaf)
	a.log.Info("server certificate issued", "reason", reason, "serial", fmt.Sprintf("%x", leaf.SerialNumber),
		"not_after", leaf.NotAfter, "names", len(names.dns)+len(names.ips))
	return nil
}

// whyIssue says why the server certificate in use will not do, or "".
func (a *Authority) whyIssue(names altNames, now time.Time) string {
	current := a.current.Load()
	if current == nil {
		return "there is none"
	}
	leaf := current.Leaf
	left, lifetime := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case !a.serverKey.PublicKey.Equal(leaf.PublicKey):
		return "it is of another key"
	case leaf.CheckSignatureFrom(a.ca) != nil:
		return "it is of another CA"
	case !names.equal(leaf.DNSNames, leaf.IPAddresses):
		return "names changed"
	case now.Before(leaf.NotBefore):
		return "it is not valid yet"
	case left < lifetime/3:
		return "less than a third of its time is left"
	}
	return ""
}

// createServer issues a server certificate and writes it to its file.
func (a *Authority) createServer(names altNames, now time.Time) (*x509.Certificate, error) {
	notBefore := later(now.Add(-backdate), a.ca.NotBefore)
	notAfter := notBefore.Add(serverDays*day - time.Second) // both ends count
	if notAfter.After(a.ca.NotAfter) {
		notAfter = a.ca.NotAfter
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Cordon"}, CommonName: "Cordon broker"},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              names.dns,
		IPAddresses:           names.ips,
	}
	return createCertificate(a.serverFile(), template, a.ca, &a.serverKey.PublicKey, a.caKey)
}

// warnLocked logs once each what the operator should know in time.
func (a *Authority) warnLocked(names altNames) {
	if names.omitted > 0 && !a.issuing.warnedOmitted {
		a.issuing.warnedOmitted = true
		a.log.Warn("too many organisations to name each in the server certificate; the wildcard names cover the rest",
			"named", maxOrganisations, "left_to_wildcards", names.omitted)
	}
	if a.ca.NotAfter.Sub(a.now()) < caNotice && !a.issuing.warnedExpiry {
		a.issuing.warnedExpiry = true
		a.log.Warn("the CA ends soon: remove ca.crt to renew it under the same key, and give the new file to every client",
			"file", a.CAFile(), "not_after", a.ca.NotAfter)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
