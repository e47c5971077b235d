package durable_test

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// levels draws a topic name that is one everywhere.
var levels = rapid.StringMatching(`[a-zé]{1,5}(/[a-z]{0,3}){0,3}`)

func drawProperties(t *rapid.T) *wire.PublishProperties {
	if rapid.Bool().Draw(t, "no properties") {
		return nil
	}
	p := &wire.PublishProperties{ResponseTopic: rapid.SampledFrom([]string{"", "r/s"}).Draw(t, "response")}
	if p.HasPayloadFormat = rapid.Bool().Draw(t, "has format"); p.HasPayloadFormat {
		p.PayloadFormat = rapid.ByteRange(0, 1).Draw(t, "format")
	}
	if p.HasMessageExpiry = rapid.Bool().Draw(t, "has expiry"); p.HasMessageExpiry {
		p.MessageExpiry = rapid.Uint32().Draw(t, "expiry")
	}
	if p.HasContentType = rapid.Bool().Draw(t, "has type"); p.HasContentType {
		p.ContentType = rapid.String().Draw(t, "type")
	}
	if rapid.Bool().Draw(t, "has correlation") {
		p.CorrelationData = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "correlation")
	}
	for range rapid.IntRange(0, 3).Draw(t, "user properties") {
		p.User = append(p.User, wire.UserProperty{Key: rapid.String().Draw(t, "key"), Value: rapid.String().Draw(t, "value")})
	}
	return p
}

func drawMessage(t *rapid.T, tb testing.TB) *durable.Message { //nolint:thelper // rapid's comes first
	m := &durable.Message{
		Topic:   must(topic.ParseRoutedName(levels.Draw(t, "topic")))(tb),
		Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"), QoS: rapid.ByteRange(0, 2).Draw(t, "qos"),
		Retain: rapid.Bool().Draw(t, "retain"), Props: drawProperties(t),
	}
	if rapid.Bool().Draw(t, "answers") {
		m.Response = must(topic.ParseRoutedName(levels.Draw(t, "response")))(tb)
	}
	if rapid.Bool().Draw(t, "expires") {
		m.Expires = time.UnixMilli(rapid.Int64Range(1, 1<<45).Draw(t, "at"))
	}
	if rapid.Bool().Draw(t, "device") {
		m.DeviceType, m.DeviceID = "sensor", policy.ID(rapid.StringMatching(`[a-z]{0,4}`).Draw(t, "id"))
	}
	if rapid.Bool().Draw(t, "origin") {
		m.Origin = durable.Origin{Client: "c", Subject: policy.Subject{
			Kind: policy.KindApplication, Owner: rapid.String().Draw(t, "owner"), Name: "n", Incarnation: rapid.Uint64().Draw(t, "incarnation"),
		}}
	}
	return m
}

// What Append writes, Parse reads; and not when a byte is missing or too many.
func check[T any](t *rapid.T, want T, record []byte, parse func([]byte) (T, error)) {
	got, err := parse(record)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read back as %+v, %v; want %+v", got, err, want)
	}
	cut := record[:rapid.IntRange(0, len(record)-1).Draw(t, "cut")]
	if got, err := parse(cut); err == nil {
		t.Fatalf("% x reads as %+v", cut, got)
	}
	if got, err := parse(append(record[:len(record):len(record)], 1)); err == nil {
		t.Fatalf("with a byte too many it reads as %+v", got)
	}
	newer := append([]byte{record[0] + 1}, record[1:]...)
	if _, err := parse(newer); !errors.Is(err, durable.ErrDamaged) {
		t.Fatalf("another version: %v", err)
	}
}

