package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// PolicyGate makes what checks a stored revision, on the time of ctx, and then
// makes it live.
type PolicyGate func(ctx context.Context) revision.Check

// PolicyHandler serves the routes of /api/operator/v1/policy alone, to whoever
// reaches it: for a command that has a data folder to itself.
func PolicyHandler(book *revision.Book, gate PolicyGate) http.Handler {
	a := &API{log: slog.New(slog.DiscardHandler), now: time.Now, maxBody: defaultMaxBody, revisions: book, gate: gate}
	mux := http.NewServeMux()
	a.policyRoutes(newSurface(a, mux, operatorPrefix, socketGate{a}))
	return &front{a, mux}
}

// PolicyStatus is what is live.
type PolicyStatus struct {
	Revision string `json:"revision" doc:"Empty before the first."`
	Pinned   bool   `json:"pinned" doc:"Whether it stays, whatever its source offers."`
	// Log names the last entry: kept elsewhere, it shows later whether the log was
	// replaced as a whole.
	Log PolicyLogHead `json:"log"`
}

// PolicyLogHead names an entry of the log.
type PolicyLogHead struct {
	Number uint64 `json:"number"`
	Hash   string `json:"hash"`
}

// PolicyRevision is one stored bundle.
type PolicyRevision struct {
	Revision string    `json:"revision"`
	Digest   string    `json:"digest" doc:"SHA-256 of its files, which the revision is the beginning of."`
	Live     bool      `json:"live"`
	Pinned   bool      `json:"pinned"`
	Stored   timestamp `json:"stored"`
	Who      string    `json:"who" doc:"Who brought it."`
	Why      string    `json:"why,omitempty"`
}

// PolicyLogEntry is one line of the log.
type PolicyLogEntry struct {
	Number   uint64    `json:"number"`
	At       timestamp `json:"at"`
	Action   string    `json:"action" doc:"stored, activated, pinned, rolled_back, unpinned, stale, tried (by a canary) or pruned."`
	Revision string    `json:"revision"`
	Sequence uint64    `json:"sequence,omitempty" doc:"Of the build, where its source numbers them."`
	Who      string    `json:"who"`
	Why      string    `json:"why,omitempty"`
	Hash     string    `json:"hash"`
}

// PolicyLogVerdict says whether the log and every bundle are what was written.
type PolicyLogVerdict struct {
	Valid   bool          `json:"valid"`
	Problem string        `json:"problem,omitempty"`
	Log     PolicyLogHead `json:"log"`
}

// PolicyDiff holds what leads from one revision to another.
type PolicyDiff struct {
	From string `json:"from"`
	To   string `json:"to"`
	Diff string `json:"diff" doc:"In the unified format; empty when they are the same."`
}

// PolicyProblem is one thing that is wrong with a policy.
type PolicyProblem struct {
	Position string `json:"position,omitempty" doc:"file:line:col, or file."`
	Code     string `json:"code"`
	Message  string `json:"message"`
	Line     string `json:"line,omitempty" doc:"The source line."`
	Hint     string `json:"hint,omitempty"`
}

// PolicyChange asks for another live revision.
type PolicyChange struct {
	Revision *string `json:"revision,omitempty" nullable:"true"`
	Unpin    *bool   `json:"unpin,omitempty" nullable:"true" doc:"Let what the source offers go live."`
	Who      *string `json:"who,omitempty" nullable:"true" doc:"Name of the operator, for the log."`
	Why      *string `json:"why,omitempty" nullable:"true" doc:"Reason, for the log."`
}

func (a *API) policyRoutes(s *surface) {
	handle(s, operation{method: "GET", path: "/policy", id: "read_policy", summary: "Which policy is live", status: http.StatusOK}, a.policyStatus)
	handle(s, operation{method: "GET", path: "/policy/revisions", id: "list_policy_revisions", summary: "Revisions that are stored, the newest first", status: http.StatusOK, list: true}, a.policyRevisions)
	handle(s, operation{method: "GET", path: "/policy/revisions/{revision}/diff", id: "diff_policy", summary: "What leads from one revision to another", status: http.StatusOK, queries: []parameter{{"to", "The other revision; the live one, unless given."}}}, a.policyDiff)
	handle(s, operation{method: "GET", path: "/policy/log", id: "read_policy_log", summary: "What went live when, the newest first", status: http.StatusOK, list: true}, a.policyLog)
	handle(s, operation{method: "GET", path: "/policy/log/verify", id: "verify_policy_log", summary: "Whether log and bundles are what was written", status: http.StatusOK}, a.verifyPolicyLog)
	handle(s, operation{method: "POST", path: "/policy/activate", id: "activate_policy", summary: "Make a stored revision live, if it passes the gate", status: http.StatusOK, body: true, conflict: true}, a.activatePolicy)
	handle(s, operation{method: "POST", path: "/policy/rollback", id: "rollback_policy", summary: "Go back to what was live before", status: http.StatusOK, body: true, optional: true, conflict: true}, a.rollbackPolicy)
}

func (a *API) policyStatus(context.Context, *call, *none) (PolicyStatus, error) {
	id, pinned := a.revisions.Live()
	return PolicyStatus{string(id), pinned, a.policyHead()}, nil
}

func (a *API) policyHead() PolicyLogHead {
	h := a.revisions.Head()
	return PolicyLogHead{h.Number, h.Hash}
}

