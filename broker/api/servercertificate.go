package api

import (
	"context"
	"net/http"
	"time"

	"github.com/cordon-mq/cordon/broker/pki/tenant"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// ServerCertificates is what an organisation's own host names show.
type ServerCertificates interface {
	ServerCertificate(ctx context.Context, org policy.OrgID) (tenant.Certificate, error)
	ReplaceServerCertificate(ctx context.Context, org policy.OrgID, certificate, private []byte) (tenant.Certificate, error)
	DeleteServerCertificate(ctx context.Context, org policy.OrgID) error
	RequestServerCertificate(ctx context.Context, org policy.OrgID, names []string) ([]byte, error)
	SetServerNames(ctx context.Context, org policy.OrgID, names []string) (registry.Organisation, error)
}

const (
	maxServerCertificateBody = 128 << 10 // of PEM as JSON
	maxRequestNames          = 22        // those of the platform, and all that an operator allows
)

// ServerCertificateObject is what the organisation's host names show. It never has the
// private key.
type ServerCertificateObject struct {
	Names       []string  `json:"names" nullable:"false" doc:"DNS names of the certificate."`
	Shown       []string  `json:"shownFor" nullable:"false" doc:"Those of them that it is shown for: all, unless the private key is missing or the operator took a name back."`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serialNumber" doc:"In hex."`
	NotBefore   timestamp `json:"validFrom"`
	NotAfter    timestamp `json:"validUntil"`
	Status      string    `json:"status" enum:"valid,expires_soon,expired,without_key" doc:"expires_soon: within 30 days. without_key: it came with an import and is not shown; upload it again with its private key."`
	DaysLeft    int       `json:"daysLeft" doc:"Whole days until validUntil; 0 when it has passed."`
	Uploaded    timestamp `json:"uploadedDateTime"`
	Requested   bool      `json:"requested" doc:"Whether a certificate request waits for its certificate."`
	Certificate string    `json:"certificate" doc:"PEM, the server's certificate first, then its issuers."`
}

// NewServerCertificate is a certificate on its way in.
type NewServerCertificate struct {
	Certificate *string `json:"certificate" nullable:"false" doc:"PEM: the server's certificate first, then its issuers; at most 5 of 16 KiB together. It is for names of the organisation alone, none of them with a star."`
	PrivateKey  *string `json:"privateKey,omitempty" nullable:"true" doc:"PEM without a passphrase, ECDSA on P-256 or P-384, or RSA of 2048 to 4096 bits. Absent: the key of the last request, or the one in use. It is never shown again."`
}

// ServerCertificateRequest asks for a certificate request.
type ServerCertificateRequest struct {
	Names *[]string `json:"names,omitempty" nullable:"true" doc:"Host names of the organisation; absent: all that it may have a certificate for."`
}

// ServerCertificateRequested is a certificate request. Its private key stays here.
type ServerCertificateRequested struct {
	CSR string `json:"csr" doc:"PKCS #10 in PEM, to be signed by an authority that the clients trust."`
}

// ServerNames are host names beside those of the platform.
type ServerNames struct {
	Names *[]string `json:"names" nullable:"false" doc:"Exact host names that the organisation may show certificates for, beside ORG.DOMAIN and ORG.messaging.DOMAIN; at most 20, and none of another organisation."`
}

func (a *API) showServerCertificate(o *tenant.Certificate) ServerCertificateObject {
	left := o.NotAfter.Sub(a.now())
	shown := ServerCertificateObject{
		Names: o.Names, Shown: append([]string{}, o.Shown...), Subject: o.Subject, Issuer: o.Issuer, Serial: o.Serial,
		NotBefore: timestamp{o.NotBefore}, NotAfter: timestamp{o.NotAfter}, Uploaded: timestamp{o.Uploaded},
		Status: "valid", DaysLeft: max(0, int(left/(24*time.Hour))), Requested: o.Requested, Certificate: o.PEM,
	}
	switch {
	case !o.HasKey:
		shown.Status = "without_key"
	case left <= 0:
		shown.Status = "expired"
	case left < warnBefore:
		shown.Status = "expires_soon"
	}
	return shown
}

func (a *API) serverCertificateRoutes(s *surface) {
	if a.shown == nil {
		return
	}
	const one = "/authentication/servercertificate"
	handle(s, operation{
		method: "GET", path: one, id: "readServerCertificate", summary: "What the organisation's host names show",
		status: http.StatusOK,
	}, a.readServerCertificate)
	handle(s, operation{
		method: "PUT", path: one, id: "replaceServerCertificate", summary: "Show a certificate on the organisation's host names, from the next handshake on",
		status: http.StatusOK, body: true, most: maxServerCertificateBody,
	}, a.replaceServerCertificate)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteServerCertificate", summary: "Show the platform's certificate again; the private keys are forgotten",
		status: http.StatusNoContent,
	}, a.deleteServerCertificate)
	handle(s, operation{
		method: "POST", path: one + "/csr", id: "requestServerCertificate", summary: "A certificate request, whose private key stays here",
		status: http.StatusOK, body: true, optional: true,
	}, a.requestServerCertificate)
}

// serverNameRoutes are the operator's.
func (a *API) serverNameRoutes(s *surface) {
	if a.shown == nil {
		return
	}
	const names = "/organisations/{org}/servernames"
	handle(s, operation{
		method: "GET", path: names, id: "read_server_names", summary: "Host names that an organisation may show certificates for, beside its own of the platform",
		status: http.StatusOK,
	}, a.readServerNames)
	handle(s, operation{
		method: "PUT", path: names, id: "set_server_names", summary: "Choose them",
		status: http.StatusOK, body: true, conflict: true,
	}, a.setServerNames)
}

func (a *API) readServerCertificate(ctx context.Context, c *call, _ *none) (ServerCertificateObject, error) {
	found, err := a.shown.ServerCertificate(ctx, c.org)
	if err != nil {
		return ServerCertificateObject{}, err
	}
	return a.showServerCertificate(&found), nil
}

func (a *API) replaceServerCertificate(ctx context.Context, c *call, in *NewServerCertificate) (ServerCertificateObject, error) {
	if in.Certificate == nil {
		return ServerCertificateObject{}, invalid("certificate", "is required")
	}
	made, err := a.shown.ReplaceServerCertificate(ctx, c.org, []byte(*in.Certificate), []byte(value(in.PrivateKey)))
	if err != nil {
		return ServerCertificateObject{}, err
	}
	return a.showServerCertificate(&made), nil
}

func (a *API) deleteServerCertificate(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.shown.DeleteServerCertificate(ctx, c.org)
}

func (a *API) requestServerCertificate(ctx context.Context, c *call, in *ServerCertificateRequest) (ServerCertificateRequested, error) {
	names := value(in.Names)
	if len(names) > maxRequestNames {
		return ServerCertificateRequested{}, invalid("names", "are too many")
	}
	request, err := a.shown.RequestServerCertificate(ctx, c.org, names)
	return ServerCertificateRequested{string(request)}, err
}

func (a *API) readServerNames(ctx context.Context, c *call, _ *none) (ServerNames, error) {
	o, err := a.registry.Organisation(ctx, c.org)
	return showServerNames(&o), err
}

func (a *API) setServerNames(ctx context.Context, c *call, in *ServerNames) (ServerNames, error) {
	if in.Names == nil {
		return ServerNames{}, invalid("names", "are required")
	}
	o, err := a.shown.SetServerNames(ctx, c.org, *in.Names)
	return showServerNames(&o), err
}

func showServerNames(o *registry.Organisation) ServerNames {
	names := append([]string{}, o.ServerNames...)
	return ServerNames{&names}
}
