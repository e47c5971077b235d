package broker

import (
	"context"
	"encoding/json"
	"time"

	"golang.org/x/time/rate"

	"github.com/cordon-mq/cordon/policy/topic"
)

// A refusal that a client sees nothing else of, because its message is acknowledged
// and dropped, may be told in a message: a policy says where, and the broker
// publishes it through the door that all messages pass. It costs the connection that
// was refused and nobody else.

// Notices a second that one connection is told of, and at once. Beyond, the log
// alone has the refusals.
const (
	noticeRate  = 1
	noticeBurst = 10
)

// noticeText is the platform's form of a notice.
type noticeText struct {
	Request string `json:"Request"`
	Time    string `json:"Time"`
	Topic   string `json:"Topic"`
	Type    string `json:"Type,omitempty"` // of the device that the topic names
	ID      string `json:"Id,omitempty"`
	Client  string `json:"Client"`
	RC      int    `json:"RC"`
	Message string `json:"Message"`
}

// noticeTime is ISO 8601, in milliseconds.
const noticeTime = "2006-01-02T15:04:05.000Z"

// notify tells of r where its policy says so. The caller holds no lock.
func (c *conn) notify(ctx context.Context, r *refusal) {
	if r.notice.IsZero() || c.space == nil {
		return
	}
	if c.notices == nil {
		c.notices = rate.NewLimiter(noticeRate, noticeBurst)
	}
	now := time.Now()
	if !c.notices.AllowN(now, 1) {
		return
	}
	text := noticeText{
		Request: r.action.String(), Time: now.UTC().Format(noticeTime), Topic: shortened(r.topic),
		Client: string(c.client.ID), RC: r.notice.Code, Message: r.message,
	}
	if text.Message == "" {
		text.Message = r.publicReason()
	}
	if d := r.device; d != nil {
		text.Type, text.ID = string(d.Type), string(d.ID)
	}
	payload, err := json.Marshal(text)
	if err != nil {
		c.b.log.Error("no notice", "err", err) // strings and a number always are JSON
		return
	}
	name, err := topic.ParseName(r.notice.Topic.String())
	if err != nil {
		return // a routed name always is one
	}
	mounts, err := topic.NewMounts([]topic.Mount{{}}) // as it is inside the organisation
	if err != nil {
		return
	}
	_ = c.b.Voice(mounts).Say(ctx, c.space.tenant(), name, payload, KeepNothing) // it is logged there
}
