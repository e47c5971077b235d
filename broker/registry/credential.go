package registry

import (
	"errors"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// maxGrace is the longest that a replaced token may stay good.
const maxGrace = 24 * time.Hour

// credentialID names a credential inside its organisation: "device/sensor/d1",
// "apikey/a-acme01-0123456789", "user/admin" or "claim/k3f9a0b2c1". No part contains a slash.
type credentialID string

func deviceCredential(typ, id policy.ID) credentialID {
	return credentialID("device/" + string(typ) + "/" + string(id))
}

func apiKeyCredential(key string) credentialID { return credentialID("apikey/" + key) }

func userCredential(name policy.ID) credentialID { return credentialID("user/" + string(name)) }

func (id credentialID) key(s store.Scope) store.Key {
	return s.Key(store.KindCredential, strings.Split(string(id), "/")...)
}

// credentialName is the text of the identifier with these parts.
func credentialName(parts []string) string { return strings.Join(parts, "/") }

// credential is what is stored of a subject's proofs.
type credential struct {
	Current  proof    `json:"current"`
	Previous *retired `json:"previous,omitempty"`
	// Claim is the one that a device was registered by, until it has used a token of
	// its own.
	Claim policy.ID `json:"claim,omitempty"`
}

// proof is one secret. Version is the number of the write that made it.
type proof struct {
	Version uint64    `json:"version,omitzero"`
	Hash    hash      `json:"hash"`
	Created time.Time `json:"created"`
}

// retired is the proof before the current one, good until its grace ends.
type retired struct {
	proof
	Until time.Time `json:"until"`
}

// proofs are those that are good at now, the current one first.
func (c *credential) proofs(now time.Time) []proof {
	if c.graceAt(now) {
		return []proof{c.Current, c.Previous.proof}
	}
	return []proof{c.Current}
}

func (c *credential) graceAt(now time.Time) bool {
	return c.Previous != nil && now.Before(c.Previous.Until)
}

// setCredential stores the first proof of a new subject.
func (w *writing) setCredential(h home, id credentialID, fresh secret) error {
	return w.putCredential(h, id, fresh, nil)
}

// replaceCredential stores another proof. The one so far stays good for grace;
// change, with the credential and the time filled in, tells whose it was.
func (w *writing) replaceCredential(h home, id credentialID, fresh secret, grace time.Duration, change Change) error {
	if grace < 0 || grace > maxGrace {
		return invalid("graceSeconds", "must be 0 to 86400")
	}
	found, err := load[credential](w, id.key(h.scope))
	if errors.Is(err, store.ErrNotFound) {
		return w.putCredential(h, id, fresh, nil)
	}
	if err != nil {
		return err
	}
	before := found.Record
	if before.graceAt(w.now) {
		change.Credential = policy.CredentialID{ID: string(id), Version: before.Previous.Version}
		w.tell(change)
	}
	var previous *retired
	change.Credential = policy.CredentialID{ID: string(id), Version: before.Current.Version}
	if grace > 0 {
		previous = &retired{before.Current, w.now.Add(grace)}
		change.At = previous.Until
	}
	w.tell(change)
	return w.putCredential(h, id, fresh, previous)
}

func (w *writing) putCredential(h home, id credentialID, fresh secret, previous *retired) error {
	if fresh.own && !h.Record.OwnTokens {
		if err := w.noteOwnTokens(h); err != nil {
			return err
		}
	}
	return save(w, id.key(h.scope), credential{
		Current:  proof{Version: w.stamp, Hash: fresh.hash, Created: w.now},
		Previous: previous,
	})
}

// noteOwnTokens marks the organisation under its old stamp, because nothing
// that anybody can see has changed.
func (w *writing) noteOwnTokens(h home) error {
	noted, err := load[organisationRecord](w, organisationKey(h.scope))
	if err != nil || noted.Record.OwnTokens {
		return err
	}
	noted.Record.OwnTokens = true
	value, err := encode(noted)
	if err != nil {
		return err
	}
	w.add(store.Put(organisationKey(h.scope), value))
	return nil
}
