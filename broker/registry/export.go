package registry

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	digests "hash"
	"io"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// An export is text, one JSON object on each line.
//
//	{"format":"cordon-organisation","version":1,"org":"acme01","credentials":true}
//	{"kind":"organisation","record":{…}}
//	{"kind":"device","record":{…}}
//	{"kind":"credential","of":"device/sensor/d1","record":{…}}
//	…
//	{"kind":"end","records":3,"sha256":"…"}
//
// Records come in the order of their keys, so that none comes twice; their kinds are
// those of parts. The last line counts them and has the SHA-256 of all lines before
// it, which shows damage, not forgery. What has a meaning in one store only,
// such as incarnations and versions, is left out: two exports of the same state are
// the same bytes, wherever they were made.
const (
	exportFormat  = "cordon-organisation"
	exportVersion = 1
	// maxLine is the longest line, in bytes: the largest value, and what is around it.
	maxLine = store.MaxValue + 1<<10
	lineEnd = "end" // the kind of the last line
)

// heading is the first line.
type heading struct {
	Format      string       `json:"format"`
	Version     int          `json:"version"`
	Org         policy.OrgID `json:"org"`
	Credentials bool         `json:"credentials"`
}

// exportLine is any other.
type exportLine struct {
	Kind    string          `json:"kind"`
	Of      string          `json:"of,omitempty"` // whose credential or diagnostic it is
	Record  json.RawMessage `json:"record,omitempty"`
	Records *int            `json:"records,omitempty"`
	SHA256  string          `json:"sha256,omitempty"`
}

// ExportOptions of an export. The zero value is a whole one.
type ExportOptions struct {
	// WithoutCredentials leaves the salted hashes of tokens and passwords out.
	WithoutCredentials bool
}

// Moved says what an export or import was made of.
type Moved struct {
	Org         policy.OrgID
	Credentials bool           // whether the file has them
	Records     map[string]int // by kind, such as "device"
	// Skipped are records that a merge left alone, because the organisation has
	// some of that name.
	Skipped int
	// APIKey and APIToken are new, and made only by an import after which nobody
	// could sign in otherwise. The token can never be read again.
	APIKey, APIToken string
}

// Export writes the organisation to out, as it is at one moment: settings, device
// types, devices, API keys, users and all else that the registry has, what is to be
// noted and the diagnostics of devices, and, unless o says otherwise, the salted
// hashes of secrets. Whoever has those can try to guess self-chosen tokens. It holds
// one record in memory, whatever their number. Sessions and messages, and what came
// about where the organisation was, such as last events, are not part of it. After an error, what was written is not an export.
func (r *Registry) Export(ctx context.Context, org policy.OrgID, out io.Writer, o ExportOptions) (Moved, error) {
	const op = "export organisation"
	h, err := r.homeOf(org)
	if err != nil {
		return Moved{}, at(op, err)
	}
	x := &exporting{
		out: bufio.NewWriterSize(out, 64<<10), sum: sha256.New(), options: o,
		moved: Moved{Org: org, Credentials: !o.WithoutCredentials, Records: map[string]int{}},
	}
	failure := x.write(heading{exportFormat, exportVersion, org, !o.WithoutCredentials})
	if failure != nil {
		return Moved{}, at(op, failure)
	}
	written, err := load[counter](r.store, counterKey())
	if err != nil {
		return Moved{}, at(op, err)
	}
	err = r.store.Scan(h.scope.All(), store.Key{}, func(key store.Key, value []byte) bool {
		if key.Kind() > lastOfRegistry {
			return false
		}
		if failure = x.record(key, value); failure == nil && ctx.Err() != nil {
			failure = context.Cause(ctx)
		}
		return failure == nil
	})
	switch {
	case err != nil:
		return Moved{}, at(op, err)
	case failure != nil:
		return Moved{}, at(op, failure)
	case x.moved.Records["organisation"] != 1: // deleted since it was found
		return Moved{}, at(op, missing(store.ErrNotFound, "organisation"))
	}
	if err := x.noted(r.store, h.scope, written.Record.Last); err != nil {
		return Moved{}, at(op, err)
	}
	return x.moved, at(op, x.end())
}

type exporting struct {
	out     *bufio.Writer
	sum     digests.Hash
	options ExportOptions
	moved   Moved
	total   int
}

func (x *exporting) record(key store.Key, value []byte) error {
	p, ok := partOf(key.Kind())
	if !ok {
		return fmt.Errorf("%v: records of this kind cannot be exported", key)
	}
	if p.kind == store.KindCredential && x.options.WithoutCredentials {
		return nil
	}
	shown, err := p.show(value)
	if err != nil {
		return fmt.Errorf("%v: %w", key, err)
	}
	record, err := json.Marshal(shown)
	if err != nil {
		return fmt.Errorf("%v: %w", key, err)
	}
	l := exportLine{Kind: p.name, Of: ownerOf(key), Record: record}
	x.moved.Records[p.name]++
	x.total++
	return x.write(l)
}

func (x *exporting) write(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	text = append(text, '\n')
	x.sum.Write(text)
	_, err = x.out.Write(text)
	return err
}

func (x *exporting) end() error {
	if err := x.write(exportLine{Kind: lineEnd, Records: &x.total, SHA256: hex.EncodeToString(x.sum.Sum(nil))}); err != nil {
		return err
	}
	return x.out.Flush()
}
