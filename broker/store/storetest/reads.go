package storetest

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/store"
)

func testGet(t *testing.T, s store.Store) {
	wantNone(t, s, device("d1"))
	commit(t, s, store.Put(device("d1"), []byte("one")), store.Put(device("d2"), nil))
	wantValue(t, s, device("d1"), "one")
	wantValue(t, s, device("d2"), "")
	if got, err := s.Get(device("d2")); got == nil || err != nil {
		t.Errorf("an empty value reads as %v, %v; want empty, not nil", got, err)
	}
	commit(t, s, store.Put(device("d1"), []byte("two")))
	wantValue(t, s, device("d1"), "two")
	commit(t, s, store.Delete(device("d1")), store.Delete(device("d3")))
	wantNone(t, s, device("d1"))
	wantNone(t, s, device("d3"))
}

func testCopies(t *testing.T, s store.Store) {
	value := []byte("kept")
	commit(t, s, store.Put(device("d1"), value))
	copy(value, "XXXX")
	wantValue(t, s, device("d1"), "kept")

	got, err := s.Get(device("d1"))
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "YYYY")
	wantValue(t, s, device("d1"), "kept")
}

func testScanOrder(t *testing.T, s store.Store) {
	queue := func(n uint64) store.Key { return org().Key(store.KindQueue, "client", store.Uint64(n)) }
	for _, n := range []uint64{300, 2, 1 << 40, 1, 256, 255} {
		commit(t, s, store.Put(queue(n), fmt.Append(nil, n)))
	}
	var got []uint64
	err := s.Scan(org().Prefix(store.KindQueue, "client"), store.Key{}, func(key store.Key, value []byte) bool {
		n, ok := store.ParseUint64(key.Parts()[1])
		if !ok || fmt.Sprint(n) != string(value) {
			t.Errorf("key %v holds %q", key, value)
		}
		got = append(got, n)
		return true
	})
	if want := []uint64{1, 2, 255, 256, 300, 1 << 40}; err != nil || !slices.Equal(got, want) {
		t.Errorf("scan: %v, %v; want %v", got, err, want)
	}
}

func testScanPrefix(t *testing.T, s store.Store) {
	elsewhere := []store.Key{
		store.Global().Key(store.KindDirectory, "org001"),
		store.In("org001", 2).Key(store.KindDevice, "sensor", "d9"),
		store.In("org0011", 1).Key(store.KindDevice, "sensor", "d9"),
		store.In("org00", 1).Key(store.KindDevice, "sensor", "d9"),
		store.In("org002", 1).Key(store.KindDevice, "sensor", "d9"),
		org().Key(store.KindDeviceType, "sensor", "d9"),
		org().Key(store.KindCredential, "sensor", "d9"),
		org().Key(store.KindDevice, "senso", "rd9"),
		org().Key(store.KindDevice, "sensors", "d9"),
		org().Key(store.KindDevice, "sensor\x00", "d9"),
	}
	for _, key := range elsewhere {
		commit(t, s, store.Put(key, []byte("elsewhere")))
	}
	sensors := org().Prefix(store.KindDevice, "sensor")
	wantScan(t, s, sensors, store.Key{})

	commit(t, s,
		store.Put(org().Key(store.KindDevice, "sensor"), []byte("0")),
		store.Put(device(""), []byte("1")),
		store.Put(device("\xff"), []byte("2")),
		store.Put(device("d1"), []byte("3")))
	wantScan(t, s, sensors, store.Key{}, "sensor=0", "=1", "\xff=2", "d1=3")

	if got := len(scan(t, s, org().Prefix(store.KindDevice), store.Key{})); got != 7 {
		t.Errorf("%d devices in the organisation, want 7", got)
	}
	if got := len(scan(t, s, org().All(), store.Key{})); got != 9 {
		t.Errorf("%d keys in the organisation, want 9", got)
	}
}

