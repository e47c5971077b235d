package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// part is one kind of record in an export. A kind of an organisation's registry
// that is none of parts cannot be exported, and then nothing can: a file that
// silently lacks something is worth less than an error.
type part struct {
	name string
	kind store.Kind
	// show is what the file has of a stored value.
	show func(value []byte) (any, error)
	// take checks what a file has, and returns what is left to do in the write that
	// stages it.
	take func(s *staging, l *exportLine) (placed, error)
	// adopt adds a staged record to the organisation h, and reports whether it did:
	// one that is there already stays as it is. Nil: the part is of the organisation
	// as a whole, and stays.
	adopt func(w *writing, s *staging, h home, name []string) (bool, error)
}

// placed is a record on its way into the store: the parts of its key, and what
// stores it there.
type placed struct {
	name  []string
	store func(w *writing, key store.Key) error
}

// parts are in the order of their kinds, which is that of their keys.
func parts() []part {
	return []part{
		{"organisation", store.KindOrganisation, shown(bareOrganisation), takeOrganisation, nil},
		{"device_type", store.KindDeviceType, shown[DeviceType](nil), takeType, adoptType},
		{"device", store.KindDevice, shown(bareDevice), takeDevice, adoptDevice},
		{"credential", store.KindCredential, shown(bareCredential), takeCredential, nil},
		{"api_key", store.KindAPIKey, shown(func(k *APIKey) { k.Reach.bare() }), takeAPIKey, adoptAPIKey},
		{"user", store.KindUser, shown[User](nil), takeUser, adoptUser},
		{"policy", store.KindPolicy, shown[OrganisationPolicy](nil), takePolicy, adoptPolicy},
		{"role", store.KindRole, shown[Role](nil), takeRole, adoptRole},
		{"claim", store.KindClaim, shown(func(c *Claim) { c.Incarnation = 0 }), takeClaim, adoptClaim},
		{"group", store.KindGroup, shown(func(g *Group) { g.Incarnation = 0 }), takeGroup, adoptGroup},
		{"server_certificate", store.KindServerCertificate, shown(bareServerCertificate), takeServerCertificate, adoptServerCertificate},
		{"managed_device", store.KindManagedDevice, shown[Managed](nil), takeManaged, adoptManaged},
		{"action_bundle", store.KindActionBundle, shown[ActionBundle](nil), takeBundle, adoptBundle},
		{"certificate_authority", store.KindAuthority, shown[authorityRecord](nil), takeAuthority, adoptAuthority},
		{"revocation_list", store.KindRevocationList, shown[listRecord](nil), takeList, adoptList},
		{"noting", store.KindNoting, showNoting, takeNoting, nil},
		{"diagnostic", store.KindDiagnostic, showDiagnostic, takeDiagnostic, adoptDiagnostic},
	}
}

func partOf(kind store.Kind) (part, bool) {
	all := parts()
	i := slices.IndexFunc(all, func(p part) bool { return p.kind == kind })
	if i < 0 {
		return part{}, false
	}
	return all[i], true
}

// lastOfRegistry is the highest kind that a registry's records may have.
const lastOfRegistry store.Kind = 0x1f

// shown decodes a value and strips what only means something in its own store.
func shown[T any](strip func(*T)) func([]byte) (any, error) {
	return func(value []byte) (any, error) {
		found, err := decode[T](value)
		if err == nil && strip != nil {
			strip(&found.Record)
		}
		return found.Record, err
	}
}

// The names that the operator allowed are no part of a file: they are allowed here.
func bareOrganisation(o *organisationRecord) { o.Incarnation, o.ServerNames = 0, nil }

func bareCredential(c *credential) {
	c.Current.Version = 0
	if c.Previous != nil {
		c.Previous.Version = 0
	}
}

// taken reads the record of a line, strictly: what this program does not know, it
// would lose.
func taken[T any](l *exportLine) (record T, err error) {
	d := json.NewDecoder(bytes.NewReader(l.Record))
	d.UseNumber()
	d.DisallowUnknownFields()
	if err := d.Decode(&record); err != nil {
		return record, invalid("record", "is not one that this program knows: "+decodeProblem(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return record, invalid("record", "must be one object")
	}
	return record, nil
}

// decodeProblem names a field and never what is in it.
func decodeProblem(err error) string {
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch):
		return "field " + mismatch.Field + " is of another type"
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return strings.TrimPrefix(err.Error(), "json: ")
	default:
		return "not valid"
	}
}

// saved stores record as it is.
func saved[T any](record T) func(*writing, store.Key) error {
	return func(w *writing, key store.Key) error { return save(w, key, record) }
}

func checkMoments(moments ...*time.Time) error {
	for _, t := range moments {
		if err := checkTime("created", t); err != nil {
			return err
		}
	}
	return nil
}

