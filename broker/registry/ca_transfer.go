package registry

import (
	"errors"
	"strconv"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins/certificate"
	"github.com/cordon-mq/cordon/policy"
)

func takeAuthority(s *staging, l *exportLine) (placed, error) {
	o, err := taken[authorityRecord](l)
	if err != nil {
		return placed{}, err
	}
	p, err := o.parse()
	if err := errors.Join(err, checkText("comments", o.Comments, maxText), checkMoments(&o.Created)); err != nil {
		return placed{}, err
	}
	if s.moved.Records["certificate_authority"] >= maxAuthorities {
		return placed{}, invalid("certificate", "must be one of at most "+strconv.Itoa(maxAuthorities))
	}
	return placed{[]string{string(certificate.AuthorityID(p.certificate))}, saved(o)}, nil
}

func takeList(s *staging, l *exportLine) (placed, error) {
	o, err := taken[listRecord](l)
	if err != nil {
		return placed{}, err
	}
	if err := o.parse(); err != nil {
		return placed{}, invalid("der", err.Error())
	}
	if err := checkMoments(&o.Loaded); err != nil {
		return placed{}, err
	}
	if s.moved.Records["revocation_list"] >= maxLists || len(o.Source) > maxText {
		return placed{}, invalid("der", "must be one of at most "+strconv.Itoa(maxLists))
	}
	switch _, err := s.registry.store.Get(authorityKey(s.scope, o.Authority)); {
	case errors.Is(err, store.ErrNotFound):
		return placed{}, invalid("authority", "must be in the file")
	case err != nil:
		return placed{}, err
	}
	return placed{[]string{o.parsed.Issuer, sourceMark(o.Source)}, saved(o)}, nil
}

func adoptAuthority(w *writing, s *staging, h home, name []string) (bool, error) {
	id := policy.ID(name[0])
	o, isNew, err := staged[authorityRecord](w, s, authorityKey(h.scope, id), authorityKey(s.scope, id))
	if err != nil || !isNew {
		return false, err
	}
	if err := w.roomFor(h, store.KindAuthority, maxAuthorities, "certificate authorities"); err != nil {
		return false, err
	}
	w.tell(Change{Kind: AuthorityCreated, Org: h.Record.ID, Incarnation: h.Record.Incarnation, Authority: id})
	return true, save(w, authorityKey(h.scope, id), o)
}

func adoptList(w *writing, s *staging, h home, name []string) (bool, error) {
	key := h.scope.Key(store.KindRevocationList, name...)
	o, isNew, err := staged[listRecord](w, s, key, s.scope.Key(store.KindRevocationList, name...))
	if err != nil || !isNew {
		return false, err
	}
	if err := o.parse(); err != nil {
		return false, err
	}
	if err := w.roomFor(h, store.KindRevocationList, maxLists, "lists of revoked certificates"); err != nil {
		return false, err
	}
	w.tell(Change{Kind: CertificatesRevoked, Org: h.Record.ID, Incarnation: h.Record.Incarnation, Revoked: o.parsed})
	return true, save(w, key, o)
}
