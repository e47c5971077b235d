package audit

import (
	"sync"
	"time"
)

// foldTime is how long equal denials are one record.
const foldTime = time.Second

// maxOpen bounds the different denials of one holder within that time. Their answers
// take evaluations, which an organisation has a quota of, so it is seldom reached.
const maxOpen = 1024

// folds are the denials of one holder that were recorded a moment ago, by what makes
// them equal.
type folds struct {
	guarded struct {
		sync.Mutex
		open map[string]*fold
	}
}

// fold is one denial and its repetitions.
type fold struct {
	first *Entry
	since time.Time
	last  time.Time
	more  uint64 // beside the first
}

// rest is the record of the repetitions; nil when there are none.
func (f *fold) rest() *Entry {
	if f.more == 0 {
		return nil
	}
	e := *f.first
	e.Count, e.Time = f.more, f.last
	return &e
}

// observe records a denial, or counts it with one that is equal. describe makes its
// entry, without time and count.
func (fs *folds) observe(l *Log, same string, describe func(now time.Time) *Entry) {
	if l.closing.Load() || !l.drain.wanted() {
		return
	}
	now := l.now()
	fs.guarded.Lock()
	defer fs.guarded.Unlock()
	if f := fs.guarded.open[same]; f != nil {
		if now.Sub(f.since) < foldTime {
			f.more, f.last = f.more+1, now
			l.stats.folded.Add(1)
			return
		}
		if rest := f.rest(); rest != nil {
			l.offer(rest)
		}
		delete(fs.guarded.open, same)
	}
	if len(fs.guarded.open) >= maxOpen {
		l.stats.dropped.Add(1)
		return
	}
	e := describe(now)
	e.Time, e.Count, e.Weight = now, 1, 1
	if fs.guarded.open == nil {
		fs.guarded.open = map[string]*fold{}
	}
	if len(fs.guarded.open) == 0 {
		l.expect(fs)
	}
	fs.guarded.open[same] = &fold{first: e, since: now, last: now}
	l.offer(e)
}

// close ends what was opened before, and appends the records of the repetitions to
// rests. It reports whether something is still open.
func (fs *folds) close(l *Log, before time.Time, rests []*Entry) ([]*Entry, bool) {
	fs.guarded.Lock()
	defer fs.guarded.Unlock()
	for same, f := range fs.guarded.open {
		if f.since.After(before) {
			continue
		}
		if rest := f.rest(); rest != nil {
			rests = append(rests, rest)
		}
		delete(fs.guarded.open, same)
	}
	if len(fs.guarded.open) > 0 {
		return rests, true
	}
	l.pending.Lock()
	delete(l.pending.folds, fs)
	l.pending.Unlock()
	return rests, false
}

// expect has close called when the time of what fs opens is over. The lock of fs is
// held, and that of pending is taken inside it, here and in close.
func (l *Log) expect(fs *folds) {
	l.pending.Lock()
	l.pending.folds[fs] = struct{}{}
	l.pending.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// closeFolds closes what was opened before. It returns the records of repetitions,
// and whether something is still open.
func (l *Log) closeFolds(before time.Time) (rests []*Entry, open bool) {
	l.pending.Lock()
	all := make([]*folds, 0, len(l.pending.folds))
	for fs := range l.pending.folds {
		all = append(all, fs)
	}
	l.pending.Unlock()
	for _, fs := range all {
		more := false
		rests, more = fs.close(l, before, rests)
		open = open || more
	}
	return rests, open
}
