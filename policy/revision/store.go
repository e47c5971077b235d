package revision

// Store keeps bundles and the log for one Book, which makes one call at a time,
// but for Bundle, which may come beside any other.
type Store interface {
	// Bundle returns the archive kept under id; fs.ErrNotExist when there is none.
	Bundle(id ID) ([]byte, error)
	// PutBundle keeps archive under id, durably before it returns, and never half.
	// It replaces what was there.
	PutBundle(id ID, archive []byte) error
	// DropBundle deletes what is kept under id, if anything is.
	DropBundle(id ID) error
	// Log returns the entries in their order, and the head that was appended last;
	// nothing of either when there was no Append. An entry whose Append did not
	// return may be there or not.
	Log() (entries [][]byte, head []byte, err error)
	// Append adds one entry, which holds no line end, and then replaces the head.
	// The entry is durable before it returns; the head may be an older one after a
	// crash, never a newer. When it fails, the entry is not part of the log.
	Append(entry, head []byte) error
}