func takeOrganisation(s *staging, l *exportLine) (placed, error) {
	o, err := taken[organisationRecord](l)
	switch {
	case err != nil:
		return placed{}, err
	case o.ID != s.org:
		return placed{}, invalid("id", "must be the organisation of the file")
	}
	if err := errors.Join(o.check(), checkMoments(&o.Created, &o.Updated)); err != nil {
		return placed{}, err
	}
	o.Incarnation, o.ServerNames = s.incarnation, nil
	s.organisation = &o
	return placed{store: saved(o)}, nil
}

func takeType(_ *staging, l *exportLine) (placed, error) {
	t, err := taken[DeviceType](l)
	if err != nil {
		return placed{}, err
	}
	_, idErr := policy.ParseID("id", string(t.ID))
	if err := errors.Join(idErr, t.check(), checkMoments(&t.Created, &t.Updated)); err != nil {
		return placed{}, err
	}
	return placed{[]string{string(t.ID)}, saved(t)}, nil
}

func takeDevice(s *staging, l *exportLine) (placed, error) {
	d, err := taken[Device](l)
	if err != nil {
		return placed{}, err
	}
	_, typErr := policy.ParseID("typeId", string(d.Type))
	_, idErr := policy.ParseID("deviceId", string(d.ID))
	if err := errors.Join(typErr, idErr, d.check(), checkMoments(&d.Created, &d.Updated)); err != nil {
		return placed{}, err
	}
	if d.GatewayType != "" || d.GatewayID != "" {
		_, typErr := policy.ParseID("gatewayTypeId", string(d.GatewayType))
		_, idErr := policy.ParseID("gatewayId", string(d.GatewayID))
		if err := errors.Join(typErr, idErr); err != nil {
			return placed{}, err
		}
	}
	if class, err := s.classOf(d.Type); err != nil || class != d.ClassID {
		return placed{}, errors.Join(err, invalid("classId", "must be that of its device type"))
	}
	if err := s.checkPlaces(&d); err != nil {
		return placed{}, err
	}
	return placed{[]string{string(d.Type), string(d.ID)}, func(w *writing, key store.Key) error {
		d.Incarnation = w.stamp
		w.index(s.scope, &d)
		return save(w, key, d)
	}}, nil
}

func takeCredential(s *staging, l *exportLine) (placed, error) {
	if !s.credentials {
		return placed{}, invalid("kind", "must not be there in a file that says it has no credentials")
	}
	c, err := taken[credential](l)
	if err != nil {
		return placed{}, err
	}
	name := strings.Split(l.Of, "/")
	subject, ok := subjectOf(s.scope, name)
	switch {
	case !ok || subject.IsZero():
		return placed{}, invalid("of", "must be device/TYPE/ID, apikey/KEY, user/NAME or claim/ID")
	case c.Current.Hash.scheme == 0 || c.Previous != nil && c.Previous.Hash.scheme == 0:
		return placed{}, invalid("hash", "is required")
	}
	moments := checkMoments(&c.Current.Created)
	if c.Previous != nil {
		moments = errors.Join(moments, checkMoments(&c.Previous.Created, &c.Previous.Until))
	}
	if moments != nil {
		return placed{}, moments
	}
	if name[0] == "device" && c.slow() {
		s.ownTokens = true
	}
	return placed{name, func(w *writing, key store.Key) error { return save(w, key, c.numbered(w)) }}, nil
}

// subjectOf is where the record of a credential's subject is.
func subjectOf(scope store.Scope, name []string) (store.Key, bool) {
	switch {
	case len(name) == 3 && name[0] == "device":
		return deviceKey(scope, policy.ID(name[1]), policy.ID(name[2])), true
	case len(name) == 2 && name[0] == "apikey":
		return apiKeyKey(scope, name[1]), true
	case len(name) == 2 && name[0] == "user":
		return userKey(scope, policy.ID(name[1])), true
	case len(name) == 2 && name[0] == "claim":
		return claimKey(scope, policy.ID(name[1])), true
	default:
		return store.Key{}, false
	}
}

// slow reports whether a check of c may cost a slow hash.
func (c *credential) slow() bool {
	return c.Current.Hash.scheme == slow || c.Previous != nil && c.Previous.Hash.scheme == slow
}

// numbered gives the proofs of c versions of this store: to the current one that of
// the write, to the one before it the number that the write reserved.
func (c credential) numbered(w *writing) credential {
	c.Current.Version = w.stamp
	if c.Previous != nil {
		before := *c.Previous
		before.Version = w.reserved
		c.Previous = &before
	}
	return c
}

func takeAPIKey(s *staging, l *exportLine) (placed, error) {
	k, err := taken[APIKey](l)
	if err != nil {
		return placed{}, err
	}
	if org, ok := parseAPIKey(k.Key); !ok || org != s.org {
		return placed{}, invalid("key", "must be one of the organisation")
	}
	roles, err := checkRoles(k.Roles, RoleStandardApp)
	if err := errors.Join(err, k.check(), s.checkReach(&k.Reach, roles), checkMoments(&k.Created, &k.Updated)); err != nil {
		return placed{}, err
	}
	k.Roles = roles
	return placed{[]string{k.Key}, saved(k)}, nil
}

