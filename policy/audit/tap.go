package audit

import "slices"

// Tap has fn called with each entry that is recorded from now on, before it is
// rendered. The log's goroutine calls it, so it may not take its time, and may not
// change the entry. stop ends it, and may be called again; a call that has begun may
// end later.
func (l *Log) Tap(fn func(*Entry)) (stop func()) {
	d, tap := l.drain, &fn
	d.live.Lock()
	defer d.live.Unlock()
	d.live.taps = append(slices.Clone(d.live.taps), tap)
	d.listeners.Add(1)
	return func() {
		d.live.Lock()
		defer d.live.Unlock()
		if i := slices.Index(d.live.taps, tap); i >= 0 {
			d.live.taps = slices.Delete(slices.Clone(d.live.taps), i, i+1)
			d.listeners.Add(-1)
		}
	}
}

// tap hands e to whoever taps.
func (d *drain) tap(e *Entry) {
	if d.listeners.Load() == 0 {
		return
	}
	d.live.Lock()
	taps := d.live.taps
	d.live.Unlock()
	for _, fn := range taps {
		(*fn)(e)
	}
}
