package registry

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// staging is an import under way.
type staging struct {
	registry     *Registry
	org          policy.OrgID
	credentials  bool
	incarnation  uint64
	scope        store.Scope
	organisation *organisationRecord // once it was read
	ownTokens    bool                // a device has a self-chosen one
	groups       int                 // that were read, but those of gateways
	moved        Moved
	diagnosed    struct { // whose diagnostics are being read, and how many of them were
		of      string
		entries int
	}

	last    store.Key // of the records that were read
	waiting []waiting // read and not yet written
	bytes   int       // of their lines

	typ   policy.ID // the last type that was asked for, and its class
	class string
}

type waiting struct {
	key store.Key
	placed
}

// begin takes a number for the incarnation and marks it as one to be removed.
func (s *staging) begin(ctx context.Context) error {
	return s.registry.write(ctx, "import organisation", creation, func(w *writing) error {
		s.incarnation = w.stamp
		s.scope = store.In(s.org.String(), s.incarnation)
		return save(w, tombstoneKey(s.org.String(), s.incarnation), directoryEntry{Incarnation: s.incarnation})
	})
}

// read stages every record, up to and with the end.
func (s *staging) read(ctx context.Context, f *importFile) error {
	known := map[string]part{}
	for _, p := range parts() {
		known[p.name] = p
	}
	var buffer []byte
	for records := 0; ; records++ {
		text, err := f.next(buffer)
		if err != nil {
			return err
		}
		buffer = text
		var l exportLine
		if strict(text, &l) != nil {
			return f.bad(invalid("", "is not one that this program knows"))
		}
		if l.Kind == lineEnd {
			if err := s.flush(ctx); err != nil {
				return err
			}
			if err := f.checkEnd(&l, records); err != nil {
				return err
			}
			if s.organisation == nil {
				return f.bad(invalid("", "comes without an organisation"))
			}
			return s.checkSubjects()
		}
		f.sum.Write(text)
		p, ok := known[l.Kind]
		if !ok {
			return f.bad(invalid("kind", "is not known to this program; use a newer one"))
		}
		if err := s.take(ctx, p, &l, len(text)); err != nil {
			return f.bad(err)
		}
	}
}

