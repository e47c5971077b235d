package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/policy"
)

func gatewayCalled(id string) policy.Subject {
	return policy.Subject{Kind: policy.KindGateway, Owner: "router", Name: id}
}

// A gateway has few registrations under way, whatever others have.
func TestAttachmentsUnderWayAreBounded(t *testing.T) {
	t.Parallel()
	var as attachments
	now := time.Now()
	begin := func(gateway string, device int) *failedAttachment {
		return as.begin(attachment{gatewayCalled(gateway), deviceName{"sensor", policy.ID(fmt.Sprint(device))}}, now)
	}
	for i := range attachPending {
		if f := begin("g1", i); f != nil {
			t.Fatalf("registration %d: %+v", i, f)
		}
	}
	if f := begin("g1", 99); f == nil || f.code != ClosedForCapacity {
		t.Errorf("one too many: %+v", f)
	}
	if f := begin("g2", 99); f != nil {
		t.Errorf("another gateway: %+v", f)
	}
	as.end(attachment{gatewayCalled("g1"), deviceName{"sensor", "0"}}, nil, now)
	if f := begin("g1", 99); f != nil {
		t.Errorf("when one has ended: %+v", f)
	}
}

// A failure is remembered for its time, of that gateway and device. That a gateway
// has all it may holds for any device, for a moment.
func TestAttachmentsRememberFailures(t *testing.T) {
	t.Parallel()
	var as attachments
	now := time.Now()
	a := attachment{gatewayCalled("g1"), deviceName{"sensor", "a"}}
	b := attachment{gatewayCalled("g1"), deviceName{"sensor", "b"}}
	fail := func(a attachment, kind policy.Kind) {
		if f := as.begin(a, now); f != nil {
			t.Fatalf("%+v: %+v", a, f)
		}
		as.end(a, failedAttachmentOf(&policy.Error{Kind: kind, Public: "no"}, now), now)
	}
	tried := func(a attachment, after time.Duration) bool {
		at := now.Add(after)
		if as.begin(a, at) != nil {
			return false
		}
		as.end(a, nil, at)
		return true
	}
	fail(a, policy.KindNotFound)
	if tried(a, attachForget-1) || !tried(b, 0) || !tried(a, attachForget) {
		t.Error("a failure counts for its gateway and device, and its time")
	}
	fail(a, policy.KindUnavailable)
	if !tried(a, 0) {
		t.Error("what may succeed in a moment is tried again")
	}
	fail(a, policy.KindLimit)
	if tried(b, attachFull-1) || !tried(b, attachFull) || tried(a, attachFull) {
		t.Error("a full gateway waits with any device")
	}
	if !tried(attachment{gatewayCalled("g2"), a.device}, 0) {
		t.Error("another gateway is not full")
	}
}

// Whatever a gateway makes up, there is an end of what is remembered.
func TestAttachmentsForget(t *testing.T) {
	t.Parallel()
	var as attachments
	now := time.Now()
	for i := range 3 * attachFailures {
		a := attachment{gatewayCalled("g1"), deviceName{"sensor", policy.ID(fmt.Sprint(i))}}
		if f := as.begin(a, now); f != nil {
			t.Fatal(f)
		}
		as.end(a, failedAttachmentOf(&policy.Error{Kind: policy.KindNotFound}, now), now)
		if n := len(as.guarded.failed); n > attachFailures {
			t.Fatalf("%d are remembered", n)
		}
	}
	if len(as.guarded.pending) != 0 {
		t.Errorf("%d under way", len(as.guarded.pending))
	}
}