func TestRecordsComeBack(t *testing.T) {
	t.Parallel()
	t.Run("message", rapid.MakeCheck(func(r *rapid.T) {
		m := drawMessage(r, t)
		check(r, m, m.Append(nil), durable.ParseMessage)
	}))
	t.Run("entry", rapid.MakeCheck(func(r *rapid.T) {
		e := &durable.Entry{Seq: rapid.Uint64().Draw(r, "seq"), QoS: rapid.ByteRange(1, 2).Draw(r, "qos")}
		if e.Released = rapid.Bool().Draw(r, "released"); !e.Released {
			e.Retain = rapid.Bool().Draw(r, "retain")
			if e.Subs = rapid.SliceOfN(rapid.Uint32(), 0, 5).Draw(r, "subs"); len(e.Subs) == 0 {
				e.Subs = nil
			}
			if rapid.Bool().Draw(r, "inline") {
				e.Message = drawMessage(r, t)
			} else {
				e.Shared = rapid.Uint64().Draw(r, "shared")
			}
		}
		check(r, e, e.Append(nil), durable.ParseEntry)
	}))
	t.Run("will", rapid.MakeCheck(func(r *rapid.T) {
		w := &durable.Will{
			Name:    must(topic.ParseName(levels.Draw(r, "name")))(t),
			Payload: rapid.SliceOf(rapid.Byte()).Draw(r, "payload"), QoS: rapid.ByteRange(0, 2).Draw(r, "qos"),
			Retain: rapid.Bool().Draw(r, "retain"), Delay: time.Duration(rapid.Uint32().Draw(r, "delay")) * time.Second, Props: drawProperties(r),
		}
		check(r, w, w.Append(nil), durable.ParseWill)
	}))
	t.Run("subscription", rapid.MakeCheck(func(r *rapid.T) {
		s := &durable.Subscription{
			Filter: must(topic.ParseFilter(levels.Draw(r, "filter") + rapid.SampledFrom([]string{"", "/#", "/+"}).Draw(r, "wildcard")))(t),
			Named:  rapid.String().Draw(r, "named"), Share: rapid.String().Draw(r, "share"),
			Wanted: rapid.ByteRange(0, 2).Draw(r, "wanted"), QoS: rapid.ByteRange(0, 2).Draw(r, "qos"), ID: rapid.Uint32().Draw(r, "id"),
			NoLocal: rapid.Bool().Draw(r, "no local"), AsPublished: rapid.Bool().Draw(r, "as published"),
		}
		check(r, s, s.Append(nil), durable.ParseSubscription)
	}))
	t.Run("session", rapid.MakeCheck(func(r *rapid.T) {
		s := sampleSession(t)
		s.Expiry = time.Duration(rapid.Uint32().Draw(r, "expiry")) * time.Second
		s.Client.Username = rapid.String().Draw(r, "username")
		record, err := s.Append(nil)
		if err != nil {
			r.Fatal(err)
		}
		check(r, s, record, durable.ParseSession)
	}))
}

func sampleSession(t testing.TB) *durable.Session {
	t.Helper()
	return &durable.Session{
		Principal: policy.Principal{
			Org: must(policy.ParseOrgID("acme01"))(t), Incarnation: 3, Kind: policy.KindDevice, Type: "sensor", ID: "d1",
			Verifier: "token", Registered: true, Claims: map[string]any{"a": "b"},
			And: &policy.Proof{Verifier: "certificate", Credential: policy.CredentialID{ID: "certificate/a", Version: 2}, ExpiresAt: time.Date(2027, 11, 1, 0, 0, 0, 0, time.UTC)},
		},
		Client:  policy.Client{ID: "c", Protocol: "5", Listener: "mqtts", Address: netip.MustParseAddr("127.0.0.1")},
		Mounts:  []topic.Mount{{Client: "iot-2/", Org: "iot-2/type/sensor/id/d1/", Device: &topic.DeviceLevels{Type: 2, ID: 4}}},
		Expiry:  time.Hour,
		Offline: time.Date(2026, 11, 1, 2, 3, 4, 5, time.UTC),
	}
}

// A session's metadata is the registry's to tell, not the record's.
func TestSessionKeepsNoMetadata(t *testing.T) {
	t.Parallel()
	s := sampleSession(t)
	s.Principal.Metadata = map[string]any{"serial": "private"}
	record := must(s.Append(nil))(t)
	if strings.Contains(string(record), "private") {
		t.Errorf("stored: %s", record)
	}
	if s.Principal.Metadata == nil {
		t.Error("the caller's metadata is gone")
	}
}

