package wasm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cordon-mq/cordon/policy"
)

const depthMost = 32 // of an answer's JSON

// decodeAnswer is strict: what a guest of another version, or a broken one, says
// must not be half understood.
func decodeAnswer(text []byte) (*answer, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	if err := checkJSON(text); err != nil {
		return nil, err
	}
	a := &answer{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(a); err != nil {
		return nil, shortened(err)
	}
	switch {
	case a.OK && (a.NotMine || a.Continue != nil || a.UnknownKID != ""):
		return nil, errors.New("ok beside what says otherwise")
	case a.NotMine && a.Continue != nil:
		return nil, errors.New("not_mine beside continue")
	case len(a.State) > stateBytes:
		return nil, fmt.Errorf("state of %d bytes, at most %d", len(a.State), stateBytes)
	case a.ExpiresAtMS < 0 || a.CacheTTLMS < 0:
		return nil, errors.New("a negative time")
	}
	return a, nil
}

// checkJSON refuses what encoding/json would let pass: a member twice, a member
// of the answer in another case, null, too much depth, and anything after the
// value.
func checkJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	if err := checkObject(d, 1, answerMembers); err != nil {
		return shortened(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// fields are the members an object may have, with those of objects in them; nil
// means any.
type fields map[string]fields

// answerMembers are those of an answer, from its type. It is immutable.
var answerMembers = fieldsOf(reflect.TypeFor[answer]())

func fieldsOf(t reflect.Type) fields {
	if t.Kind() != reflect.Struct {
		return nil
	}
	all := fields{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		all[name] = fieldsOf(f.Type)
	}
	return all
}

func checkObject(d *json.Decoder, depth int, known fields) error {
	if depth > depthMost {
		return fmt.Errorf("deeper than %d levels", depthMost)
	}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		below, ok := known[name]
		if known != nil && !ok {
			return errors.New("a member that auth_abi v1 does not have")
		}
		if seen[name] {
			return errors.New("a member twice")
		}
		seen[name] = true
		if err := checkValue(d, depth, below, known != nil); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// checkValue reads one value. typed says that it is a member of the answer itself,
// where null has no meaning.
func checkValue(d *json.Decoder, depth int, known fields, typed bool) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	switch t {
	case nil:
		if typed {
			return errors.New("null where auth_abi v1 has a value")
		}
	case json.Delim('{'):
		return checkObject(d, depth+1, known)
	case json.Delim('['):
		if depth >= depthMost {
			return fmt.Errorf("deeper than %d levels", depthMost)
		}
		for d.More() {
			if err := checkValue(d, depth+1, nil, false); err != nil {
				return err
			}
		}
		_, err := d.Token()
		return err
	}
	return nil
}

// shortened is err without what it quotes: the answer may repeat the credential.
func shortened(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON, at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("%s has the wrong type", kind.Field)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: ends too early")
	}
	for _, own := range []string{"a member", "null where", "deeper than"} {
		if strings.HasPrefix(err.Error(), own) {
			return err
		}
	}
	return errors.New("malformed")
}

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
	for _, part := range []struct {
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
	q.Credential.ID = fmt.Sprintf("plugin/%s/%s/%s/%s", p.name, s.Kind, q.Type, s.Name)
	return q, nil
}

var errExpired = errors.New("the proof has expired")
