package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// A value in the store is a format byte and a JSON text.
const formatJSON = 1

// stamped is a record with the number of the write that last touched it.
type stamped[T any] struct {
	Stamp  uint64 `json:"stamp"`
	Record T      `json:"record"`
}

func encode[T any](s stamped[T]) ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append([]byte{formatJSON}, text...), nil
}

// decode reads one value. Numbers in free-form data keep all their digits.
func decode[T any](value []byte) (stamped[T], error) {
	if len(value) == 0 || value[0] != formatJSON {
		return stamped[T]{}, errors.New("decode record: unknown format")
	}
	var s stamped[T]
	d := json.NewDecoder(bytes.NewReader(value[1:]))
	d.UseNumber()
	if err := d.Decode(&s); err != nil {
		return stamped[T]{}, fmt.Errorf("decode record: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return stamped[T]{}, errors.New("decode record: more than one value")
	}
	return s, nil
}

// getter reads one value. A store is one, and so is a write in the making.
type getter interface {
	Get(key store.Key) ([]byte, error)
}

// load reads one record; store.ErrNotFound when there is none.
func load[T any](s getter, key store.Key) (stamped[T], error) {
	value, err := s.Get(key)
	if err != nil {
		return stamped[T]{}, err
	}
	return read[T](key, value)
}

// read decodes the value of key.
func read[T any](key store.Key, value []byte) (stamped[T], error) {
	record, err := decode[T](value)
	if err != nil {
		return stamped[T]{}, fmt.Errorf("%v: %w", key, err)
	}
	return record, nil
}

func counterKey() store.Key { return store.Global().Key(store.KindIncarnation) }

func directoryKey(id policy.OrgID) store.Key {
	return store.Global().Key(store.KindDirectory, id.String())
}

// Tombstones share the directory's kind; no organisation has an empty name.
func tombstones() store.Prefix { return store.Global().Prefix(store.KindDirectory, "") }

func tombstoneKey(org string, incarnation uint64) store.Key {
	return store.Global().Key(store.KindDirectory, "", org, store.Uint64(incarnation))
}

func parseTombstone(key store.Key) (org string, incarnation uint64, ok bool) {
	parts := key.Parts()
	if len(parts) != 3 {
		return "", 0, false
	}
	incarnation, ok = store.ParseUint64(parts[2])
	return parts[1], incarnation, ok
}

func organisationKey(s store.Scope) store.Key { return s.Key(store.KindOrganisation) }

func typeKey(s store.Scope, id policy.ID) store.Key { return s.Key(store.KindDeviceType, string(id)) }

func deviceKey(s store.Scope, typ, id policy.ID) store.Key {
	return s.Key(store.KindDevice, string(typ), string(id))
}

func apiKeyKey(s store.Scope, key string) store.Key { return s.Key(store.KindAPIKey, key) }

func userKey(s store.Scope, name policy.ID) store.Key { return s.Key(store.KindUser, string(name)) }

// Page selects a part of a list. The zero Page is its beginning.
type Page struct {
	// After is the bookmark that came with the page before; opaque.
	After string
	// Limit is the largest number of entries, 1 to 1000; 0 means 25.
	Limit int
}

const (
	defaultPage = 25
	maxPage     = 1000
)

// entry is one record of a list.
type entry[T any] struct {
	parts []string
	stamped[T]
}

// list returns the records of a kind whose keys begin with first and have depth
// parts, and the bookmark of the next page, empty when this was the last.
func list[T any](s store.Reader, scope store.Scope, kind store.Kind, first []string, depth int, page Page) ([]entry[T], string, error) {
	after, limit, err := page.of(scope, kind, depth)
	if err != nil {
		return nil, "", err
	}
	var (
		found   []entry[T]
		more    bool
		failure error
	)
	err = s.Scan(scope.Prefix(kind, first...), after, func(key store.Key, value []byte) bool {
		parts := key.Parts()
		if len(parts) != depth {
			return true
		}
		if more = len(found) == limit; more {
			return false
		}
		record, err := read[T](key, value)
		if err != nil {
			failure = err
			return false
		}
		found = append(found, entry[T]{parts, record})
		return true
	})
	if err = errors.Join(err, failure); err != nil || !more {
		return found, "", err
	}
	return found, makeBookmark(found[len(found)-1].parts), nil
}

// of is the key after which the page begins, and how many entries it has.
func (p Page) of(scope store.Scope, kind store.Kind, depth int) (after store.Key, limit int, err error) {
	if p.After != "" {
		parts, ok := parseBookmark(p.After, depth)
		if !ok {
			return after, 0, invalid("bookmark", "must come from the page before")
		}
		after = scope.Key(kind, parts...)
	}
	if limit = min(p.Limit, maxPage); limit <= 0 {
		limit = defaultPage
	}
	return after, limit, nil
}

// No identifier contains a slash, so it can join the parts of a key.
func makeBookmark(parts []string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "/")))
}

func parseBookmark(s string, depth int) ([]string, bool) {
	if len(s) > 256 {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, false
	}
	parts := strings.Split(string(raw), "/")
	return parts, len(parts) == depth && makeBookmark(parts) == s
}