func testScanResumes(t *testing.T, s store.Store) {
	for _, id := range []string{"a", "b", "c", "d"} {
		commit(t, s, store.Put(device(id), nil))
	}
	sensors := org().Prefix(store.KindDevice, "sensor")
	wantScan(t, s, sensors, device("b"), "c=", "d=")
	wantScan(t, s, sensors, device("bb")) // longer parts sort last
	wantScan(t, s, sensors, device(""), scan(t, s, sensors, store.Key{})...)
	wantScan(t, s, sensors, device("d"))
	wantScan(t, s, sensors, store.Global().Key(store.KindSchema), "a=", "b=", "c=", "d=")
	wantScan(t, s, sensors, store.In("zzzzzzzzz", 1).Key(store.KindWill))

	commit(t, s, store.Delete(device("b")))
	wantScan(t, s, sensors, device("b"), "c=", "d=")

	var seen int
	err := s.Scan(sensors, store.Key{}, func(store.Key, []byte) bool {
		seen++
		return seen < 2
	})
	if err != nil || seen != 2 {
		t.Errorf("a scan told to stop at the second key saw %d, %v", seen, err)
	}
}

func testScanSnapshot(t *testing.T, s store.Store) {
	commit(t, s, store.Put(device("a"), []byte("old")), store.Put(device("b"), []byte("old")))
	sensors := org().Prefix(store.KindDevice, "sensor")
	var seen []string
	err := s.Scan(sensors, store.Key{}, func(key store.Key, value []byte) bool {
		if len(seen) == 0 {
			commit(t, s, store.Put(device("b"), []byte("new")), store.Put(device("c"), []byte("new")))
			wantValue(t, s, device("b"), "new")
		}
		seen = append(seen, key.Parts()[1]+"="+string(value))
		return true
	})
	if want := []string{"a=old", "b=old"}; err != nil || !slices.Equal(seen, want) {
		t.Errorf("scan beside a write: %q, %v; want %q", seen, err, want)
	}
	wantScan(t, s, sensors, store.Key{}, "a=old", "b=new", "c=new")
}

// testModel compares with a map whose keys are sorted by their parts.
func testModel(t *testing.T, s store.Store) {
	ctx := t.Context()
	var incarnation uint64
	rapid.Check(t, func(t *rapid.T) {
		incarnation++ // each round starts empty
		scope := store.In("org001", incarnation)
		model := map[store.Key]string{}
		part := rapid.StringOfN(rapid.SampledFrom([]rune{'a', 'b', 0, 0xff}), 0, 3, -1)

		for range rapid.IntRange(1, 10).Draw(t, "calls") {
			var ops []store.Op
			for range rapid.IntRange(0, 6).Draw(t, "ops") {
				key := scope.Key(store.KindDevice, part.Draw(t, "type"), part.Draw(t, "id"))
				if rapid.Bool().Draw(t, "delete") {
					ops = append(ops, store.Delete(key))
					delete(model, key)
				} else {
					value := rapid.String().Draw(t, "value")
					ops = append(ops, store.Put(key, []byte(value)))
					model[key] = value
				}
			}
			if err := store.CommitWait(ctx, s, ops...); err != nil {
				t.Fatalf("commit: %v", err)
			}
		}

		prefix := scope.Prefix(store.KindDevice, part.Draw(t, "prefix"))
		after := scope.Key(store.KindDevice, part.Draw(t, "after type"), part.Draw(t, "after id"))
		var want []store.Key
		for key := range model {
			if prefix.Covers(key) && key.Compare(after) > 0 {
				want = append(want, key)
			}
		}
		slices.SortFunc(want, store.Key.Compare)
		var got []store.Key
		err := s.Scan(prefix, after, func(key store.Key, value []byte) bool {
			got = append(got, key)
			if string(value) != model[key] {
				t.Errorf("scan: %v is %q, want %q", key, value, model[key])
			}
			return true
		})
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("scan: %v, %v; want %v", got, err, want)
		}
	})
}
