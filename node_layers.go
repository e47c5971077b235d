package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cordon-mq/cordon/broker"
	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/revision"
)

// ownEvaluationTime bounds one evaluation of an organisation's own rules. Like
// evaluationTime it is wall time, and leaves room for a machine that is busy.
const ownEvaluationTime = evaluationTime / 5

// layers keeps the policies of organisations: in the registry as text, in the
// engine compiled, and has live sessions judged by them.
type layers struct {
	registry *registry.Registry
	engine   *opa.Engine
	broker   *broker.Broker

	// changing keeps what is stored and what is live in one order.
	changing sync.Mutex
}

var _ api.Narrowings = (*layers)(nil)

// storedLayers finds them for the engine, which compiles one when it is needed.
type storedLayers struct{ registry *registry.Registry }

var _ opa.NarrowingSource = storedLayers{}

// Narrowing implements opa.NarrowingSource.
func (s storedLayers) Narrowing(org policy.OrgID) (files []revision.File, has bool, err error) {
	stored, err := s.registry.OrganisationPolicy(context.Background(), org)
	switch {
	case policy.KindOf(err) == policy.KindNotFound:
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	return filesOf(stored.Files), true, nil
}

func filesOf(stored []registry.PolicyFile) []revision.File {
	files := make([]revision.File, len(stored))
	for i, f := range stored {
		files[i] = revision.File{Path: f.Path, Text: []byte(f.Text)}
	}
	return files
}

// openLayers has the policy of a deleted organisation forgotten.
func (n *node) openLayers() *layers {
	l := &layers{registry: n.registry, engine: n.engine, broker: n.broker}
	n.onStop(n.registryWatch(func(ch registry.Change) {
		if ch.Kind == registry.OrganisationDeleted {
			n.engine.Narrow(ch.Org, nil)
		}
	}))
	return l
}

// Narrowing implements api.Narrowings.
func (l *layers) Narrowing(ctx context.Context, org policy.OrgID) (api.Narrowing, error) {
	stored, err := l.registry.OrganisationPolicy(ctx, org)
	if err != nil {
		return api.Narrowing{}, err
	}
	return api.Narrowing{Revision: stored.Revision, Files: filesOf(stored.Files), Who: stored.Who, Updated: stored.Updated}, nil
}

// CheckNarrowing implements api.Narrowings.
func (l *layers) CheckNarrowing(ctx context.Context, org policy.OrgID, files []revision.File) (api.NarrowingCheck, error) {
	_, check, err := l.load(ctx, org, files)
	return check, err
}

func (l *layers) load(ctx context.Context, org policy.OrgID, files []revision.File) (*opa.Narrowing, api.NarrowingCheck, error) {
	fsys, err := revision.FS(files)
	if err != nil {
		return nil, api.NarrowingCheck{}, &policy.Error{Kind: policy.KindInvalid, Field: "files", Public: fmt.Sprintf("are no bundle: %v", err)}
	}
	n, report, err := l.engine.LoadNarrowing(ctx, org, fsys)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, api.NarrowingCheck{}, err
	}
	check := api.NarrowingCheck{Revision: n.Revision(), Passed: count(report.Tests, passed)}
	for _, p := range report.Warnings {
		check.Warnings = append(check.Warnings, revision.Finding{Position: p.Position, Line: p.Line, Code: p.Code, Message: p.Message, Hint: p.Hint})
	}
	return n, check, nil
}

// SetNarrowing implements api.Narrowings.
func (l *layers) SetNarrowing(ctx context.Context, org policy.OrgID, who string, files []revision.File) (api.NarrowingCheck, error) {
	n, check, err := l.load(ctx, org, files)
	if err != nil {
		return api.NarrowingCheck{}, err
	}
	record := registry.OrganisationPolicy{Revision: n.Revision(), Who: who}
	for _, f := range n.Files() {
		record.Files = append(record.Files, registry.PolicyFile{Path: f.Path, Text: string(f.Text)})
	}
	check.Updated, err = l.change(org, n, func() (time.Time, error) {
		stored, err := l.registry.SetOrganisationPolicy(ctx, org, record)
		return stored.Updated, err
	})
	return check, err
}

// DeleteNarrowing implements api.Narrowings.
func (l *layers) DeleteNarrowing(ctx context.Context, org policy.OrgID) error {
	_, err := l.change(org, nil, func() (time.Time, error) {
		return time.Time{}, l.registry.DeleteOrganisationPolicy(ctx, org)
	})
	return err
}

// change stores what becomes of a policy and makes it so.
func (l *layers) change(org policy.OrgID, n *opa.Narrowing, store func() (time.Time, error)) (time.Time, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	at, err := store()
	switch k := policy.KindOf(err); {
	case err == nil:
		l.engine.Narrow(org, n)
		l.broker.SweepOrganisation(org)
	case k == policy.KindInternal || k == policy.KindUnavailable:
		l.engine.ReloadNarrowing(org) // it may be stored all the same
	}
	return at, err
}

// UnpackNarrowing implements api.Narrowings.
func (l *layers) UnpackNarrowing(archive []byte) ([]revision.File, error) {
	return opa.ReadNarrowingArchive(archive)
}
