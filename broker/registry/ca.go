package registry

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of what an organisation trusts.
const (
	maxAuthorities = 10
	maxLists       = 32 // of revoked certificates, uploaded and fetched
)

// What becomes of a certificate of which nobody could say whether it was revoked.
const (
	RevocationStrict  = "strict"  // it is refused
	RevocationLenient = "lenient" // it is accepted
)

// Authority is a certificate authority that an organisation trusts to name its
// devices, gateways and applications.
type Authority struct {
	ID          policy.ID // see certificate.AuthorityID
	Comments    string
	Certificate []byte // DER
	Subject     string
	Issuer      string
	Serial      string // lower-case hex
	NotBefore   time.Time
	NotAfter    time.Time
	Created     time.Time
	// Lists are those of revoked certificates that it, or an issuer below it, signed.
	Lists []ListState
}

// ListState is what is known of a list of revoked certificates.
type ListState struct {
	Issuer                         string // subject of who signed it
	Source                         string // the URL it was fetched from; empty: uploaded
	Number                         string // decimal; empty: none
	ThisUpdate, NextUpdate, Loaded time.Time
	Entries                        int
}

// authorityRecord is what is stored of an Authority. It is never changed, so its
// stamp is the version of the credentials that it vouches for.
type authorityRecord struct {
	Certificate []byte    `json:"certificate"` // DER
	Comments    string    `json:"comments,omitempty"`
	Created     time.Time `json:"created"`
}

func authorityKey(s store.Scope, id policy.ID) store.Key {
	return s.Key(store.KindAuthority, string(id))
}

// parse reads a record, which was checked when it was stored.
func (o *authorityRecord) parse() (*parsedAuthority, error) {
	c, err := certificate.ParseAuthority(o.Certificate, time.Time{})
	if err != nil {
		return nil, invalid("certificate", err.Error())
	}
	return &parsedAuthority{c, o}, nil
}

// CreateAuthority makes the organisation trust a certificate authority from now on;
// data is its certificate in PEM or DER. The error is policy.KindInvalid when that is
// not one of an authority, or not strong enough; policy.KindExists when the
// organisation trusts it already; policy.KindConflict beyond 10.
func (r *Registry) CreateAuthority(ctx context.Context, org policy.OrgID, data []byte, comments string) (Authority, error) {
	const op = "create certificate authority"
	c, err := certificate.ParseAuthority(data, r.now())
	if err != nil {
		return Authority{}, at(op, invalid("certificate", err.Error()))
	}
	if err := checkText("comments", comments, maxText); err != nil {
		return Authority{}, at(op, err)
	}
	var made Authority
	err = r.write(ctx, op, creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		key := authorityKey(h.scope, certificate.AuthorityID(c))
		if err := w.absent(key, "certificate authority"); err != nil {
			return err
		}
		if err := w.roomFor(h, store.KindAuthority, maxAuthorities, "certificate authorities"); err != nil {
			return err
		}
		record, err := put(w, key, authorityRecord{Certificate: c.Raw, Comments: comments, Created: w.now})
		if err != nil {
			return err
		}
		made = (&parsedAuthority{c, &record}).show()
		w.tell(Change{Kind: AuthorityCreated, Org: org, Incarnation: h.Record.Incarnation, Authority: made.ID})
		return nil
	})
	return made, err
}

// roomFor refuses with policy.KindConflict where h has as many of a kind as it may,
// as it will be after w.
func (w *writing) roomFor(h home, kind store.Kind, most int, what string) error {
	count := 0
	err := w.registry.store.Scan(h.scope.Prefix(kind), store.Key{}, func(store.Key, []byte) bool {
		count++
		return true
	})
	for key := range w.pending {
		if key.Kind() == kind {
			count++
		}
	}
	if err == nil && count >= most {
		return &policy.Error{Kind: policy.KindConflict, Public: "an organisation has at most " + strconv.Itoa(most) + " " + what}
	}
	return err
}

