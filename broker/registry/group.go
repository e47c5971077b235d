package registry

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of groups.
const (
	maxOwnGroups    = 1000 // that an organisation makes itself
	maxGroupDevices = 300  // in one of those
	maxSearchTags   = 20   // of a group
	groupSuffix     = 16   // characters of a generated identifier
)

// defaultGroups is what the identifier of the default group of a gateway begins with.
const defaultGroups = "gw_def_res_grp:"

// Group is a set of devices that gateways and API keys reach as one. One that the
// organisation makes has a generated identifier, which is never given twice. The
// default group of a gateway is "gw_def_res_grp:{org}:{type}:{id}": it is made with
// the gateway and goes with it.
type Group struct {
	ID string `json:"id"` // set by the registry
	// Incarnation tells it from a deleted namesake; set by the registry.
	Incarnation uint64    `json:"incarnation,omitzero"`
	Name        string    `json:"name,omitempty"`        // for people; at most 256 bytes
	Description string    `json:"description,omitempty"` // at most 1024 bytes
	SearchTags  []string  `json:"searchTags,omitempty"`  // at most 20, each at most 256 bytes
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
}

// GroupRef names a group in one incarnation: a namesake of a deleted group is
// another one. Written as "id@incarnation", and as the identifier alone where the
// incarnation is not known.
type GroupRef struct {
	ID          string
	Incarnation uint64
}

// MarshalText writes the reference as a record keeps it.
func (g GroupRef) MarshalText() ([]byte, error) {
	if g.Incarnation == 0 {
		return []byte(g.ID), nil
	}
	return strconv.AppendUint([]byte(g.ID+"@"), g.Incarnation, 10), nil
}

// UnmarshalText reads what MarshalText wrote.
func (g *GroupRef) UnmarshalText(text []byte) error {
	id, number, numbered := strings.Cut(string(text), "@")
	if !isGroup(id) {
		return invalid("groups", "must be 1 to 128 of a-z, A-Z, 0-9, '_', '.', ':' and '-'")
	}
	*g = GroupRef{ID: id}
	if !numbered {
		return nil
	}
	var err error
	if g.Incarnation, err = strconv.ParseUint(number, 10, 64); err != nil || g.Incarnation == 0 {
		return invalid("groups", "must have an incarnation that is a number")
	}
	return nil
}

// RefsTo names groups of which the incarnation is not known. The registry looks it up.
func RefsTo(ids ...string) []GroupRef {
	refs := make([]GroupRef, len(ids))
	for i, id := range ids {
		refs[i].ID = id
	}
	return refs
}

func defaultGroup(org policy.OrgID, typ, id policy.ID) string {
	return defaultGroups + org.String() + ":" + string(typ) + ":" + string(id)
}

// Groups of the two origins lie apart, so that those that count are counted alone.
const (
	ownGroups     = "own"
	gatewayGroups = "gateway"
)

func groupKey(s store.Scope, id string) store.Key {
	if isDefaultGroup(id) {
		return s.Key(store.KindGroup, gatewayGroups, id)
	}
	return s.Key(store.KindGroup, ownGroups, id)
}

func (g *Group) ref() GroupRef { return GroupRef{g.ID, g.Incarnation} }

// most is how many devices g may have: a default group also its gateway.
func (g *Group) most(behind int) int {
	if isDefaultGroup(g.ID) {
		return behind + 1
	}
	return maxGroupDevices
}

func (g *Group) check() error {
	if err := errors.Join(checkText("name", g.Name, maxName), checkText("description", g.Description, maxText)); err != nil {
		return err
	}
	if len(g.SearchTags) > maxSearchTags {
		return invalid("searchTags", "must be at most "+strconv.Itoa(maxSearchTags))
	}
	for _, tag := range g.SearchTags {
		if err := checkText("searchTags", tag, maxName); err != nil {
			return err
		}
	}
	return nil
}