// The bytes of each record are those that are stored in data folders out there:
// who changes them has to give the layout another version.
func TestGoldenBytes(t *testing.T) {
	t.Parallel()
	name := must(topic.ParseRoutedName("a/b"))(t)
	m := &durable.Message{
		Topic: name, Response: name, Payload: []byte("xy"), QoS: 1, Retain: true, Expires: time.UnixMilli(1000), DeviceType: "t", DeviceID: "d",
		Origin: durable.Origin{Subject: policy.Subject{Kind: policy.KindDevice, Owner: "o", Name: "n", Incarnation: 2}, Client: "c"},
		Props: &wire.PublishProperties{
			HasPayloadFormat: true, PayloadFormat: 1, HasMessageExpiry: true, MessageExpiry: 300, HasContentType: true, ContentType: "k",
			ResponseTopic: "r", CorrelationData: []byte{9}, User: []wire.UserProperty{{Key: "u", Value: "v"}},
		},
	}
	short := &durable.Message{Topic: name, Payload: []byte("z"), QoS: 2}
	for what, tt := range map[string]struct {
		record []byte
		want   string
	}{
		"message":        {m.Append(nil), goldenMessage},
		"entry, inline":  {(&durable.Entry{Seq: 65536, QoS: 2, Subs: []uint32{1, 300}, Message: short}).Append(nil), "01040280800402" + "01ac02" + "000203612f62017a"},
		"entry, shared":  {(&durable.Entry{Seq: 7, QoS: 1, Retain: true, Shared: 5}).Append(nil), "010101070005"},
		"entry, release": {(&durable.Entry{Seq: 7, QoS: 2, Released: true}).Append(nil), "01020207"},
		"will": {
			(&durable.Will{Name: must(topic.ParseName("w"))(t), Payload: []byte("p"), QoS: 1, Retain: true, Delay: time.Minute}).Append(nil),
			"0101013c01770170",
		},
		"subscription": {(&durable.Subscription{
			Filter: must(topic.ParseFilter("a/#"))(t), Named: "g", Share: "g", Wanted: 2, QoS: 1, ID: 200, NoLocal: true, AsPublished: true,
		}).Append(nil), "01030201c80103612f2301670167"},
		"session": {must(sampleSession(t).Append(nil))(t)[:2], "017b"},
	} {
		if got := hex.EncodeToString(tt.record); got != tt.want {
			t.Errorf("%s is\n%s, want\n%s", what, got, tt.want)
		}
	}
}

const goldenMessage = "013f0103612f6203612f62d00f" + "01740164" + "01016f016e020163" + "0f" +
	"01ac02016b01090172" + "0101750176" + "027879"

// Keys are what they were, and Owner reads them.
func TestKeys(t *testing.T) {
	t.Parallel()
	space := durable.In(must(policy.ParseOrgID("acme01"))(t), 3)
	for want, key := range map[string]store.Key{
		`acme01@3/session/"\x00\x00\x00\x00\x00\x00\x00\a"`:                                         space.Session(7),
		`acme01@3/subscription/"\x00\x00\x00\x00\x00\x00\x00\a"/"\x00\x00\x00\x00\x00\x00\x00\x02"`: space.Subscription(7, 2),
		`acme01@3/queue/"\x00\x00\x00\x00\x00\x00\x00\a"/"\x01\x02"`:                                space.Entry(7, 258),
		`acme01@3/inbound/"\x00\x00\x00\x00\x00\x00\x00\a"/"\x00\x01"`:                              space.Inbound(7, 1),
		`acme01@3/will/"\x00\x00\x00\x00\x00\x00\x00\a"`:                                            space.Will(7),
		`acme01@3/message/"\x00\x00\x00\x00\x00\x00\x00\t"`:                                         space.Message(9),
		`acme01@3/retained/"a/b"`:                                                                   space.Retained(must(topic.ParseRoutedName("a/b"))(t)),
	} {
		if key.String() != want {
			t.Errorf("%s, want %s", key, want)
		}
	}
	for key, want := range map[store.Key][2]uint64{space.Session(7): {7, 0}, space.Subscription(7, 2): {7, 2}, space.Entry(7, 258): {7, 258}, space.Inbound(8, 65535): {8, 65535}} {
		if session, part, ok := durable.Owner(key); !ok || session != want[0] || part != want[1] {
			t.Errorf("owner of %s: %d, %d, %v", key, session, part, ok)
		}
	}
	scope := store.In("acme01", 3)
	for _, key := range []store.Key{scope.Key(store.KindQueue), scope.Key(store.KindQueue, "x"), scope.Key(store.KindQueue, store.Uint64(1), "x"), scope.Key(store.KindQueue, store.Uint64(1), "xx", "xx")} {
		if _, _, ok := durable.Owner(key); ok {
			t.Errorf("%s has an owner", key)
		}
	}
}

// A slot is never zero, and every one of them is used.
func TestSlots(t *testing.T) {
	t.Parallel()
	seen := make(map[uint16]bool)
	for seq := range uint64(durable.Slots) {
		seen[durable.Slot(seq)] = true
	}
	if len(seen) != durable.Slots || seen[0] || durable.Slot(durable.Slots) != durable.Slot(0) {
		t.Errorf("%d slots, zero among them: %v", len(seen), seen[0])
	}
}
