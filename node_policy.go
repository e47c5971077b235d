package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/opa/remote"
	"github.com/cordon-mq/cordon/policy/revision"
	"github.com/cordon-mq/cordon/policy/topic"
	"github.com/cordon-mq/cordon/rego"
)

const (
	// evaluationTime bounds one policy evaluation. It is wall time: enough for one
	// that takes microseconds to survive a machine that is busy otherwise.
	evaluationTime = time.Second
	// archivePoll is how often an archive is looked at. It is replaced as a whole,
	// so there is no burst of writes to wait for.
	archivePoll = 2 * time.Second
	// firstBundle is how long a start waits for a server when there is no policy
	// of an earlier run to go on with.
	firstBundle = 10 * time.Second
)

// openPolicy makes the policy live to start with, and follows its source. A
// pinned revision comes first. A folder or archive with problems does not start:
// there is nothing else that the operator asked for. A server that does not
// answer leaves what was live last.
func (n *node) openPolicy(ctx context.Context, stderr io.Writer) error {
	n.engine = opa.New(opa.Options{
		Log: n.log, Schemas: rego.Schemas(), Timeout: evaluationTime, Evaluated: n.metrics.Evaluated,
		Narrowings: storedLayers{n.registry}, NarrowingTimeout: ownEvaluationTime,
		Offer: func(b *opa.Bundle) error { return n.offer(b, nil, policyAuthor("policy folder", n.policyPath())) },
	})
	n.onStop(func() error { n.engine.Close(); return nil })
	if err := n.openRevisions(); err != nil {
		return err
	}
	id, pinned, err := n.revisions.Resume(policyGate(ctx, n.activate))
	if err != nil {
		return fmt.Errorf("policy: the pinned revision %s cannot go live: %w; \"cordon policy activate --unpin\" ends the pin", id, err)
	}
	if pinned {
		n.log.Info("policy pinned", "revision", id)
	}
	switch {
	case n.cfg.PolicyIsURL():
		return n.followServer(ctx, pinned)
	case n.cfg.PolicyIsArchive():
		return n.followArchive(ctx, pinned, stderr)
	case n.cfg.Policy != "":
		return n.followFolder(ctx, pinned, stderr)
	default:
		return n.offerLoaded(ctx, rego.Bundle(), nil, policyAuthor("built-in policies", "version "+version), stderr)
	}
}

// openRevisions opens the book of every policy that was ever live.
func (n *node) openRevisions() error {
	files, book, err := openBook(n.cfg.Data)
	if err != nil {
		return err
	}
	n.revisions = book
	n.onStop(files.Close)
	return nil
}

// openBook opens the revisions of a data folder. Close the files.
func openBook(data string) (*revision.Files, *revision.Book, error) {
	dir := filepath.Join(data, "policy")
	files, err := revision.OpenFiles(dir)
	if err != nil {
		return nil, nil, err
	}
	book, err := revision.Open(files, nil)
	var bad *revision.BadEntry
	if errors.As(err, &bad) {
		err = fmt.Errorf("%w: somebody changed the log in %s; move that folder away to begin another", err, dir)
	}
	if err != nil {
		return nil, nil, errors.Join(err, files.Close())
	}
	return files, book, nil
}

// policyGate loads stored bundles as any other, and has activate make them live.
func policyGate(ctx context.Context, activate func(*opa.Bundle)) revision.Check {
	return func(stored fs.FS) (func(), error) {
		bundle, report := opa.Load(ctx, stored, rego.Schemas())
		if bundle == nil {
			return nil, report.Err()
		}
		return func() { activate(bundle) }, nil
	}
}

// activate makes b live, unless it is.
func (n *node) activate(b *opa.Bundle) {
	if b.Revision() != n.engine.Revision() {
		n.engine.Activate(b)
	}
}