func takeUser(s *staging, l *exportLine) (placed, error) {
	u, err := taken[User](l)
	if err != nil {
		return placed{}, err
	}
	if s.moved.Records["user"] >= maxUsers {
		return placed{}, invalid("name", "must be one of at most "+strconv.Itoa(maxUsers))
	}
	_, nameErr := policy.ParseID("name", string(u.Name))
	roles, err := checkRoles(u.Roles, RoleReader)
	if err := errors.Join(nameErr, err, checkMoments(&u.Created, &u.Updated)); err != nil {
		return placed{}, err
	}
	u.Roles = roles
	return placed{[]string{string(u.Name)}, saved(u)}, nil
}

// takePolicy checks what the registry checks. A bundle that does not compile where
// it comes to refuses its organisation's clients, as everywhere.
func takePolicy(_ *staging, l *exportLine) (placed, error) {
	p, err := taken[OrganisationPolicy](l)
	if err != nil {
		return placed{}, err
	}
	return placed{store: saved(p)}, errors.Join(p.check(), checkMoments(&p.Updated))
}

func adoptType(w *writing, s *staging, h home, name []string) (bool, error) {
	key := typeKey(h.scope, policy.ID(name[0]))
	fresh, isNew, err := staged[DeviceType](w, s, key, typeKey(s.scope, policy.ID(name[0])))
	if err != nil || !isNew {
		return false, err
	}
	return true, save(w, key, fresh)
}

func adoptDevice(w *writing, s *staging, h home, name []string) (bool, error) {
	typ, id := policy.ID(name[0]), policy.ID(name[1])
	key := deviceKey(h.scope, typ, id)
	d, isNew, err := staged[Device](w, s, key, deviceKey(s.scope, typ, id))
	if err != nil || !isNew {
		return false, err
	}
	template, err := recall[DeviceType](w.registry, typeKey(h.scope, typ))
	if err != nil {
		return false, missing(err, "device type")
	}
	if template.Record.ClassID != d.ClassID {
		return false, classConflict(typ)
	}
	d.Incarnation = w.stamp
	if err := s.adoptPlaces(w, h, &d); err != nil {
		return false, err
	}
	kind := SubjectChanged
	if d.Disabled {
		kind = SubjectDisabled
	}
	w.tell(d.change(kind, h))
	return true, errors.Join(save(w, key, d), w.adoptCredential(s, h, deviceCredential(typ, id)))
}

func classConflict(typ policy.ID) error {
	return &policy.Error{Kind: policy.KindConflict, Public: fmt.Sprintf("device type %s is of another class in the organisation", typ)}
}

func adoptAPIKey(w *writing, s *staging, h home, name []string) (bool, error) {
	key := apiKeyKey(h.scope, name[0])
	k, isNew, err := staged[APIKey](w, s, key, apiKeyKey(s.scope, name[0]))
	if err != nil || !isNew {
		return false, err
	}
	if k.Reach.Groups, err = s.adopted(w, h, k.Reach.Groups); err != nil {
		return false, err
	}
	kind := SubjectChanged
	if k.Disabled {
		kind = SubjectDisabled
	}
	w.tell(k.change(kind, h))
	return true, errors.Join(save(w, key, k), w.adoptCredential(s, h, apiKeyCredential(k.Key)))
}

func adoptUser(w *writing, s *staging, h home, name []string) (bool, error) {
	key := userKey(h.scope, policy.ID(name[0]))
	u, isNew, err := staged[User](w, s, key, userKey(s.scope, policy.ID(name[0])))
	if err != nil || !isNew {
		return false, err
	}
	if err := w.roomForUser(h); err != nil {
		return false, err
	}
	kind := SubjectChanged
	if u.Disabled {
		kind = SubjectDisabled
	}
	w.tell(u.change(kind, h))
	return true, errors.Join(save(w, key, u), w.adoptCredential(s, h, userCredential(u.Name)))
}

func adoptPolicy(w *writing, s *staging, h home, _ []string) (bool, error) {
	p, isNew, err := staged[OrganisationPolicy](w, s, policyKey(h.scope), policyKey(s.scope))
	if err != nil || !isNew {
		return false, err
	}
	w.tell(Change{Kind: OrganisationPolicyChanged, Org: h.Record.ID, Incarnation: h.Record.Incarnation})
	return true, save(w, policyKey(h.scope), p)
}

// staged reads a record that is to become that of key, unless there is one.
func staged[T any](w *writing, s *staging, key, from store.Key) (record T, isNew bool, err error) {
	if _, err := w.Get(key); !errors.Is(err, store.ErrNotFound) {
		return record, false, err
	}
	found, err := load[T](s.registry.store, from)
	return found.Record, err == nil, err
}

// adoptCredential gives a subject that was just added its staged credential, if it
// has one.
func (w *writing) adoptCredential(s *staging, h home, id credentialID) error {
	found, err := load[credential](s.registry.store, id.key(s.scope))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(id), "device/") && found.Record.slow() {
		if err := w.noteOwnTokens(h); err != nil {
			return err
		}
	}
	return save(w, id.key(h.scope), found.Record.numbered(w))
}
