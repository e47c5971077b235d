package opa

import (
	"bytes"
	"compress/gzip"
	"io"

	"github.com/cordon-mq/cordon/policy/revision"
)

// maxNarrowingArchive is what the archive of an organisation's bundle may unpack
// to, its own headers included, in bytes.
const maxNarrowingArchive = 2 * MaxNarrowingBytes

// ReadNarrowingArchive reads the files of an organisation's bundle from a .tar.gz as
// OPA builds it. Nobody has a key for it, so one that is signed is refused. The
// error is KindInvalid or KindTooLarge.
func ReadNarrowingArchive(packed []byte) ([]revision.File, error) {
	// How much it unpacks to is counted before any of it is kept.
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, unreadable(err)
	}
	if n, _ := io.Copy(io.Discard, io.LimitReader(unpacked, maxNarrowingArchive+1)); n > maxNarrowingArchive {
		return nil, tooLarge("the archive unpacks to more than 512 KiB")
	}
	a, err := ReadArchive(bytes.NewReader(packed), nil)
	if err != nil {
		return nil, err
	}
	report := &Report{}
	src := readSource(a.FS, report)
	if err := report.Err(); err != nil {
		return nil, err
	}
	return src.copies(), nil
}
