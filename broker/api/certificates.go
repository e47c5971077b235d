package api

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Authorities is what the routes of an organisation's certificate authorities work on.
type Authorities interface {
	CreateAuthority(ctx context.Context, org policy.OrgID, data []byte, comments string) (registry.Authority, error)
	Authority(ctx context.Context, org policy.OrgID, id policy.ID) (registry.Authority, error)
	Authorities(ctx context.Context, org policy.OrgID) ([]registry.Authority, error)
	DeleteAuthority(ctx context.Context, org policy.OrgID, id policy.ID) error
	UploadList(ctx context.Context, org policy.OrgID, id policy.ID, data []byte) (registry.Authority, error)
	Revocation(ctx context.Context, org policy.OrgID) (string, error)
	SetRevocation(ctx context.Context, org policy.OrgID, mode string) error
}

const (
	maxAuthorityBody = 128 << 10 // 64 KiB as JSON
	maxListBody      = 2 << 20   // 640 KiB as PEM as JSON
)

// AuthorityObject is a certificate authority that the organisation trusts to name its
// devices, gateways and applications.
type AuthorityObject struct {
	ID          string                 `json:"id" doc:"Half of the SHA-256 of the certificate, in hex."`
	Comments    string                 `json:"comments"`
	Subject     string                 `json:"subject"`
	Issuer      string                 `json:"issuer"`
	Serial      string                 `json:"serialNumber" doc:"In hex."`
	NotBefore   timestamp              `json:"validFrom"`
	NotAfter    timestamp              `json:"validUntil"`
	Status      string                 `json:"status" enum:"valid,expires_soon,expired,not_yet_valid" doc:"expires_soon: within 30 days."`
	DaysLeft    int                    `json:"daysLeft" doc:"Whole days until validUntil; 0 when it has passed."`
	Created     timestamp              `json:"createdDateTime"`
	Certificate string                 `json:"certificate" doc:"PEM."`
	Lists       []RevocationListObject `json:"crls" nullable:"false" doc:"Lists of revoked certificates that it, or an issuer below it, signed."`
}

// RevocationListObject is what is known of a list of revoked certificates.
type RevocationListObject struct {
	Source     string    `json:"source" doc:"The address it was fetched from; empty: uploaded."`
	Issuer     string    `json:"issuer"`
	Number     string    `json:"number"`
	ThisUpdate timestamp `json:"thisUpdate"`
	NextUpdate timestamp `json:"nextUpdate"`
	Loaded     timestamp `json:"loaded"`
	Current    bool      `json:"current" doc:"False when the next one is overdue."`
	Entries    int       `json:"entries"`
}

// warnBefore is when an authority expires soon.
const warnBefore = 30 * 24 * time.Hour

func (a *API) showAuthority(o *registry.Authority) AuthorityObject {
	now := a.now()
	left := o.NotAfter.Sub(now)
	shown := AuthorityObject{
		ID: string(o.ID), Comments: o.Comments, Subject: o.Subject, Issuer: o.Issuer, Serial: o.Serial,
		NotBefore: timestamp{o.NotBefore}, NotAfter: timestamp{o.NotAfter}, Created: timestamp{o.Created},
		Status: "valid", DaysLeft: max(0, int(left/(24*time.Hour))),
		Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Certificate})),
		Lists:       []RevocationListObject{},
	}
	switch {
	case left <= 0:
		shown.Status = "expired"
	case now.Before(o.NotBefore):
		shown.Status = "not_yet_valid"
	case left < warnBefore:
		shown.Status = "expires_soon"
	}
	for _, l := range o.Lists {
		shown.Lists = append(shown.Lists, RevocationListObject{
			Source: l.Source, Issuer: l.Issuer, Number: l.Number, ThisUpdate: timestamp{l.ThisUpdate}, NextUpdate: timestamp{l.NextUpdate},
			Loaded: timestamp{l.Loaded}, Current: now.Before(l.NextUpdate), Entries: l.Entries,
		})
	}
	return shown
}

// NewAuthority asks for trust in an authority.
type NewAuthority struct {
	Certificate *string `json:"certificate" nullable:"false" doc:"One certificate of an authority: PEM, or DER in base64."`
	Comments    *string `json:"comments,omitempty" nullable:"true"`
}

// NewRevocationList is a list on its way in.
type NewRevocationList struct {
	CRL *string `json:"crl" nullable:"false" doc:"A CRL that the authority signed: PEM, or DER in base64; at most 640 KiB."`
}

// RevocationMode says what becomes of certificates that nobody answers for.
type RevocationMode struct {
	Mode string `json:"mode" enum:"strict,lenient" doc:"strict: a certificate of which nobody can say whether it was revoked is refused; lenient: it is accepted."`
}