// Authority returns one authority of the organisation, or policy.KindNotFound.
func (r *Registry) Authority(ctx context.Context, org policy.OrgID, id policy.ID) (Authority, error) {
	all, err := r.Authorities(ctx, org)
	if err != nil {
		return Authority{}, err
	}
	for i := range all {
		if all[i].ID == id {
			return all[i], nil
		}
	}
	return Authority{}, at("read certificate authority", missing(store.ErrNotFound, "certificate authority"))
}

// Authorities lists the authorities of the organisation, by identifier.
func (r *Registry) Authorities(_ context.Context, org policy.OrgID) ([]Authority, error) {
	const op = "list certificate authorities"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, at(op, err)
	}
	found, _, err := list[authorityRecord](r.store, h.scope, store.KindAuthority, nil, 1, Page{Limit: maxPage})
	if err != nil || len(found) == 0 {
		return nil, at(op, err)
	}
	lists, _, err := list[listRecord](r.store, h.scope, store.KindRevocationList, nil, 2, Page{Limit: maxPage})
	if err != nil {
		return nil, at(op, err)
	}
	all := make([]Authority, 0, len(found))
	for i := range found {
		p, err := found[i].Record.parse()
		if err != nil {
			return nil, at(op, err)
		}
		o := p.show()
		for j := range lists {
			if state := lists[j].Record.state(); lists[j].Record.Authority == o.ID {
				o.Lists = append(o.Lists, state)
			}
		}
		all = append(all, o)
	}
	return all, nil
}

// DeleteAuthority takes the trust in an authority back. When it returns, every
// connection that a certificate of it opened has been told to end. The lists it
// signed stay where another authority is the same issuer.
func (r *Registry) DeleteAuthority(ctx context.Context, org policy.OrgID, id policy.ID) error {
	return r.write(ctx, "delete certificate authority", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if _, err := r.store.Get(authorityKey(h.scope, id)); err != nil {
			return missing(err, "certificate authority")
		}
		w.delete(authorityKey(h.scope, id))
		w.tell(Change{Kind: AuthorityDeleted, Org: org, Incarnation: h.Record.Incarnation, Authority: id})
		return w.orphanLists(h, id)
	})
}

// orphanLists finds another authority for the lists of one that goes, or removes them.
func (w *writing) orphanLists(h home, gone policy.ID) error {
	trust, err := w.registry.trustOf(h)
	if err != nil || trust == nil {
		return err
	}
	lists, _, err := list[listRecord](w.registry.store, h.scope, store.KindRevocationList, nil, 2, Page{Limit: maxPage})
	if err != nil {
		return err
	}
	for i := range lists {
		record := lists[i].Record
		if record.Authority != gone {
			continue
		}
		key := listKey(h.scope, lists[i].parts[0], record.Source)
		heir, ok := trust.Heir(lists[i].parts[0], gone)
		if !ok {
			w.delete(key)
			continue
		}
		record.Authority = heir
		if err := save(w, key, record); err != nil {
			return err
		}
	}
	return nil
}

// KeepList stores a list of revoked certificates. Source is the URL it was fetched
// from, signer the issuer that signed it, and authority the one that vouches for
// signer. Connections of certificates that are on it have been told to end when this
// returns. The error is policy.KindInvalid where the list does not hold,
// policy.KindConflict where a newer one is kept or there are 32.
func (r *Registry) KeepList(ctx context.Context, org policy.OrgID, incarnation uint64, authority policy.ID, signer []byte, source string, data []byte) error {
	return r.keepList(ctx, org, incarnation, listRecord{Authority: authority, Signer: signer, Source: source}, data)
}

// UploadList stores a list that an authority of the organisation signed, in PEM or
// DER; see KeepList. One that is out of date is policy.KindInvalid.
func (r *Registry) UploadList(ctx context.Context, org policy.OrgID, id policy.ID, data []byte) (Authority, error) {
	found, err := r.Authority(ctx, org, id)
	if err != nil {
		return Authority{}, err
	}
	err = r.keepList(ctx, org, 0, listRecord{Authority: id, Signer: found.Certificate}, data)
	if err != nil {
		return Authority{}, err
	}
	return r.Authority(ctx, org, id)
}