// offer gives a bundle that passed the gate to the book, which keeps it and
// decides whether it goes live. archive is what it came in; nil: a folder.
func (n *node) offer(b *opa.Bundle, archive *opa.Archive, by revision.Author) error {
	o := revision.Offering{Files: b.Files(), By: by}
	if archive != nil {
		o.Sequence = archive.Sequence
	}
	out, err := n.revisions.Offer(o, func() { n.activate(b) })
	switch {
	case err != nil:
		return err
	case out.Stale:
		n.log.Error("policy stored, not live: its source has offered a later build", "revision", out.ID, "sequence", o.Sequence,
			"hint", "if it is meant, build it anew with a higher sequence, or activate the revision by hand")
	case !out.Live:
		n.log.Info("policy stored, not live: another revision is pinned", "revision", out.ID)
	case out.Again && archive != nil:
		n.log.Warn("policy archive came before, and another one since: a rollback or a replay", "revision", out.ID,
			"hint", "a sequence in its manifest keeps an old build from coming back")
	}
	n.prune()
	return nil
}

// prune deletes what is more than the operator wants to keep. What cannot be
// deleted is more, and no reason to refuse a policy.
func (n *node) prune() {
	gone, err := n.revisions.Prune(n.cfg.PolicyKeep, revision.Author{Who: "policy-keep", Why: strconv.Itoa(n.cfg.PolicyKeep)})
	for _, id := range gone {
		n.log.Info("policy revision pruned", "revision", id)
	}
	if err != nil {
		n.log.Error("policy revisions not pruned", "err", err)
	}
}

// policyAuthor is the source of a bundle in the words of the log.
func policyAuthor(who, why string) revision.Author {
	if !topic.CheckText(why) || len(why) > 1024 {
		why = ""
	}
	return revision.Author{Who: who, Why: why}
}

// policyPath is the whole path, for the log: another start may be elsewhere.
func (n *node) policyPath() string {
	path, err := filepath.Abs(n.cfg.Policy)
	if err != nil {
		return n.cfg.Policy
	}
	return path
}

// offerLoaded loads a bundle and offers it. Its problems go to stderr.
func (n *node) offerLoaded(ctx context.Context, source fs.FS, archive *opa.Archive, by revision.Author, stderr io.Writer) error {
	bundle, report := opa.Load(ctx, source, rego.Schemas())
	if bundle == nil {
		_, _ = report.WriteTo(stderr)
		return fmt.Errorf("policy: %w", report.Err())
	}
	opa.LogReport(n.log, report)
	return n.offer(bundle, archive, by)
}

// beside runs f until stop, which waits for it.
func (n *node) beside(f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.work.Go(func() { defer close(done); f(ctx) })
	n.onStop(func() error { cancel(); <-done; return nil })
}

// followFolder offers the folder and each edit. While a revision is pinned, the
// watch alone looks at it: its problems are no reason not to start.
func (n *node) followFolder(ctx context.Context, pinned bool, stderr io.Writer) error {
	if !pinned {
		err := n.offerLoaded(ctx, os.DirFS(n.cfg.Policy), nil, policyAuthor("policy folder", n.policyPath()), stderr)
		if err != nil {
			return err
		}
	}
	n.beside(func(ctx context.Context) {
		if err := n.engine.Watch(ctx, n.cfg.Policy); err != nil {
			n.log.Error("policy folder not watched", "err", err)
		}
	})
	return nil
}

// followArchive offers the archive, and again whenever the file is another.
func (n *node) followArchive(ctx context.Context, pinned bool, stderr io.Writer) error {
	by := policyAuthor("policy archive", n.policyPath())
	key, err := readKey(n.cfg.PolicyKey)
	if err != nil {
		return err
	}
	seen, err := os.Stat(n.cfg.Policy)
	if err == nil {
		var archive *opa.Archive
		if archive, err = readArchive(n.cfg.Policy, key); err == nil {
			err = n.offerLoaded(ctx, archive.FS, archive, by, stderr)
		}
	}
	if err != nil && !pinned {
		return err
	}
	if err != nil {
		n.log.Error("policy archive refused", "err", err)
	}
	if err == nil && n.engine.Revision() == "" { // it is an old build
		n.resumeLast(ctx)
	}
	n.beside(func(ctx context.Context) {
		tick := time.NewTicker(archivePoll)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now, err := os.Stat(n.cfg.Policy)
			if err != nil || sameFile(seen, now) {
				continue // one that is gone changes nothing
			}
			seen = now
			n.lookAtArchive(ctx, key, by)
		}
	})
	return nil
}

