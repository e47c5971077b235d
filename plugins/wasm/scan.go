package wasm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cordon-mq/cordon/policy"
)

// table is what is in the plugins folder.
type table struct {
	plugins map[place]*plugin
	refused map[place]error // no version of it works
}

// observed is what was last read of a place.
type observed struct {
	stamps   map[string]stamp
	settings *settings // nil where they could not be read
	orgs     []policy.OrgID
	orgErr   string // why it serves nobody
	refused  bool
	again    int // how often it may still be tried without a change
}

// tries is how often a plugin is loaded again whose refusal may be the fault of a
// busy machine.
const tries = 5

// scan brings the table up to date with the folder.
func (h *Host) scan(ctx context.Context) error {
	h.scanning.Lock()
	defer h.scanning.Unlock()
	if h.scanning.closed {
		return errors.New("closed")
	}
	found, odd, unread, err := list(h.dir)
	if err != nil {
		return err
	}
	before := h.table.Load().services()
	defer func() { h.loseLocked(before) }()
	h.logOddLocked(odd)
	for _, p := range found {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.refreshLocked(ctx, p)
	}
	for p := range h.scanning.seen {
		if !slices.Contains(found, p) && !unread[p.folder] {
			h.removeLocked(p)
		}
	}
	return nil
}

// logOddLocked says once of each entry why it is no plugin.
func (h *Host) logOddLocked(odd map[string]error) {
	before := h.scanning.odd
	h.scanning.odd = map[string]string{}
	for name, err := range odd {
		h.scanning.odd[name] = err.Error()
		if before[name] != err.Error() {
			h.log.Warn("not a plugin", "file", name, "error", err)
		}
	}
}

// refreshLocked loads what lies at p, if it is not what was there before.
func (h *Host) refreshLocked(ctx context.Context, p place) {
	f, before, last := filesOf(h.dir, p), h.table.Load().plugins[p], h.scanning.seen[p]
	if last == nil {
		last = &observed{again: tries}
	}
	stamps := f.stamps(last.settings)
	orgs, err := h.orgsOf(ctx, p, last.settings)
	if maps.Equal(last.stamps, stamps) && slices.Equal(last.orgs, orgs) && last.orgErr == text(err) {
		return
	}
	s, err := read(p, f, h.limits)
	saw := &observed{stamps: stamps, again: tries}
	if err == nil {
		saw.settings = s.settings
		saw.stamps = f.stamps(s.settings)
		if saw.stamps[f.module] != stamps[f.module] || saw.stamps[f.settings] != stamps[f.settings] {
			saw.stamps = nil // written to meanwhile: read again next time
		}
	}
	var orgErr error
	saw.orgs, orgErr = h.orgsOf(ctx, p, saw.settings)
	saw.orgErr = text(orgErr)
	if err == nil {
		err = orgErr
	}
	h.scanning.seen[p] = saw
	if err == nil && before != nil && before.source.digest == s.digest && slices.Equal(before.orgs, saw.orgs) && !last.refused {
		return // touched, not changed
	}
	var next *plugin
	if err == nil {
		for _, w := range s.warnings {
			h.log.Warn("plugin loads with a warning", "plugin", p.name, "folder", p.folder, "warning", w)
		}
		next, err = h.load(ctx, s, binding{saw.orgs}, before)
	}
	if err != nil {
		saw.refused = true
		if transient(err) && last.again > 0 {
			saw.stamps, saw.again = nil, last.again-1
		}
		h.refuseLocked(p, before, err)
		return
	}
	h.swapLocked(p, next, nil)
	h.log.Info("plugin loaded", "plugin", p.name, "folder", p.folder, "organisations", len(next.orgs), "replaced", before != nil)
}

// transient reports whether err may be the fault of a busy machine.
func transient(err error) bool {
	return errors.Is(err, errDeadline) || errors.Is(err, errMemory) || errors.Is(err, errBusy)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// refuseLocked keeps the version before, unless the plugin may not be bound any more.
func (h *Host) refuseLocked(p place, before *plugin, err error) {
	if errors.Is(err, errBinding) {
		before = nil
	}
	h.log.Error("plugin refused", "plugin", p.name, "folder", p.folder, "file", p.String()+".wasm",
		"error", firstLine(err), "kept_previous", before != nil)
	h.swapLocked(p, before, err)
}

func (h *Host) removeLocked(p place) {
	delete(h.scanning.seen, p)
	h.log.Info("plugin removed", "plugin", p.name, "folder", p.folder)
	h.swapLocked(p, nil, nil)
}

// swapLocked puts next, or why there is none, into the table and drains what was there.
func (h *Host) swapLocked(p place, next *plugin, why error) {
	old := h.table.Load()
	t := &table{maps.Clone(old.plugins), maps.Clone(old.refused)}
	if t.plugins == nil {
		t.plugins, t.refused = map[place]*plugin{}, map[place]error{}
	}
	delete(t.plugins, p)
	delete(t.refused, p)
	if next != nil {
		t.plugins[p] = next
	} else if why != nil {
		t.refused[p] = why
	}
	h.table.Store(t)
	if before := old.plugins[p]; before != nil && before != next {
		h.retire(before)
	}
}

var errBinding = errors.New("serves nobody")

// orgsOf is whom the plugin at p serves.
func (h *Host) orgsOf(ctx context.Context, p place, s *settings) ([]policy.OrgID, error) {
	listed, err := []policy.OrgID(nil), error(nil)
	if s != nil {
		if listed, err = s.organisations(); err != nil {
			return nil, err
		}
	}
	switch {
	case p.folder == folderPlatform && len(listed) == 0:
		return nil, fmt.Errorf("%w: name its organisations in %s.yaml", errBinding, p.name)
	case p.folder == folderPlatform:
		return listed, nil
	case len(listed) > 0:
		return nil, fmt.Errorf("only a plugin in %s has a list of organisations", folderPlatform)
	case p.folder != "":
		org, err := policy.ParseOrgID(p.folder)
		return []policy.OrgID{org}, err
	}
	all, err := h.orgs(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("list organisations: %w", err)
	case len(all) != 1:
		return nil, fmt.Errorf("%w: there are %d organisations: put it into the folder of one, or into %s", errBinding, len(all), folderPlatform)
	}
	return all, nil
}
