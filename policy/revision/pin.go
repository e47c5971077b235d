package revision

// Pin stores a bundle that passed the gate, makes it live and pins it: what Activate
// does with one that is stored. Where over is not empty, the error is KindConflict if
// another revision is live by now.
func (b *Book) Pin(over ID, files []File, by Author, live func()) (ID, error) {
	if err := by.check(); err != nil {
		return "", err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	if is, _ := b.Live(); over != "" && is != over {
		return "", conflict("another revision was made live meanwhile: " + string(is))
	}
	d := Sum(files)
	if err := b.keep(d, files); err != nil {
		return "", err
	}
	if err := b.appendEntry(Pinned, d, by); err != nil {
		return "", err
	}
	live()
	return d.ID(), nil
}

// Try stores a bundle that passed the gate and is going to judge some, beside the live
// one, so that the log tells of every policy that anybody was judged by.
func (b *Book) Try(files []File, by Author) (ID, error) {
	if err := by.check(); err != nil {
		return "", err
	}
	b.changing.Lock()
	defer b.changing.Unlock()
	d := Sum(files)
	if err := b.keep(d, files); err != nil {
		return "", err
	}
	return d.ID(), b.appendEntry(Tried, d, by)
}
