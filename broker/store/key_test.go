package store_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/store"
)

// orgID stands for the organisation type of other packages.
type orgID string

func TestKeyEncoding(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		key   store.Key
		raw   string
		print string
	}{
		{"global", store.Global().Key(store.KindSchema), "\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x01", "global/schema"},
		{
			"organisation", store.In(orgID("org1x3"), 7).Key(store.KindDevice, "sensor", "d1"),
			"\x06org1x3" + "\x00\x00\x00\x00\x00\x00\x00\x07" + "\x12" + "\x00\x06sensor" + "\x00\x02d1",
			`org1x3@7/device/"sensor"/"d1"`,
		},
		{
			"empty and binary parts", store.In("o", 1<<63).Key(0x99, "", "\x00\xff"),
			"\x01o" + "\x80\x00\x00\x00\x00\x00\x00\x00" + "\x99" + "\x00\x00" + "\x00\x02\x00\xff",
			`o@9223372036854775808/kind-0x99/""/"\x00\xff"`,
		},
	}
	for _, test := range tests {
		if got := string(test.key.Bytes()); got != test.raw {
			t.Errorf("%s: encoded %q, want %q", test.name, got, test.raw)
		}
		if got := test.key.String(); got != test.print {
			t.Errorf("%s: printed %s, want %s", test.name, got, test.print)
		}
		if got, err := store.ParseKey([]byte(test.raw)); err != nil || got != test.key {
			t.Errorf("%s: parsed %v, %v", test.name, got, err)
		}
	}
}

func TestInvalidKeys(t *testing.T) {
	t.Parallel()
	org := store.In("org001", 1)
	tests := []struct {
		name string
		key  store.Key
	}{
		{"zero", store.Key{}},
		{"zero scope", store.Scope{}.Key(store.KindDevice)},
		{"no organisation", store.In("", 1).Key(store.KindDevice)},
		{"no incarnation", store.In("org001", 0).Key(store.KindDevice)},
		{"long organisation", store.In(strings.Repeat("o", 256), 1).Key(store.KindDevice)},
		{"no kind", org.Key(0, "d1")},
		{"long part", org.Key(store.KindDevice, strings.Repeat("p", 65536))},
		{"long key", org.Key(store.KindDevice, strings.Repeat("p", 40000), strings.Repeat("p", 25000))},
	}
	for _, test := range tests {
		key := test.key
		if !key.IsZero() || key.Org() != "" || key.Incarnation() != 0 || key.Kind() != 0 || key.Parts() != nil {
			t.Errorf("%s: made %.60v", test.name, key)
		}
		if key.Scope() != (store.Scope{}) || key.String() != "invalid key" {
			t.Errorf("%s: scope %v, printed %s", test.name, key.Scope(), key)
		}
	}
	for name, prefix := range map[string]store.Prefix{
		"zero scope": store.Scope{}.All(),
		"no kind":    org.Prefix(0),
		"no org":     store.In("", 1).Prefix(store.KindDevice),
	} {
		if prefix != (store.Prefix{}) {
			t.Errorf("%s: made prefix %q", name, prefix.Bytes())
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	const zero8 = "\x00\x00\x00\x00\x00\x00\x00\x00"
	const one8 = "\x00\x00\x00\x00\x00\x00\x00\x01"
	tests := []struct{ name, raw string }{
		{"nothing", ""},
		{"text", "client:filter"},
		{"only a scope", "\x00" + zero8},
		{"organisation cut short", "\x06org"},
		{"incarnation cut short", "\x01o\x00\x00"},
		{"no kind", "\x01o" + one8},
		{"kind zero", "\x01o" + one8 + "\x00"},
		{"global with an incarnation", "\x00" + one8 + "\x01"},
		{"organisation without incarnation", "\x01o" + zero8 + "\x01"},
		{"half a length", "\x01o" + one8 + "\x12" + "\x00"},
		{"part cut short", "\x01o" + one8 + "\x12" + "\x00\x05four"},
		{"too long", "\x01o" + one8 + "\x12" + strings.Repeat("\x00\x00", 32500)},
	}
	for _, test := range tests {
		if key, err := store.ParseKey([]byte(test.raw)); !errors.Is(err, store.ErrInvalidKey) || !key.IsZero() {
			t.Errorf("%s: %v, %v; want %v", test.name, key, err, store.ErrInvalidKey)
		}
	}
}

// Kind numbers are on disk: this table changes only by growing.
func TestKindNumbers(t *testing.T) {
	t.Parallel()
	want := map[store.Kind]string{
		0x01: "schema", 0x02: "directory", 0x03: "incarnation", 0x04: "decision-log",
		0x10: "organisation", 0x11: "device-type", 0x12: "device",
		0x13: "credential", 0x14: "api-key", 0x15: "user", 0x16: "policy", 0x17: "role", 0x18: "claim", 0x1a: "group",
		0x1b: "server-certificate", 0x1c: "managed-device", 0x1d: "action-bundle", 0x1e: "authority", 0x1f: "revocation-list",
		0x20: "session", 0x21: "subscription", 0x22: "message", 0x23: "queue",
		0x24: "inbound", 0x25: "outbound", 0x26: "retained", 0x27: "will", 0x28: "arrival",
		0x30: "client-state", 0x31: "connection-log", 0x32: "last-event", 0x33: "traffic", 0x34: "noting", 0x35: "diagnostic",
		0x36: "management-request", 0x37: "management-task", 0x38: "management-open", 0x39: "violation",
		0x40: "group-member", 0x41: "attached", 0x42: "role-holder", 0x43: "registered",
	}
	for kind := range store.Kind(0xff) {
		name, known := want[kind]
		if got := kind.String(); known && got != name || !known && !strings.HasPrefix(got, "kind-") {
			t.Errorf("kind %#02x is %q, want %q", byte(kind), got, name)
		}
	}
}

func TestParseUint64(t *testing.T) {
	t.Parallel()
	if n, ok := store.ParseUint64(store.Uint64(1<<40 + 5)); n != 1<<40+5 || !ok {
		t.Errorf("round trip: %d, %v", n, ok)
	}
	for _, part := range []string{"", "1234567", "123456789"} {
		if n, ok := store.ParseUint64(part); ok {
			t.Errorf("%q parsed as %d", part, n)
		}
	}
}

// fields are what a key is made of.
type fields struct {
	org         string
	incarnation uint64
	kind        store.Kind
	parts       []string
}

func (f fields) scope() store.Scope { return store.In(f.org, f.incarnation) }
func (f fields) key() store.Key     { return f.scope().Key(f.kind, f.parts...) }

// drawFields draws from few values, so that two draws are often near each
// other.
func drawFields(t *rapid.T, name string) fields {
	word := rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 'b'}), 0, 4, -1)
	return fields{
		org:         rapid.StringMatching(`[ab]{1,4}`).Draw(t, name+" org"),
		incarnation: rapid.SampledFrom([]uint64{1, 2, 0x61, 1 << 56}).Draw(t, name+" incarnation"),
		kind:        rapid.SampledFrom([]store.Kind{1, 2, 0x61}).Draw(t, name+" kind"),
		parts:       rapid.SliceOfN(word, 0, 3).Draw(t, name+" parts"),
	}
}

func TestKeysKeepApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawFields(t, "a"), drawFields(t, "b")
		rawA, rawB := a.key().Bytes(), b.key().Bytes()

		sameScope := a.org == b.org && a.incarnation == b.incarnation
		if !sameScope && bytes.HasPrefix(rawB, rawA) {
			t.Fatalf("%v is a prefix of %v", a.key(), b.key())
		}
		if got := a.scope().All().Covers(b.key()); got != sameScope {
			t.Fatalf("all of %v covers %v: %v", a.scope(), b.key(), got)
		}
		n := len(a.parts)
		under := sameScope && a.kind == b.kind && len(b.parts) >= n && slices.Equal(a.parts, b.parts[:n])
		if got := a.scope().Prefix(a.kind, a.parts...).Covers(b.key()); got != under {
			t.Fatalf("prefix %v covers %v: %v", a.key(), b.key(), got)
		}
		if got, want := a.key().Compare(b.key()), bytes.Compare(rawA, rawB); got != want {
			t.Fatalf("compare %v with %v: %d, encoded %d", a.key(), b.key(), got, want)
		}
	})
}

// Whatever parses is what its fields make, and belongs to the organisation it
// names.
func FuzzParseKey(f *testing.F) {
	f.Add(store.SchemaKey().Bytes())
	f.Add(store.In("org001", 1).Key(store.KindDevice, "sensor", "d1").Bytes())
	f.Add(store.In("a", 1<<63).Key(store.KindQueue, "", store.Uint64(5)).Bytes())
	f.Add([]byte("\x06org001"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		key, err := store.ParseKey(raw)
		if err != nil {
			if !key.IsZero() {
				t.Fatalf("refused, and yet %v", key)
			}
			return
		}
		scope := store.Global()
		if key.Org() != "" {
			scope = store.In(key.Org(), key.Incarnation())
		}
		if again := scope.Key(key.Kind(), key.Parts()...); again != key || !bytes.Equal(again.Bytes(), raw) {
			t.Fatalf("parsed %v, made again %v", key, again)
		}
		if key.Scope() != scope || !scope.All().Covers(key) {
			t.Fatalf("%v is not in its own scope", key)
		}
		for _, neighbour := range []store.Scope{store.Global(), store.In(key.Org()+"0", 1), store.In(key.Org(), key.Incarnation()+1)} {
			if neighbour != scope && neighbour != (store.Scope{}) && neighbour.All().Covers(key) {
				t.Fatalf("%v is covered by the neighbour %v", key, neighbour)
			}
		}
		if key.String() == "" {
			t.Fatal("printed nothing")
		}
	})
}