// take checks one line and gathers what it stores.
func (s *staging) take(ctx context.Context, p part, l *exportLine, size int) error {
	switch {
	case l.Records != nil || l.SHA256 != "" || (l.Of != "") != owned(p.kind):
		return invalid("", "has a field of another kind of line")
	case p.kind != store.KindOrganisation && s.organisation == nil:
		return invalid("", "comes before the organisation's own record")
	}
	if len(s.waiting) >= bulkStep || s.bytes+size > bulkBytes || len(s.waiting) > 0 && s.waiting[0].key.Kind() != p.kind {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	record, err := p.take(s, l)
	if err != nil {
		return err
	}
	key := s.scope.Key(p.kind, record.name...)
	if key.IsZero() || key.Compare(s.last) <= 0 {
		return invalid("", "is not in order, or comes twice")
	}
	s.last = key
	s.waiting, s.bytes = append(s.waiting, waiting{key, record}), s.bytes+size
	s.moved.Records[p.name]++
	return nil
}

// flush writes what was gathered. All of it is of one kind, so that a record only
// ever depends on what was written before.
func (s *staging) flush(ctx context.Context) error {
	if len(s.waiting) == 0 {
		return nil
	}
	err := s.registry.write(ctx, "import organisation", creation, func(w *writing) error {
		w.reserve()
		for _, record := range s.waiting {
			if err := record.store(w, record.key); err != nil {
				return err
			}
		}
		return nil
	})
	s.waiting, s.bytes = s.waiting[:0], 0
	return err
}

// classOf is the class of a staged device type. Devices come type by type.
func (s *staging) classOf(typ policy.ID) (string, error) {
	if s.typ == typ && s.class != "" {
		return s.class, nil
	}
	found, err := load[DeviceType](s.registry.store, typeKey(s.scope, typ))
	if errors.Is(err, store.ErrNotFound) {
		return "", invalid("typeId", "must be a device type of the file")
	}
	s.typ, s.class = typ, found.Record.ClassID
	return s.class, err
}

// checkSubjects refuses credentials of nobody.
func (s *staging) checkSubjects() error {
	var failure error
	err := s.registry.store.Scan(s.scope.Prefix(store.KindCredential), store.Key{}, func(key store.Key, _ []byte) bool {
		subject, _ := subjectOf(s.scope, key.Parts())
		if _, failure = s.registry.store.Get(subject); errors.Is(failure, store.ErrNotFound) {
			failure = invalid("of", "must be somebody in the file; there is no "+credentialName(key.Parts()))
		}
		return failure == nil
	})
	return errors.Join(err, failure, s.checkRoom())
}

// reveal gives the name of the organisation to what was staged. Everything is on
// disk when it returns.
func (s *staging) reveal(ctx context.Context) error {
	var key APIKey
	token := s.registry.generate(generatedToken)
	err := s.registry.write(ctx, "import organisation", removal, func(w *writing) error {
		if err := w.absent(directoryKey(s.org), "organisation"); err != nil {
			return err
		}
		o := *s.organisation
		o.OwnTokens = o.OwnTokens || s.ownTokens
		h := home{s.scope, stamped[standing]{w.stamp, standing{ID: o.ID, Incarnation: s.incarnation}}}
		if !s.credentials {
			var err error
			if key, err = w.createAPIKey(h, APIKey{Comment: "first administrator after an import", Roles: []string{RoleAdminApp}}, token); err != nil {
				return err
			}
		}
		w.delete(tombstoneKey(s.org.String(), s.incarnation))
		w.tell(Change{Kind: OrganisationChanged, Org: s.org, Incarnation: s.incarnation})
		if s.moved.Records["policy"] > 0 {
			w.tell(Change{Kind: OrganisationPolicyChanged, Org: s.org, Incarnation: s.incarnation})
		}
		return errors.Join(save(w, organisationKey(s.scope), o), save(w, directoryKey(s.org), directoryEntry{Incarnation: s.incarnation}))
	})
	if err == nil && key.Key != "" {
		s.moved.APIKey, s.moved.APIToken = key.Key, token.text
	}
	return err
}

// merge adds what was staged to the organisation.
func (s *staging) merge(ctx context.Context) error {
	if err := s.checkClasses(); err != nil {
		return err
	}
	s.moved.Records, s.moved.Skipped = map[string]int{}, 0
	// Groups come first: devices and keys refer to them.
	order := slices.SortedStableFunc(slices.Values(parts()), func(a, b part) int {
		switch {
		case a.kind == b.kind:
			return 0
		case a.kind == store.KindGroup:
			return -1
		case b.kind == store.KindGroup:
			return 1
		default:
			return cmp.Compare(a.kind, b.kind)
		}
	})
	for _, p := range order {
		if p.adopt == nil {
			continue
		}
		for after, more := (store.Key{}), true; more; {
			names, last, err := s.page(p.kind, after)
			if err != nil {
				return err
			}
			if more = len(names) > 0; more {
				if err := s.adopt(ctx, p, names); err != nil {
					return err
				}
				after = last
			}
		}
	}
	return nil
}

// checkClasses refuses a merge before anything is added, where it would end half-way.
func (s *staging) checkClasses() error {
	live, err := s.registry.homeOf(s.org)
	if err != nil {
		return err
	}
	var failure error
	err = s.registry.store.Scan(s.scope.Prefix(store.KindDeviceType), store.Key{}, func(key store.Key, value []byte) bool {
		var staged, there stamped[DeviceType]
		if staged, failure = read[DeviceType](key, value); failure != nil {
			return false
		}
		there, failure = load[DeviceType](s.registry.store, typeKey(live.scope, staged.Record.ID))
		if errors.Is(failure, store.ErrNotFound) {
			failure = nil
		} else if failure == nil && there.Record.ClassID != staged.Record.ClassID {
			failure = classConflict(staged.Record.ID)
		}
		return failure == nil
	})
	return errors.Join(err, failure)
}

// page is the names of some staged records.
func (s *staging) page(kind store.Kind, after store.Key) (names [][]string, last store.Key, err error) {
	size := 0
	err = s.registry.store.Scan(s.scope.Prefix(kind), after, func(key store.Key, value []byte) bool {
		names, last = append(names, key.Parts()), key
		size += 2 * len(value) // and a credential, which is small
		return len(names) < bulkStep && size < bulkBytes
	})
	return names, last, err
}

func (s *staging) adopt(ctx context.Context, p part, names [][]string) error {
	added, skipped := 0, 0
	err := s.registry.write(ctx, "merge organisation", creation, func(w *writing) error {
		h, err := s.registry.homeOf(s.org)
		if err != nil {
			return err
		}
		w.reserve()
		w.pending = make(map[store.Key]int)
		for _, name := range names {
			isNew, err := p.adopt(w, s, h, name)
			switch {
			case err != nil:
				return err
			case isNew:
				added++
			default:
				skipped++
			}
		}
		return nil
	})
	if err == nil {
		s.moved.Records[p.name] += added
		s.moved.Skipped += skipped
	}
	return err
}