func (r *Registry) keepList(ctx context.Context, org policy.OrgID, incarnation uint64, record listRecord, data []byte) error {
	const op = "store list of revoked certificates"
	der, err := certificate.DERof(data)
	if err == nil {
		record.DER = der
		err = record.parse()
	}
	if err == nil && !r.now().Before(record.parsed.NextUpdate) {
		err = errors.New("must be in date: another one has been due since")
	}
	if err != nil {
		return at(op, invalid("crl", err.Error()))
	}
	if known, err := r.CertificateTrust(ctx, org); err == nil && known != nil && known.Has(record.Authority) {
		if before := known.Kept(record.parsed.Issuer, record.Source); before != nil && before.Same(record.parsed) {
			return nil // a source is asked far more often than it has something new
		}
	}
	return r.write(ctx, op, removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		if incarnation != 0 && incarnation != h.Record.Incarnation {
			return missing(store.ErrNotFound, "organisation")
		}
		trust, err := r.trustOf(h)
		if err != nil {
			return err
		}
		if trust == nil || !trust.Has(record.Authority) {
			return missing(store.ErrNotFound, "certificate authority")
		}
		fresh := record.parsed
		before := trust.Kept(fresh.Issuer, record.Source)
		switch {
		case before == nil:
			if err := w.roomFor(h, store.KindRevocationList, maxLists, "lists of revoked certificates"); err != nil {
				return err
			}
		case !fresh.Newer(before.List):
			return &policy.Error{Kind: policy.KindConflict, Public: "a newer list is kept already"}
		}
		record.Loaded = w.now
		if err := save(w, listKey(h.scope, fresh.Issuer, record.Source), record); err != nil {
			return err
		}
		if before == nil || fresh.Adds(before.List) {
			w.tell(Change{Kind: CertificatesRevoked, Org: org, Incarnation: h.Record.Incarnation, Revoked: fresh})
		}
		return nil
	})
}

// SetRevocation says what becomes of a certificate of which nobody can say whether
// it was revoked: RevocationStrict or RevocationLenient.
func (r *Registry) SetRevocation(ctx context.Context, org policy.OrgID, mode string) error {
	_, err := r.UpdateOrganisation(ctx, org, func(o *Organisation) error {
		if mode == "" {
			return invalid("mode", "must be strict or lenient")
		}
		o.Revocation = mode
		return nil
	})
	return err
}

// Revocation is what SetRevocation last said; strict where it never did.
func (r *Registry) Revocation(ctx context.Context, org policy.OrgID) (string, error) {
	o, err := r.Organisation(ctx, org)
	if err == nil && o.Revocation == "" {
		o.Revocation = RevocationStrict
	}
	return o.Revocation, err
}

func checkRevocation(mode string) error {
	if !slices.Contains([]string{"", RevocationStrict, RevocationLenient}, mode) {
		return invalid("revocation", "must be strict or lenient")
	}
	return nil
}

// clipText is s without what checkText refuses: names in certificates are anybody's.
func clipText(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < 0x20 || c >= 0x7f && c <= 0x9f {
			return '?'
		}
		return c
	}, strings.ToValidUTF8(s, "?"))
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "")
}

// TellRevoked tells the watchers that one certificate was revoked, of which no list
// is kept: its connections have been told to end when this returns.
func (r *Registry) TellRevoked(ctx context.Context, org policy.OrgID, incarnation uint64, step certificate.Step) error {
	return r.write(ctx, "tell of revoked certificate", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil || h.Record.Incarnation != incarnation {
			return err
		}
		w.tell(Change{Kind: CertificatesRevoked, Org: org, Incarnation: incarnation, Revoked: certificate.OnlyOne(step)})
		return nil
	})
}
