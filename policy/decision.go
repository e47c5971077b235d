package policy

import (
	"time"

	"github.com/cordon-mq/cordon/policy/topic"
)

// Decision is one answer. It is immutable; the zero value denies.
type Decision struct {
	Allow bool
	// Cause says why it denies. CauseNone on an allowing decision.
	Cause Cause
	// Reason is the policy's own text and public: a client may see it.
	Reason string
	// Detail says more to whoever reads the log, such as an engine's error with
	// file:line:col. It never reaches a client.
	Detail string

	ID       string // unique; in the log and, for MQTT 5, in the reason string
	Revision string // of the bundle that answered; empty when none did
	// OrgRevision is that of the organisation's own bundle, if that was asked, too.
	OrgRevision string
	// At is when the rules were asked, and Took how long they needed. An answer
	// from memory has those of the first time. Both are zero when none was asked.
	At   time.Time
	Took time.Duration
	// Until is when the answer ends and the question is asked again. Zero: never.
	Until time.Time

	// Connect.
	Mounts topic.Mounts
	Roles  []string
	// Groups are those that the session reaches. Of administer: the call is about the
	// devices of these alone; nil: about all.
	Groups    []string
	Limits    Limits
	ExpiresAt time.Time // the session may not outlive it; zero: no bound
	Share     string
	// Violation is what a connect that is denied violates, such as
	// "connection_level"; empty: nothing that is counted.
	Violation string

	// Publish.
	Retain RetainMode
	Covers []topic.RoutedFilter // topics the same answer holds for

	// Subscribe.
	MaxQoS byte

	// OnDeny says what a refused client sees.
	OnDeny OnDeny
	// Register says, of a decision that denies, that it does so because something
	// is not registered: whoever registers may create it and ask again.
	Register bool
	// Notify is where a refused client reads why; zero: nowhere.
	Notify Notice
}

// Notice is where a client that sees nothing else of a refusal reads about it.
type Notice struct {
	Topic topic.RoutedName // inside the organisation; zero: none
	Code  int              // what the message calls the reason, 0 to 65535
}

// IsZero reports whether there is none.
func (n Notice) IsZero() bool { return n.Topic.IsZero() }

// PublicReason is what a client is told: the policy's reason, or a plain phrase
// for what went wrong here, and the ID that finds the decision in the log.
func (d *Decision) PublicReason() string {
	reason := d.Reason
	if reason == "" {
		reason = d.Cause.Public()
	}
	if d.ID == "" {
		return reason
	}
	return reason + " (decision " + d.ID + ")"
}

// OnDeny is what a client sees of a denial.
type OnDeny uint8

// Refuse is the default.
const (
	Refuse OnDeny = iota // a negative answer where the protocol has one
	Drop                 // publish: acknowledged, not delivered; connect: the will is removed
	Close                // the connection ends
	Hide                 // administer: as if what the call is about were not there
)

func (o OnDeny) String() string { return [...]string{"refuse", "drop", "close", "hide"}[o] }

// RetainMode is what happens to the retain flag of an allowed publish.
type RetainMode uint8

// The zero mode strips the flag: the message is delivered, nothing is stored.
const (
	RetainStrip RetainMode = iota
	RetainKeep
	RetainRefuse // a publish with the flag set is denied
)

func (r RetainMode) String() string { return [...]string{"strip", "keep", "refuse"}[r] }

// Overflow is what a full queue does with the next message.
type Overflow uint8

// DropOldest is the default.
const (
	DropOldest Overflow = iota
	DropNewest
)

func (o Overflow) String() string { return [...]string{"drop_oldest", "drop_newest"}[o] }

// Limits bound what one session or credential may use. Zero means unlimited
// for the fields that say so; every other field has its default filled in by
// [DefaultLimits].
type Limits struct {
	PublishRate      float64       // messages a second per credential; 0 unlimited
	PublishBurst     int           // messages; 0: one second's worth
	BytesRate        float64       // payload bytes a second per credential; 0 unlimited
	ConnectionsMax   int           // per credential; 0 unlimited
	PayloadMax       int           // bytes
	InflightMax      int           // unacknowledged QoS 1 and 2 messages to the client
	QueueMessages    int           // waiting messages
	QueueBytes       int           // their bytes
	QueueOverflow    Overflow      //
	SubscriptionsMax int           // filters
	SessionExpiryMax time.Duration // how long a session outlives its connection
	KeepAliveMax     time.Duration // 0: the client's word counts
	QoSMax           byte          // 0, 1 or 2
}

// DefaultLimits are those of a connect decision that states none.
func DefaultLimits() Limits {
	return Limits{
		PayloadMax: 131072, InflightMax: 100,
		QueueMessages: 5000, QueueBytes: 16 << 20, QueueOverflow: DropOldest,
		SubscriptionsMax: 500, SessionExpiryMax: 7 * 24 * time.Hour, QoSMax: 2,
	}
}
