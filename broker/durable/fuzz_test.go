package durable_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cordon-mq/cordon/broker/durable"
)

// fuzz feeds parse with anything. What it reads, it reads again from what is
// written of it, and never more than the bytes that were there.
func fuzz[T any](f *testing.F, parse func([]byte) (T, error), write func(T) []byte) {
	for _, seed := range [][]byte{{}, {1}, {2, 0}, {1, 255, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		record, err := parse(data)
		if !bytes.Equal(data, before) {
			t.Fatal("the value was changed")
		}
		if err != nil {
			return
		}
		again, err := parse(write(record))
		if err != nil || !reflect.DeepEqual(again, record) {
			t.Fatalf("read as %+v, and again as %+v, %v", record, again, err)
		}
	})
}

func FuzzParseMessage(f *testing.F) {
	fuzz(f, durable.ParseMessage, func(m *durable.Message) []byte { return m.Append(nil) })
}

func FuzzParseEntry(f *testing.F) {
	fuzz(f, durable.ParseEntry, func(e *durable.Entry) []byte { return e.Append(nil) })
}

func FuzzParseWill(f *testing.F) {
	fuzz(f, durable.ParseWill, func(w *durable.Will) []byte { return w.Append(nil) })
}

func FuzzParseSubscription(f *testing.F) {
	fuzz(f, durable.ParseSubscription, func(s *durable.Subscription) []byte { return s.Append(nil) })
}

// FuzzParseSession looks for a panic only: JSON has many spellings of one value.
func FuzzParseSession(f *testing.F) {
	record, err := sampleSession(f).Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := durable.ParseSession(data)
		if (s == nil) == (err == nil) {
			t.Fatalf("both or neither: %+v, %v", s, err)
		}
	})
}
