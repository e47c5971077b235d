package broker

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/cordon-mq/cordon/broker/durable"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/topic"
)

// Intake is a part of the server that messages are meant for. What enters under
// [Config.IntakePrefix] is handed to it, beside whoever subscribed to it: after the
// decision, and at QoS 1 and 2 once it is stored. So PUBACK and PUBREC say that the
// intake will have the message, even if the process dies before it had; what it
// makes of it is told by an answer of its own. Messages of one organisation come in
// the order in which they were let in, those that a crash left before all others.
//
// Its methods are called by the goroutines of connections and of the store and
// must return at once.
type Intake interface {
	// Take is handed a message. Arrival.Done is to be called once it was dealt with:
	// until then it takes room from others of its organisation.
	Take(a *Arrival)
	// Full is told instead of one that finds no room, and reports whether it sees to
	// it that the sender hears so. Else the message is refused.
	Full(t Tenant, name topic.RoutedName, payload []byte) bool
}

// How many messages of one organisation may wait for the intake, and how many
// bytes of them.
const (
	arrivalsMost     = 1024
	arrivalBytesMost = 4 << 20
)

// Arrival is a message that is handed to the intake.
type Arrival struct {
	Tenant  Tenant
	Name    topic.RoutedName
	Payload []byte // may not be changed

	space *space
	seq   uint64
	size  int
	kept  bool // it is in the store
}

// Done says that the intake needs the message no more.
func (a *Arrival) Done() {
	if !a.kept {
		a.space.arrivals.leave(a)
		return
	}
	var w writes
	w.delete(a.space.keys.Arrival(arrivalSlot(a.seq)))
	a.space.b.commit(&w, func(error) { a.space.arrivals.leave(a) })
}

// stored hands a over once it is in the store.
func (a *Arrival) stored(err error) {
	if err != nil {
		a.space.arrivals.leave(a) // nobody was told that it is kept
		return
	}
	a.space.b.cfg.Intake.Take(a)
}

func arrivalSlot(seq uint64) uint16 { return uint16(seq % arrivalsMost) }

// arrivals are the messages of a space that the intake has not dealt with. Each has
// a slot, which is used again, so that the keys in the store stay few.
type arrivals struct {
	guarded struct {
		sync.Mutex
		next  uint64
		slots map[uint16]struct{}
		bytes int
	}
}

// enter takes a slot for a; false: there is no room.
func (as *arrivals) enter(a *Arrival) bool {
	as.guarded.Lock()
	defer as.guarded.Unlock()
	if len(as.guarded.slots) >= arrivalsMost || as.guarded.bytes+a.size > arrivalBytesMost {
		return false
	}
	a.seq = as.guarded.next
	for taken := true; taken; a.seq++ {
		if _, taken = as.guarded.slots[arrivalSlot(a.seq)]; !taken {
			break
		}
	}
	as.addLocked(a)
	return true
}

func (as *arrivals) addLocked(a *Arrival) {
	if as.guarded.slots == nil {
		as.guarded.slots = map[uint16]struct{}{}
	}
	as.guarded.slots[arrivalSlot(a.seq)] = struct{}{}
	as.guarded.bytes += a.size
	as.guarded.next = max(as.guarded.next, a.seq+1)
}

func (as *arrivals) leave(a *Arrival) {
	as.guarded.Lock()
	defer as.guarded.Unlock()
	delete(as.guarded.slots, arrivalSlot(a.seq))
	as.guarded.bytes -= a.size
}

// expect finds out whether p is meant for the intake, and takes room for it.
func (b *Broker) expect(p *publication) *refusal {
	if b.cfg.Intake == nil || !strings.HasPrefix(p.in.routed.String(), b.cfg.IntakePrefix) {
		return nil
	}
	a := &Arrival{Tenant: p.space.tenant(), Name: p.in.routed, Payload: p.stored().payload, space: p.space, size: p.stored().size, kept: p.qos > 0}
	switch {
	case p.space.arrivals.enter(a):
		p.arrival = a
	case !b.cfg.Intake.Full(a.Tenant, a.Name, a.Payload):
		return &refusal{action: policy.ActionPublish, cause: policy.CauseQuota, topic: p.name.String(), detail: "messages of the organisation that wait for the server"}
	}
	return nil
}

// arrive hands p to the intake, or notes that it is to be stored first.
func (p *publication) arrive() {
	switch a := p.arrival; {
	case a == nil:
		return
	case a.kept:
		record := durable.Entry{Seq: a.seq, QoS: p.qos, Message: p.stored().record()}
		p.writes.put(p.space.keys.Arrival(arrivalSlot(a.seq)), record.Append(make([]byte, 0, 64+a.size)))
		p.writes.arrived = append(p.writes.arrived, a)
	default:
		p.space.b.cfg.Intake.Take(a)
	}
	p.matched++
}

// turnBack gives up the room that expect took for p.
func (p *publication) turnBack() {
	if p.arrival != nil {
		p.space.arrivals.leave(p.arrival)
	}
}

// arrival reads one message that the intake had not dealt with when the process
// ended.
func (r *restoring) arrival(_ store.Key, value []byte) error {
	e, err := durable.ParseEntry(value)
	if err != nil || e.Message == nil {
		return durable.ErrDamaged
	}
	if r.b.cfg.Intake == nil {
		return errDrop
	}
	m := restoredMessage(e.Message)
	r.arrivals = append(r.arrivals, &Arrival{
		Tenant: r.sp.tenant(), Name: m.routed, Payload: m.payload, space: r.sp, seq: e.Seq, size: m.size, kept: true,
	})
	return nil
}

// handOver hands what arrival read to the intake, in the order of old.
func (r *restoring) handOver() {
	slices.SortFunc(r.arrivals, func(a, b *Arrival) int { return cmp.Compare(a.seq, b.seq) })
	as := &r.sp.arrivals
	as.guarded.Lock()
	for _, a := range r.arrivals {
		as.addLocked(a)
	}
	as.guarded.Unlock()
	for _, a := range r.arrivals {
		r.b.cfg.Intake.Take(a)
	}
}
