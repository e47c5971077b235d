package registry

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// maxUsers is how many users an organisation may have.
const maxUsers = 1000

// User is a person, who signs in as NAME@ORG.
//
// Where somebody is an administrator, somebody stays one: the last user who is may
// not be removed, disabled or demoted. API keys do not count, since they may expire.
type User struct {
	Name     policy.ID `json:"name"`
	Roles    []string  `json:"roles"` // 1 to 32, such as "Administrator"
	Disabled bool      `json:"disabled,omitempty"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`
}

// administers reports whether u may do everything in the organisation.
func (u *User) administers() bool {
	return !u.Disabled && (slices.Contains(u.Roles, RoleAdministrator) || slices.Contains(u.Roles, roleAdminUser))
}

// CreateUser adds a user and returns the generated password, which can never be
// read again. Without roles the user is a RoleReader. The error is
// policy.KindExists when there is one of the name, policy.KindConflict beyond 1000.
func (r *Registry) CreateUser(ctx context.Context, org policy.OrgID, u User) (User, string, error) {
	var made User
	fresh := r.generate(generatedToken)
	err := r.write(ctx, "create user", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		made, err = w.createUser(h, u, fresh)
		return err
	})
	if err != nil {
		return User{}, "", err
	}
	return made, fresh.text, nil
}

func (w *writing) createUser(h home, u User, fresh secret) (_ User, err error) {
	if _, err := policy.ParseID("name", string(u.Name)); err != nil {
		return User{}, err
	}
	if err := w.absent(userKey(h.scope, u.Name), "user"); err != nil {
		return User{}, err
	}
	if err := w.roomForUser(h); err != nil {
		return User{}, err
	}
	u.Created, u.Updated = w.now, w.now
	if u.Roles, err = checkRoles(u.Roles, RoleReader); err != nil {
		return User{}, err
	}
	if err := w.setCredential(h, userCredential(u.Name), fresh); err != nil {
		return User{}, err
	}
	w.tell(u.change(SubjectChanged, h))
	return put(w, userKey(h.scope, u.Name), u)
}

// roomForUser counts the users of h as they will be after w.
func (w *writing) roomForUser(h home) error {
	count, err := w.count(h, store.KindUser)
	if err == nil && count >= maxUsers {
		return &policy.Error{Kind: policy.KindConflict, Public: "an organisation has at most " + strconv.Itoa(maxUsers) + " users"}
	}
	return err
}

// count is how many records of a kind h will have after w.
func (w *writing) count(h home, kind store.Kind) (count int, err error) {
	err = w.registry.store.Scan(h.scope.Prefix(kind), store.Key{}, func(store.Key, []byte) bool {
		count++
		return true
	})
	for key := range w.pending {
		if key.Kind() == kind {
			count++
		}
	}
	return count, err
}

// keepAdministrator refuses with policy.KindConflict if nobody but the user of that
// name administers h.
func (r *Registry) keepAdministrator(h home, name policy.ID) error {
	var failure error
	found := false
	err := r.store.Scan(h.scope.Prefix(store.KindUser), store.Key{}, func(key store.Key, value []byte) bool {
		var u stamped[User]
		u, failure = read[User](key, value)
		found = failure == nil && u.Record.Name != name && u.Record.administers()
		return failure == nil && !found
	})
	if err := errors.Join(err, failure); err != nil || found {
		return err
	}
	return &policy.Error{Kind: policy.KindConflict, Public: "this is the last administrator; make another user one first"}
}

func (u *User) change(kind ChangeKind, h home) Change {
	return Change{
		Kind: kind, Org: h.Record.ID, Incarnation: h.Record.Incarnation,
		PrincipalKind: policy.KindUser, ID: u.Name,
	}
}

// User returns one user, or policy.KindNotFound.
func (r *Registry) User(_ context.Context, org policy.OrgID, name policy.ID) (User, error) {
	const op = "read user"
	h, err := r.homeOf(org)
	if err != nil {
		return User{}, at(op, err)
	}
	found, err := load[User](r.store, userKey(h.scope, name))
	return found.Record, at(op, missing(err, "user"))
}

// Users lists the users and returns the bookmark of the next page, empty on the
// last one.
func (r *Registry) Users(_ context.Context, org policy.OrgID, page Page) ([]User, string, error) {
	const op = "list users"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	found, next, err := list[User](r.store, h.scope, store.KindUser, nil, 1, page)
	return records(found), next, at(op, err)
}

// UpdateUser lets edit change roles and Disabled. An error of edit is returned,
// and nothing is changed. Without roles the user becomes a RoleReader. The error is
// policy.KindConflict where nobody would be an administrator any more.
func (r *Registry) UpdateUser(ctx context.Context, org policy.OrgID, name policy.ID, edit func(*User) error) (User, error) {
	var made User
	err := r.write(ctx, "update user", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[User](r.store, userKey(h.scope, name))
		if err != nil {
			return missing(err, "user")
		}
		before, after := found.Record, found.Record
		if err := edit(&after); err != nil {
			return err
		}
		after.Name, after.Created, after.Updated = before.Name, before.Created, w.now
		if after.Roles, err = checkRoles(after.Roles, RoleReader); err != nil {
			return err
		}
		if before.administers() && !after.administers() {
			if err := r.keepAdministrator(h, name); err != nil {
				return err
			}
		}
		kind := SubjectChanged
		if after.Disabled {
			kind = SubjectDisabled
		}
		w.tell(after.change(kind, h))
		made, err = put(w, userKey(h.scope, name), after)
		return err
	})
	return made, err
}

// DeleteUser removes the user and the password; policy.KindConflict for the last
// administrator.
func (r *Registry) DeleteUser(ctx context.Context, org policy.OrgID, name policy.ID) error {
	return r.write(ctx, "delete user", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[User](r.store, userKey(h.scope, name))
		if err != nil {
			return missing(err, "user")
		}
		if found.Record.administers() {
			if err := r.keepAdministrator(h, name); err != nil {
				return err
			}
		}
		w.delete(userKey(h.scope, name))
		w.delete(userCredential(name).key(h.scope))
		w.tell(found.Record.change(SubjectDeleted, h))
		return nil
	})
}

// ReplaceUserPassword gives the user another generated password and returns it:
// it can never be read again. Grace is that of ReplaceDeviceToken.
func (r *Registry) ReplaceUserPassword(ctx context.Context, org policy.OrgID, name policy.ID, grace time.Duration) (string, error) {
	fresh := r.generate(generatedToken)
	err := r.write(ctx, "replace password", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		found, err := load[User](r.store, userKey(h.scope, name))
		if err != nil {
			return missing(err, "user")
		}
		return w.replaceCredential(h, userCredential(name), fresh, grace, found.Record.change(CredentialReplaced, h))
	})
	if err != nil {
		return "", err
	}
	return fresh.text, nil
}
