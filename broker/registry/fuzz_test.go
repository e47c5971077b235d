package registry

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func FuzzParseClientID(f *testing.F) {
	for _, s := range []string{
		"", "d", "d:", "d:acme01:sensor:d1", "g:acme01:hub:g1", "a:acme01:app", "A:acme01:app", "A:acme01:app:1",
		"d:acme01:sensor", "d:acme01:sensor:d1:x", "a:acme01:app:1", "A:acme01:app:", "x:acme01:sensor:d1", "d:ACME01:s:d", "d:acme01:+:#",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseClientID(s)
		claims := strings.HasPrefix(s, "d:") || strings.HasPrefix(s, "g:") || strings.HasPrefix(s, "a:") || strings.HasPrefix(s, "A:")
		if claims != (c.kind != policy.KindNobody) {
			t.Fatalf("%q is of kind %v", s, c.kind)
		}
		if !claims || err != nil {
			return
		}
		// What was read spells exactly what was written.
		parts := []string{s[:1], c.org.String(), string(c.typ), string(c.id)}
		if c.kind == policy.KindApplication {
			parts = []string{s[:1], c.org.String(), string(c.app)}
			if c.instance != "" {
				parts = append(parts, string(c.instance))
			}
		}
		if back := strings.Join(parts, ":"); back != s {
			t.Fatalf("%q was read as %q", s, back)
		}
	})
}

func FuzzUsername(f *testing.F) {
	for _, s := range []string{"a-acme01-0123456789", "a-acme01-012345678", "a--0123456789", "g/acme01/hub/g1", "g-acme01-hub-g-1", "g/a/b", "g", "ann@acme01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if org, ok := parseAPIKey(s); ok && (!strings.HasPrefix(s, "a-"+org.String()+"-") || len(s) != len(org.String())+13) {
			t.Fatalf("%q is an API key of %v", s, org)
		}
		if org, typ, id, ok := parseGatewayName(s); ok {
			if back := strings.Join([]string{"g", org.String(), string(typ), string(id)}, s[1:2]); back != s {
				t.Fatalf("%q was read as %q", s, back)
			}
		}
	})
}

// A credential record is read as exactly one thing, or refused; whatever is
// read is bounded in what a check of it may cost.
func FuzzCredentialRecord(f *testing.F) {
	for _, c := range []credential{
		{Current: proof{Version: 1, Hash: fastHash([]byte("x"))}},
		{
			Current:  proof{Version: 2, Hash: slowHash([]byte("x"), cheap()), Created: time.Unix(1, 0).UTC()},
			Previous: &retired{proof{Version: 1, Hash: fastHash([]byte("y"))}, time.Unix(2, 0).UTC()},
		},
	} {
		value, err := encode(stamped[credential]{7, c})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	f.Add([]byte{})
	f.Add([]byte("\x01{}"))
	f.Add([]byte(`` + "\x01" + `{"record":{"current":{"hash":"$argon2id$v=19$m=65536,t=8,p=1$` + zeroSalt + `$` + zeroSum + `"}}}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		read, err := decode[credential](value)
		if err != nil {
			return
		}
		proofs := read.Record.proofs(time.Unix(0, 0))
		for _, p := range proofs {
			if p.Hash.scheme == slow && !p.Hash.cost.valid() {
				t.Fatalf("read the cost %+v", p.Hash.cost)
			}
			if p.Hash.scheme != slow && p.Hash.holds([]byte("guess")) {
				t.Fatal("a guess fits")
			}
		}
		if read.Record.Current.Hash.scheme == 0 {
			return // holds nothing, and cannot be written
		}
		again, err := encode(read)
		if err != nil {
			return // a previous hash or a time that cannot be written
		}
		if back, err := decode[credential](again); err != nil || !reflect.DeepEqual(back, read) {
			t.Fatalf("%+v became %+v, %v", read, back, err)
		}
	})
}

func FuzzBookmark(f *testing.F) {
	f.Add(makeBookmark([]string{"sensor", "d1"}), 2)
	f.Add("", 1)
	f.Fuzz(func(t *testing.T, s string, depth int) {
		parts, ok := parseBookmark(s, depth)
		if ok && len(parts) != depth {
			t.Fatalf("%q has %d parts, want %d", s, len(parts), depth)
		}
		if ok && makeBookmark(parts) != s {
			t.Fatalf("%q was read as %q", s, makeBookmark(parts))
		}
	})
}
