package wasm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

// binding says whose principals a plugin may answer with.
type binding struct {
	orgs []policy.OrgID
}

func (b binding) has(org policy.OrgID) bool { return slices.Contains(b.orgs, org) }

// only is the organisation where there is no choice, else zero.
func (b binding) only() policy.OrgID {
	if len(b.orgs) == 1 {
		return b.orgs[0]
	}
	return policy.OrgID{}
}

// principal makes the principal of a good answer. org is the organisation the
// plugin was asked for, zero where the answer has to say. Nothing the guest says
// leads out of the binding.
func (p *plugin) principal(a *answer, org policy.OrgID, now time.Time) (policy.Principal, error) {
	none := policy.Principal{}
	if a.Org != "" {
		said, err := policy.ParseOrgID(a.Org)
		if err != nil || !org.IsZero() && said != org {
			return none, errors.New("the answer is of another organisation")
		}
		org = said
	}
	if !p.binding.has(org) {
		return none, errors.New("the answer is of an organisation outside of the binding")
	}
	q := policy.Principal{Org: org, Verifier: p.name, Claims: a.Claims}
	var wantType, wantID, wantApp bool
	switch a.Subject.Kind {
	case "device":
		q.Kind, wantType, wantID = policy.KindDevice, true, true
	case "gateway":
		q.Kind, wantType, wantID = policy.KindGateway, true, true
	case "application":
		q.Kind, wantApp = policy.KindApplication, true
	case "user":
		q.Kind, wantID = policy.KindUser, true
	default:
		return none, errors.New("subject.kind is none of device, gateway, application, user")
	}
	for _, part := range [...]struct {
		field, text string
		want        bool
		id          *policy.ID
	}{
		{"subject.type", a.Subject.Type, wantType, &q.Type},
		{"subject.id", a.Subject.ID, wantID, &q.ID},
		{"subject.app", a.Subject.App, wantApp, &q.App},
	} {
		if !part.want && part.text != "" {
			return none, fmt.Errorf("%s does not belong to a subject of this kind", part.field)
		}
		if !part.want {
			continue
		}
		id, err := policy.ParseID(part.field, part.text)
		if err != nil {
			return none, err
		}
		*part.id = id
	}
	if a.ExpiresAtMS > 0 && a.ExpiresAtMS < math.MaxInt64/int64(time.Millisecond) {
		q.ExpiresAt = time.UnixMilli(a.ExpiresAtMS)
	}
	if q.Expired(now) {
		return none, errExpired
	}
	s := q.Subject()
	q.Credential.ID = "plugin/" + p.name + "/" + s.Kind.String() + "/" + string(q.Type) + "/" + s.Name
	return q, nil
}

var errExpired = errors.New("the proof has expired")