// CreateGroup adds a group under a generated identifier. The error is
// policy.KindConflict beyond 1000 of an organisation; those of gateways do not count.
func (r *Registry) CreateGroup(ctx context.Context, org policy.OrgID, g Group) (Group, error) {
	var made Group
	err := r.write(ctx, "create group", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		g.ID = randomText(groupSuffix, lowerAlphanumerics)
		if err := w.absent(groupKey(h.scope, g.ID), "group"); err != nil {
			return err
		}
		if err := w.roomForGroup(h); err != nil {
			return err
		}
		made, err = w.createGroup(h, g)
		return err
	})
	return made, err
}

func (w *writing) createGroup(h home, g Group) (Group, error) {
	if err := g.check(); err != nil {
		return Group{}, err
	}
	g.Incarnation, g.Created, g.Updated = w.stamp, w.now, w.now
	return put(w, groupKey(h.scope, g.ID), g)
}

// roomForGroup counts the groups that h made itself, as they will be after w.
func (w *writing) roomForGroup(h home) error {
	count := 0
	err := w.registry.store.Scan(h.scope.Prefix(store.KindGroup, ownGroups), store.Key{}, func(store.Key, []byte) bool {
		count++
		return true
	})
	for key := range w.pending {
		if key.Kind() == store.KindGroup && key.Parts()[0] == ownGroups {
			count++
		}
	}
	if err == nil && count >= maxOwnGroups {
		return &policy.Error{Kind: policy.KindConflict, Public: "an organisation has at most " + strconv.Itoa(maxOwnGroups) + " groups of its own"}
	}
	return err
}

// Group returns one group of the organisation, or policy.KindNotFound.
func (r *Registry) Group(_ context.Context, org policy.OrgID, id string) (Group, error) {
	const op = "read group"
	h, err := r.homeOf(org)
	if err != nil {
		return Group{}, at(op, err)
	}
	found, err := loadGroup(r.store, h, id)
	return found, at(op, err)
}

// loadGroup finds nothing for what no group can be called.
func loadGroup(from getter, h home, id string) (Group, error) {
	if !isGroup(id) {
		return Group{}, missing(store.ErrNotFound, "group")
	}
	found, err := load[Group](from, groupKey(h.scope, id))
	return found.Record, missing(err, "group")
}

// Groups lists the groups, those that the organisation made first, and returns the
// bookmark of the next page, empty on the last one.
func (r *Registry) Groups(_ context.Context, org policy.OrgID, page Page) ([]Group, string, error) {
	const op = "list groups"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, "", at(op, err)
	}
	// Keys put the shorter class first.
	found, next, err := list[Group](r.store, h.scope, store.KindGroup, nil, 2, page)
	return records(found), next, at(op, err)
}

// UpdateGroup lets edit change name, description and search tags. An error of edit is
// returned, and nothing is changed.
func (r *Registry) UpdateGroup(ctx context.Context, org policy.OrgID, id string, edit func(*Group) error) (Group, error) {
	var made Group
	err := r.write(ctx, "update group", creation, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		before, err := loadGroup(w, h, id)
		if err != nil {
			return err
		}
		after := before
		if err := edit(&after); err != nil {
			return err
		}
		after.ID, after.Incarnation, after.Created, after.Updated = before.ID, before.Incarnation, before.Created, w.now
		if err := after.check(); err != nil {
			return err
		}
		made, err = put(w, groupKey(h.scope, id), after)
		return err
	})
	return made, err
}