func sameFile(a, b os.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

func (n *node) lookAtArchive(ctx context.Context, key *opa.Key, by revision.Author) {
	archive, err := readArchive(n.cfg.Policy, key)
	if err != nil {
		n.log.Error("policy archive refused", "err", err)
		return
	}
	bundle, report := opa.Load(ctx, archive.FS, rego.Schemas())
	if ctx.Err() != nil {
		return
	}
	opa.LogReport(n.log, report)
	if bundle == nil {
		return
	}
	if err := n.offer(bundle, archive, by); err != nil {
		n.log.Error("policy not activated", "revision", bundle.Revision(), "err", err)
	}
}

// followServer polls the URL. Until it answers, the policy that was live last
// is; at a first start there is none, and everything is denied.
func (n *node) followServer(ctx context.Context, pinned bool) error {
	key, err := readKey(n.cfg.PolicyKey)
	if err != nil {
		return err
	}
	if key == nil {
		n.log.Warn("policy bundles are taken as the server sends them: --policy-key would have their signature verified")
	}
	server, err := url.Parse(n.cfg.Policy)
	if err != nil {
		return errors.New("policy: the URL cannot be read") // without the URL, whose query may be secret
	}
	if _, err := n.policyToken(); err != nil {
		return err
	}
	by := policyAuthor("policy server", server.Host)
	first := make(chan struct{}, 1)
	poller, err := remote.New(remote.Options{
		URL: n.cfg.Policy, Key: key, Unsigned: key == nil, Authorize: n.authorisePolicy, Log: n.log,
		Interval: time.Duration(n.cfg.PolicyInterval) * time.Second, Schemas: rego.Schemas(),
		Offer: func(b *opa.Bundle, archive *opa.Archive) error {
			err := n.offer(b, archive, by)
			select {
			case first <- struct{}{}:
			default:
			}
			return err
		},
	})
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	if !pinned {
		n.resumeLast(ctx)
	}
	n.beside(poller.Run)
	if n.engine.Revision() != "" {
		return nil
	}
	timer := time.NewTimer(firstBundle)
	defer timer.Stop()
	select {
	case <-first:
	case <-ctx.Done():
	case <-timer.C:
		n.log.Warn("no policy yet: everything is denied until the server sends one")
	}
	return nil
}

// resumeLast makes the revision live that was live when the program ended.
func (n *node) resumeLast(ctx context.Context) {
	id, _ := n.revisions.Live()
	if id == "" {
		return
	}
	files, err := n.revisions.Files(id)
	if err == nil {
		var stored fs.FS
		var live func()
		if stored, err = revision.FS(files); err == nil {
			if live, err = policyGate(ctx, n.activate)(stored); err == nil {
				live()
				return
			}
		}
	}
	n.log.Error("the policy that was live last is not any more", "revision", id, "err", err)
}

// authorisePolicy adds the token, read anew: it may have been replaced.
func (n *node) authorisePolicy(header http.Header) error {
	token, err := n.policyToken()
	if err == nil && token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	return err
}

// policyToken is empty when no file is named.
func (n *node) policyToken() (string, error) {
	if n.cfg.PolicyTokenFile == "" {
		return "", nil
	}
	text, err := readSmallFile(n.cfg.PolicyTokenFile)
	if err != nil {
		return "", fmt.Errorf("policy token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("policy token: %s does not hold one token", n.cfg.PolicyTokenFile)
	}
	return token, nil
}