func (a *API) policyRevisions(_ context.Context, c *call, _ *none) (List[PolicyRevision], error) {
	return pageOf(c, a.revisions.List(), func(r revision.Revision) string { return string(r.ID) }, func(r revision.Revision) PolicyRevision {
		return PolicyRevision{
			Revision: string(r.ID), Digest: string(r.Digest), Live: r.Live, Pinned: r.Pinned,
			Stored: timestamp{r.First.At}, Who: r.First.Who, Why: r.First.Why,
		}
	})
}

// policyLog begins with the last entry.
func (a *API) policyLog(_ context.Context, c *call, _ *none) (List[PolicyLogEntry], error) {
	entries := a.revisions.Entries()
	slices.Reverse(entries)
	return pageOf(c, entries, func(e revision.Entry) string { return strconv.FormatUint(e.Number, 10) }, func(e revision.Entry) PolicyLogEntry {
		return PolicyLogEntry{
			Number: e.Number, At: timestamp{e.At}, Action: string(e.Action), Revision: string(e.Revision.ID()),
			Sequence: e.Sequence, Who: e.Who, Why: e.Why, Hash: e.Hash,
		}
	})
}

// pageOf cuts a page out of a list that is in memory. name is what the bookmark
// says of the last record.
func pageOf[Record, T any](c *call, all []Record, name func(Record) string, show func(Record) T) (List[T], error) {
	page, err := c.page()
	if err != nil {
		return List[T]{}, err
	}
	if page.After != "" {
		at := slices.IndexFunc(all, func(r Record) bool { return name(r) == page.After })
		if at < 0 {
			return List[T]{}, invalid("_bookmark", "must be the bookmark of the page before")
		}
		all = all[at+1:]
	}
	l := List[T]{Results: []T{}}
	for i, r := range all {
		if i == page.Limit {
			l.Bookmark = name(all[i-1])
			break
		}
		l.Results = append(l.Results, show(r))
	}
	return l, nil
}

// verifyPolicyLog reads everything again. What it finds is the operator's to
// know, so it is told as it is.
func (a *API) verifyPolicyLog(context.Context, *call, *none) (PolicyLogVerdict, error) {
	v := PolicyLogVerdict{Valid: true, Log: a.policyHead()}
	if err := a.revisions.Verify(); err != nil {
		v.Valid, v.Problem = false, err.Error()
	}
	return v, nil
}

// policyDiff compares with the revision of ?to=, or with the live one.
func (a *API) policyDiff(_ context.Context, c *call, _ *none) (PolicyDiff, error) {
	from, err := revision.ParseID(c.params("revision"))
	if err != nil {
		return PolicyDiff{}, err
	}
	to, _ := a.revisions.Live()
	if text := c.query.Get("to"); text != "" {
		if to, err = revision.ParseID(text); err != nil {
			return PolicyDiff{}, err
		}
	}
	text, err := a.revisions.Diff(from, to)
	return PolicyDiff{string(from), string(to), text}, err
}

func (a *API) activatePolicy(ctx context.Context, c *call, in *PolicyChange) (PolicyStatus, error) {
	by, check := authorOf(c, in), a.gate(ctx)
	var id revision.ID
	var err error
	if text := value(in.Revision); text != "" {
		if id, err = revision.ParseID(text); err != nil {
			return PolicyStatus{}, err
		}
	}
	switch unpin := value(in.Unpin); {
	case id != "" && unpin:
		err = a.activateUnpinned(id, by, check)
	case id != "":
		err = a.revisions.Activate(id, by, check)
	case unpin:
		_, err = a.revisions.Unpin(by, check)
	default:
		err = invalid("revision", "is required, or unpin")
	}
	return a.changedPolicy(err)
}

// activateUnpinned makes a revision live as if its source had offered it: until
// the source offers another.
func (a *API) activateUnpinned(id revision.ID, by revision.Author, check revision.Check) error {
	files, err := a.revisions.Files(id)
	if err != nil {
		return err
	}
	stored, err := revision.FS(files)
	if err != nil {
		return err
	}
	live, err := check(stored)
	if err != nil {
		return refusedByGate(err)
	}
	if _, err := a.revisions.Offer(revision.Offering{Files: files, By: by}, live); err != nil {
		return err
	}
	if _, pinned := a.revisions.Live(); !pinned {
		return nil
	}
	_, err = a.revisions.Unpin(by, check)
	return err
}

func (a *API) rollbackPolicy(ctx context.Context, c *call, in *PolicyChange) (PolicyStatus, error) {
	_, err := a.revisions.Rollback(authorOf(c, in), a.gate(ctx))
	return a.changedPolicy(err)
}

func authorOf(c *call, in *PolicyChange) revision.Author {
	by := revision.Author{Who: c.caller, Why: value(in.Why)}
	if name := value(in.Who); name != "" {
		by.Who += " " + name
	}
	return by
}

// changedPolicy answers with what is live now. What the gate found is told: it is
// about the operator's own policy.
func (a *API) changedPolicy(err error) (PolicyStatus, error) {
	var refused *policy.Error
	switch {
	case err == nil:
		return a.policyStatus(context.Background(), nil, nil)
	case errors.As(err, &refused) && refused.Kind == policy.KindConflict && refused.Err != nil:
		return PolicyStatus{}, refusedByGate(refused.Err)
	default:
		return PolicyStatus{}, err
	}
}

func refusedByGate(err error) error {
	f := &fault{status: statusOf(policy.KindConflict), message: "the revision does not pass the gate: " + err.Error()}
	var refusal *revision.Refusal
	if errors.As(err, &refusal) {
		for _, p := range refusal.Findings {
			f.problems = append(f.problems, PolicyProblem{p.Position, p.Code, p.Message, p.Line, p.Hint})
		}
	}
	return f
}
