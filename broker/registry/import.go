package registry

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	digests "hash"
	"io"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/policy"
)

// ImportOptions of an import. The zero value is one of an organisation that does
// not exist yet.
type ImportOptions struct {
	// Merge adds to an organisation that exists what it lacks. Records of which it
	// has one of the same name stay as they are, the organisation's own among them.
	Merge bool
}

// Import reads what Export wrote. Nothing of it can be seen before all of it was
// read and its end agrees: the records go to an incarnation that no name leads to.
// Then the name is given to it, in one commit; a merge adds whole records, each with
// its credential, many in one commit, and may be repeated. What an import that
// fails leaves behind is removed in the background, and at the next Open.
//
// The error is policy.KindExists for an organisation that exists, without Merge;
// policy.KindNotFound for one that does not, with it; policy.KindInvalid names the
// line for a file that is not what Export writes; policy.KindConflict in a merge says
// which device type is of another class.
func (r *Registry) Import(ctx context.Context, in io.Reader, o ImportOptions) (Moved, error) {
	const op = "import organisation"
	file := newImportFile(in)
	head, err := file.heading()
	if err != nil {
		return Moved{}, at(op, err)
	}
	if err := r.mayImport(head.Org, o); err != nil {
		return Moved{}, at(op, err)
	}
	s := &staging{
		registry: r, org: head.Org, credentials: head.Credentials,
		moved: Moved{Org: head.Org, Credentials: head.Credentials, Records: map[string]int{}},
	}
	if err := s.begin(ctx); err != nil {
		return Moved{}, at(op, err)
	}
	err = s.read(ctx, file)
	switch {
	case err != nil:
	case o.Merge:
		err = s.merge(ctx)
	default:
		err = s.reveal(ctx)
	}
	if scope, unknown := r.scopeOf(s.org); scope != s.scope && (unknown == nil || errors.Is(unknown, store.ErrNotFound)) {
		r.buryInBackground(s.org.String(), s.incarnation)
	}
	if err != nil {
		return Moved{}, at(op, err)
	}
	return s.moved, nil
}

func (r *Registry) mayImport(org policy.OrgID, o ImportOptions) error {
	_, err := r.scopeOf(org)
	switch {
	case o.Merge:
		return missing(err, "organisation")
	case err == nil:
		return errOrganisationExists()
	case errors.Is(err, store.ErrNotFound):
		return nil
	default:
		return err
	}
}

func errOrganisationExists() error {
	return &policy.Error{Kind: policy.KindExists, Public: "this organisation exists already"}
}

// importFile reads lines, and counts and sums them up.
type importFile struct {
	in     *bufio.Reader
	sum    digests.Hash
	number int // of the last line
}

func newImportFile(in io.Reader) *importFile {
	return &importFile{in: bufio.NewReaderSize(in, 64<<10), sum: sha256.New()}
}

// next returns a line with its end, which is valid until the call after it.
func (f *importFile) next(buffer []byte) ([]byte, error) {
	f.number++
	buffer = buffer[:0]
	for {
		piece, err := f.in.ReadSlice('\n')
		if len(buffer)+len(piece) > maxLine {
			return nil, f.bad(invalid("", fmt.Sprintf("is longer than %d bytes", maxLine)))
		}
		buffer = append(buffer, piece...)
		switch {
		case err == nil:
			return buffer, nil
		case errors.Is(err, io.EOF):
			return nil, f.bad(invalid("", "is not complete: the file ends before its end"))
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("read line %d: %w", f.number, err)
		}
	}
}

// bad says which line breaks a rule.
func (f *importFile) bad(err error) error {
	known, ok := errors.AsType[*policy.Error](err)
	if !ok {
		return fmt.Errorf("line %d: %w", f.number, err)
	}
	named := *known
	named.Public = known.Public
	if known.Field != "" {
		named.Public = known.Field + " " + known.Public
	}
	named.Field = fmt.Sprintf("line %d", f.number)
	return &named
}

func (f *importFile) heading() (heading, error) {
	var head heading
	text, err := f.next(nil)
	if err != nil {
		return head, err
	}
	if strict(text, &head) != nil || head.Format != exportFormat || head.Org.IsZero() {
		return head, f.bad(invalid("", "is not the beginning of an export"))
	}
	if head.Version != exportVersion {
		return head, f.bad(invalid("version", fmt.Sprintf("%d is not known to this program, which reads %d", head.Version, exportVersion)))
	}
	f.sum.Write(text)
	return head, nil
}

// strict decodes one JSON object that has no other fields than into.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

// checkEnd holds the end against what was read.
func (f *importFile) checkEnd(end *exportLine, records int) error {
	sum := hex.EncodeToString(f.sum.Sum(nil))
	switch {
	case end.Records == nil || *end.Records != records:
		return f.bad(invalid("records", fmt.Sprintf("must be %d, the number of records before it", records)))
	case subtle.ConstantTimeCompare([]byte(end.SHA256), []byte(sum)) != 1:
		return f.bad(invalid("sha256", "must be that of all lines before it; the file is damaged"))
	}
	if _, err := f.in.ReadByte(); !errors.Is(err, io.EOF) {
		return f.bad(invalid("", "must be the last one"))
	}
	return nil
}

// CheckExport reads an export to its end and says what is in it, without a registry:
// the number of records and the checksum agree. Whether each record is one that can
// be imported, Import alone finds out.
func CheckExport(in io.Reader) (Moved, error) {
	const op = "check export"
	file := newImportFile(in)
	head, err := file.heading()
	if err != nil {
		return Moved{}, at(op, err)
	}
	moved := Moved{Org: head.Org, Credentials: head.Credentials, Records: map[string]int{}}
	var buffer []byte
	for records := 0; ; records++ {
		if buffer, err = file.next(buffer); err != nil {
			return Moved{}, at(op, err)
		}
		var l exportLine
		if strict(buffer, &l) != nil {
			return Moved{}, at(op, file.bad(invalid("", "is not one that this program knows")))
		}
		if l.Kind == lineEnd {
			return moved, at(op, file.checkEnd(&l, records))
		}
		file.sum.Write(buffer)
		moved.Records[l.Kind]++
	}
}
