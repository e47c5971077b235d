package wire

import (
	"bytes"
	"io"
	"testing"
)

// A fault of the decoder ends one connection, with a code, and nothing else.
func TestContainPanic(t *testing.T) {
	t.Parallel()
	decode := func(body []byte) (p Packet, err *Error) {
		defer contain(TypeSubscribe, &p, &err)
		return &Subscribe{PacketID: uint16(body[7])}, nil
	}
	p, err := decode(make([]byte, 3))
	if p != nil || err == nil || err.Code != MalformedPacket || err.Packet != TypeSubscribe {
		t.Errorf("got %v, %v", p, err)
	}
	p, err = decode(make([]byte, 8))
	if p == nil || err != nil {
		t.Errorf("without a panic: %v, %v", p, err)
	}
}

// A connection that waits holds no more than the usual buffer, whatever it sent before.
func TestGrownBufferIsGivenBack(t *testing.T) {
	t.Parallel()
	large := AppendPublish(nil, V311, &Publish{Topic: []byte("a"), Payload: make([]byte, 200<<10)})
	r := NewReader(bytes.NewReader(large), 1<<20)
	r.version, r.connected = V311, true
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if len(r.buf) < len(large) {
		t.Errorf("a packet of %d bytes in a buffer of %d", len(large), len(r.buf))
	}
	if _, err := r.Next(); err != io.EOF { //nolint:errorlint // promised bare
		t.Fatal(err)
	}
	if len(r.buf) > fullBuffer {
		t.Errorf("still %d bytes", len(r.buf))
	}
}
