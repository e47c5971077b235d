package registry

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/plugins"
)

// No secret is in any key or value of the store, in the log or in an error.
func TestSecretsCannotBeRecovered(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		seed := must[Seed](t)(f.SeedOrganisation(ctx, acme, ""))
		f.deviceType(acme, "sensor", ClassDevice)
		const own, second, wrong, improper = "self-chosen-token", "another-own-token", "wrong-but-secret", "not a (token)"
		secrets := []string{seed.APIToken, seed.AdminPassword, own, second, wrong, improper}
		secrets = append(secrets, f.device(acme, "sensor", "d1", ""), f.device(acme, "sensor", "d2", own))
		for _, token := range []string{second, ""} {
			shown := must[string](t)(f.ReplaceDeviceToken(ctx, acme, "sensor", "d2", plugins.NewSecret([]byte(token)), maxGrace))
			secrets = append(secrets, shown)
		}
		var said bytes.Buffer
		for _, id := range []string{"d1", "d2", "none"} {
			_, err := f.connect(ctx, "d:acme01:sensor:"+id, "use-token-auth", wrong)
			fmt.Fprintf(&said, "%v %+v %#v\n", err, err, err)
		}
		_, err := f.ReplaceDeviceToken(ctx, acme, "sensor", "d1", plugins.NewSecret([]byte(improper)), 0)
		fmt.Fprintf(&said, "%v %+v %#v\n", err, err, err)
		f.organisation(other) // to delete it, so that the background runs, too
		f.ok(f.DeleteOrganisation(ctx, other))

		holds := func(where string, text []byte) {
			for _, secret := range secrets {
				if secret == "" || bytes.Contains(text, []byte(secret)) {
					t.Errorf("%s holds the secret %q", where, secret)
				}
			}
		}
		scanned := 0
		for _, prefix := range []store.Prefix{store.Global().All(), store.In("acme01", seed.Organisation.Incarnation).All()} {
			f.ok(f.store.Scan(prefix, store.Key{}, func(key store.Key, value []byte) bool {
				scanned++
				holds(key.String(), append(key.Bytes(), value...))
				return true
			}))
		}
		if scanned < 10 {
			t.Errorf("scanned %d keys, want all", scanned)
		}
		f.Close()
		holds("an error", said.Bytes())
		holds("the log", f.log.Bytes())
	})
}

func TestRandomText(t *testing.T) {
	t.Parallel()
	for _, alphabet := range []string{alphanumerics, lowerAlphanumerics} {
		counts := map[rune]int{}
		const each = 10_000
		for range len(alphabet) {
			for _, c := range randomText(each, alphabet) {
				counts[c]++
			}
		}
		for _, c := range alphabet {
			// Eight standard deviations: never by chance, while a byte taken modulo
			// the length would favour the first characters by an eighth or more.
			if n := counts[c]; n < each-800 || n > each+800 {
				t.Errorf("%q was drawn %d times, want about %d", c, n, each)
			}
		}
		if len(counts) != len(alphabet) {
			t.Errorf("drew %d characters of an alphabet of %d", len(counts), len(alphabet))
		}
	}
	if a, b := randomText(24, alphanumerics), randomText(24, alphanumerics); a == b || len(a) != 24 {
		t.Errorf("drew %q and %q", a, b)
	}
}

func TestNewSecretPrintsRedacted(t *testing.T) {
	t.Parallel()
	s := secret{text: "do-not-print"}
	if text := fmt.Sprintf("%v %+v %s", s, s, s); strings.Contains(text, "do-not-print") {
		t.Errorf("printed %q", text)
	}
}
