package api

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/revision"
)

// Narrowings keeps the policies of organisations: bundles by which each narrows,
// for itself, what the platform's policy allows. Its methods are safe for
// concurrent use.
type Narrowings interface {
	// Narrowing returns the bundle of an organisation, or policy.KindNotFound.
	Narrowing(ctx context.Context, org policy.OrgID) (Narrowing, error)
	// CheckNarrowing says whether a bundle may go live. The error of one that may not
	// is a *revision.Refusal.
	CheckNarrowing(ctx context.Context, org policy.OrgID, files []revision.File) (NarrowingCheck, error)
	// SetNarrowing stores a bundle that passes the check and makes it live: when it
	// returns, no session of the organisation is answered from another one. On an
	// error, what was live stays.
	SetNarrowing(ctx context.Context, org policy.OrgID, who string, files []revision.File) (NarrowingCheck, error)
	// DeleteNarrowing takes the bundle away, or fails with policy.KindNotFound.
	DeleteNarrowing(ctx context.Context, org policy.OrgID) error
	// UnpackNarrowing reads the files of a .tar.gz.
	UnpackNarrowing(archive []byte) ([]revision.File, error)
}

// Narrowing is the stored bundle of an organisation.
type Narrowing struct {
	Revision string
	Files    []revision.File
	Who      string
	Updated  time.Time
}

// NarrowingCheck is what the gate said of a bundle that passed it.
type NarrowingCheck struct {
	Revision string
	Passed   int // tests
	Warnings []revision.Finding
	Updated  time.Time // zero where nothing was stored
}

// OrganisationPolicy is the bundle of an organisation.
type OrganisationPolicy struct {
	Revision string            `json:"revision" doc:"Hash of the files."`
	Updated  timestamp         `json:"updated"`
	Who      string            `json:"who" doc:"Who uploaded it."`
	Files    map[string]string `json:"files" doc:"Text of each file by its path."`
}

// OrganisationPolicyUpload is a bundle on its way in.
type OrganisationPolicyUpload struct {
	Files map[string]string `json:"files" doc:"Text of each file by its path, such as cordon/publish/publish.rego."`
}

// OrganisationPolicyVerdict is what the gate says of a bundle that passed it.
type OrganisationPolicyVerdict struct {
	Revision    string          `json:"revision"`
	TestsPassed int             `json:"testsPassed"`
	Warnings    []PolicyProblem `json:"warnings" nullable:"false"`
	Updated     *timestamp      `json:"updated,omitempty" doc:"When it was stored; absent for a check alone."`
}

// maxPolicyBody is how many bytes a bundle may take as it is sent: its text as
// JSON, in which a character may take several.
const maxPolicyBody = 1 << 20

// archiveMedia is the type of a bundle as OPA builds it.
const archiveMedia = "application/gzip"

func (a *API) narrowingRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: "/policy", id: "readPolicy", summary: "The organisation's own policy, which narrows the platform's",
		status: http.StatusOK,
	}, a.readNarrowing)
	handle(s, operation{
		method: "PUT", path: "/policy", id: "replacePolicy", summary: "Upload the organisation's own policy and make it live",
		status: http.StatusOK, body: true, most: maxPolicyBody, archive: true,
	}, a.replaceNarrowing)
	handle(s, operation{
		method: "DELETE", path: "/policy", id: "deletePolicy", summary: "Take the organisation's own policy away",
		status: http.StatusNoContent,
	}, a.deleteNarrowing)
	handle(s, operation{
		method: "POST", path: "/policy/check", id: "checkPolicy", summary: "Say whether a policy may go live, and keep nothing",
		status: http.StatusOK, body: true, most: maxPolicyBody, archive: true,
	}, a.checkNarrowing)
}

func (a *API) readNarrowing(ctx context.Context, c *call, _ *none) (OrganisationPolicy, error) {
	n, err := a.narrowings.Narrowing(ctx, c.org)
	if err != nil {
		return OrganisationPolicy{}, err
	}
	p := OrganisationPolicy{Revision: n.Revision, Updated: timestamp{n.Updated}, Who: n.Who, Files: map[string]string{}}
	for _, f := range n.Files {
		p.Files[f.Path] = string(f.Text)
	}
	return p, nil
}

func (a *API) replaceNarrowing(ctx context.Context, c *call, in *OrganisationPolicyUpload) (OrganisationPolicyVerdict, error) {
	files, err := a.uploaded(c, in)
	if err != nil {
		return OrganisationPolicyVerdict{}, err
	}
	n, err := a.narrowings.SetNarrowing(ctx, c.org, c.caller, files)
	return verdictOf(n, err)
}

func (a *API) checkNarrowing(ctx context.Context, c *call, in *OrganisationPolicyUpload) (OrganisationPolicyVerdict, error) {
	files, err := a.uploaded(c, in)
	if err != nil {
		return OrganisationPolicyVerdict{}, err
	}
	n, err := a.narrowings.CheckNarrowing(ctx, c.org, files)
	return verdictOf(n, err)
}

func (a *API) deleteNarrowing(ctx context.Context, c *call, _ *none) (none, error) {
	return none{}, a.narrowings.DeleteNarrowing(ctx, c.org)
}

// uploaded are the files of a body, in order of their path.
func (a *API) uploaded(c *call, in *OrganisationPolicyUpload) ([]revision.File, error) {
	if c.packed {
		return a.narrowings.UnpackNarrowing(c.body)
	}
	if len(in.Files) == 0 {
		return nil, invalid("files", "is required")
	}
	files := make([]revision.File, 0, len(in.Files))
	for path, text := range in.Files {
		files = append(files, revision.File{Path: path, Text: []byte(text)})
	}
	slices.SortFunc(files, func(a, b revision.File) int { return strings.Compare(a.Path, b.Path) })
	return files, nil
}

// verdictOf tells all that the gate found: it is about the caller's own text.
func verdictOf(n NarrowingCheck, err error) (OrganisationPolicyVerdict, error) {
	var refusal *revision.Refusal
	if errors.As(err, &refusal) {
		f := &fault{status: http.StatusBadRequest, message: "the policy does not pass the gate: " + refusal.Error()}
		f.problems = problemsOf(refusal.Findings)
		return OrganisationPolicyVerdict{}, f
	}
	if err != nil {
		return OrganisationPolicyVerdict{}, err
	}
	v := OrganisationPolicyVerdict{Revision: n.Revision, TestsPassed: n.Passed, Warnings: problemsOf(n.Warnings)}
	if !n.Updated.IsZero() {
		v.Updated = &timestamp{n.Updated}
	}
	return v, nil
}

func problemsOf(findings []revision.Finding) []PolicyProblem {
	all := make([]PolicyProblem, 0, len(findings))
	for _, p := range findings {
		all = append(all, PolicyProblem{p.Position, p.Code, p.Message, p.Line, p.Hint})
	}
	return all
}

// readBodyOf reads the body of a request for op, and says whether it is an archive.
func readBodyOf(w http.ResponseWriter, r *http.Request, op *operation, a *API) (body []byte, packed bool, err error) {
	if op.archive {
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err == nil && (media == archiveMedia || media == "application/x-gzip") {
			body, err := slurp(w, r, op.bodyMost(a))
			return body, true, err
		}
	}
	body, err = readBody(w, r, op.bodyMost(a))
	return body, false, err
}