// DeleteGroup removes a group. Its devices stay, and whoever reached them through it
// reaches them no more. The default group of a gateway goes with the gateway alone:
// policy.KindConflict.
func (r *Registry) DeleteGroup(ctx context.Context, org policy.OrgID, id string) error {
	return r.write(ctx, "delete group", removal, func(w *writing) error {
		h, err := r.homeOf(org)
		if err != nil {
			return err
		}
		g, err := loadGroup(w, h, id)
		if err != nil {
			return err
		}
		if typ, name, ok := gatewayOf(h.Record.ID, id); ok {
			switch _, err := w.Get(deviceKey(h.scope, typ, name)); {
			case err == nil:
				return &policy.Error{Kind: policy.KindConflict, Public: "this is the default group of a gateway and goes with it"}
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		return w.removeGroup(h, &g)
	})
}

// gatewayOf is the gateway whose default group is called id.
func gatewayOf(org policy.OrgID, id string) (typ, name policy.ID, ok bool) {
	rest, ok := strings.CutPrefix(id, defaultGroups+org.String()+":")
	parts := strings.Split(rest, ":")
	if !ok || len(parts) != 2 {
		return "", "", false
	}
	return policy.ID(parts[0]), policy.ID(parts[1]), true
}

// removeGroup takes a group away. References to it lead nowhere from then on, so
// nothing of its devices, keys and gateways has to be changed in the same commit.
func (w *writing) removeGroup(h home, g *Group) error {
	w.delete(groupKey(h.scope, g.ID))
	w.gone = append(w.gone, h.scope.Prefix(store.KindGroupMember, g.ID, store.Uint64(g.Incarnation)))
	w.tellGroup(h, g.ID)
	return save(w, departedKey(h.scope), departed{g.ref()})
}

// departed is the group that was removed last. Its stamp is a part of the version of
// every principal that names a group that is not there.
type departed struct {
	Last GroupRef `json:"last"`
}

func departedKey(s store.Scope) store.Key { return s.Key(store.KindGroupMember) }

// live are those of refs whose group is there.
func (r *Registry) live(s store.Scope, refs []GroupRef) ([]GroupRef, error) {
	all := true
	for i := range refs {
		there, err := r.there(s, refs[i])
		if err != nil {
			return nil, err
		}
		all = all && there
	}
	if all {
		return refs, nil
	}
	return slices.DeleteFunc(slices.Clone(refs), func(ref GroupRef) bool {
		there, err := r.there(s, ref)
		return err != nil || !there
	}), nil
}

// LiveGroups are the identifiers of those of refs whose group is there.
func (r *Registry) LiveGroups(_ context.Context, org policy.OrgID, refs []GroupRef) ([]string, error) {
	const op = "read groups"
	h, err := r.homeOf(org)
	if err != nil {
		return nil, at(op, err)
	}
	live, err := r.live(h.scope, refs)
	return names(live), at(op, err)
}

func (r *Registry) there(s store.Scope, ref GroupRef) (bool, error) {
	found, err := recall[Group](r, groupKey(s, ref.ID))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && found.Record.Incarnation == ref.Incarnation, err
}

// names are the identifiers of refs, nil for none.
func names(refs []GroupRef) []string {
	if len(refs) == 0 {
		return nil
	}
	ids := make([]string, len(refs))
	for i := range refs {
		ids[i] = refs[i].ID
	}
	return ids
}

// resolve finds the groups that refs name, each once. One without an incarnation has
// to be there; another one that is not there any more is left out.
func (w *writing) resolve(h home, refs []GroupRef) (found []GroupRef, err error) {
	for _, ref := range refs {
		g, err := loadGroup(w, h, ref.ID)
		switch {
		case policy.KindOf(err) == policy.KindNotFound && ref.Incarnation == 0:
			return nil, invalid("groups", "must be groups of the organisation")
		case policy.KindOf(err) == policy.KindNotFound:
			continue
		case err != nil:
			return nil, err
		case ref.Incarnation != 0 && ref.Incarnation != g.Incarnation:
			continue
		}
		if !slices.Contains(found, g.ref()) {
			found = append(found, g.ref())
		}
	}
	if len(found) > maxGroups {
		return nil, invalid("groups", "must be at most "+strconv.Itoa(maxGroups))
	}
	return found, nil
}