func (a *API) certificateRoutes(s *surface) {
	const all, one, list, mode = "/authentication/cacertificates", "/authentication/cacertificates/{certificateId}",
		"/authentication/cacertificates/{certificateId}/crl", "/authentication/revocation"
	handle(s, operation{
		method: "GET", path: all, id: "listCACertificates", summary: "Certificate authorities that the organisation trusts",
		status: http.StatusOK,
	}, a.listAuthorities)
	handle(s, operation{
		method: "POST", path: all, id: "createCACertificate", summary: "Trust a certificate authority",
		status: http.StatusCreated, body: true, conflict: true, most: maxAuthorityBody,
	}, a.createAuthority)
	handle(s, operation{
		method: "GET", path: one, id: "readCACertificate", summary: "One certificate authority",
		status: http.StatusOK,
	}, a.readAuthority)
	handle(s, operation{
		method: "DELETE", path: one, id: "deleteCACertificate", summary: "Take the trust back; whoever connected by it is disconnected",
		status: http.StatusNoContent,
	}, a.deleteAuthority)
	handle(s, operation{
		method: "PUT", path: list, id: "replaceCRL", summary: "Upload a list of revoked certificates; whoever connected by one is disconnected",
		status: http.StatusOK, body: true, conflict: true, most: maxListBody,
	}, a.replaceList)
	handle(s, operation{
		method: "GET", path: mode, id: "readRevocation", summary: "What becomes of certificates that nobody answers for",
		status: http.StatusOK,
	}, a.readRevocation)
	handle(s, operation{
		method: "PUT", path: mode, id: "updateRevocation", summary: "Choose what becomes of certificates that nobody answers for",
		status: http.StatusOK, body: true,
	}, a.updateRevocation)
}

// encoded is what a body holds as PEM, or as base64 of DER.
func encoded(field string, given *string) ([]byte, error) {
	if given == nil {
		return nil, invalid(field, "is required")
	}
	text := strings.TrimSpace(*given)
	if strings.HasPrefix(text, "-----BEGIN") {
		return []byte(text), nil
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(der) == 0 {
		return nil, invalid(field, "must be PEM, or DER in base64")
	}
	return der, nil
}

func (a *API) listAuthorities(ctx context.Context, c *call, _ *none) (List[AuthorityObject], error) {
	found, err := a.registry.Authorities(ctx, c.org)
	return listed(found, "", err, a.showAuthority)
}

func (a *API) createAuthority(ctx context.Context, c *call, in *NewAuthority) (AuthorityObject, error) {
	data, err := encoded("certificate", in.Certificate)
	if err != nil {
		return AuthorityObject{}, err
	}
	made, err := a.registry.CreateAuthority(ctx, c.org, data, value(in.Comments))
	return a.shownAuthority(&made, err)
}

func (a *API) readAuthority(ctx context.Context, c *call, _ *none) (AuthorityObject, error) {
	id, err := c.pathID("certificateId", "certificate authority")
	if err != nil {
		return AuthorityObject{}, err
	}
	o, err := a.registry.Authority(ctx, c.org, id)
	return a.shownAuthority(&o, err)
}

func (a *API) deleteAuthority(ctx context.Context, c *call, _ *none) (none, error) {
	id, err := c.pathID("certificateId", "certificate authority")
	if err != nil {
		return none{}, err
	}
	return none{}, a.registry.DeleteAuthority(ctx, c.org, id)
}

func (a *API) replaceList(ctx context.Context, c *call, in *NewRevocationList) (AuthorityObject, error) {
	id, err := c.pathID("certificateId", "certificate authority")
	if err != nil {
		return AuthorityObject{}, err
	}
	data, err := encoded("crl", in.CRL)
	if err != nil {
		return AuthorityObject{}, err
	}
	o, err := a.registry.UploadList(ctx, c.org, id, data)
	return a.shownAuthority(&o, err)
}

func (a *API) shownAuthority(o *registry.Authority, err error) (AuthorityObject, error) {
	if err != nil {
		return AuthorityObject{}, err
	}
	return a.showAuthority(o), nil
}

func (a *API) readRevocation(ctx context.Context, c *call, _ *none) (RevocationMode, error) {
	mode, err := a.registry.Revocation(ctx, c.org)
	return RevocationMode{mode}, err
}

func (a *API) updateRevocation(ctx context.Context, c *call, in *RevocationMode) (RevocationMode, error) {
	return *in, a.registry.SetRevocation(ctx, c.org, in.Mode)
}
