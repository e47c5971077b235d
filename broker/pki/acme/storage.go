package acme

import (
	"context"
	"sync"

	"github.com/caddyserver/certmagic"
)

// storage is files in a folder that no other process writes to: the data folder has a
// lock of its own. So names are locked in memory, where nothing keeps a lock fresh after
// Close and a crash leaves none behind.
type storage struct {
	*certmagic.FileStorage

	guarded struct {
		sync.Mutex
		held map[string]chan struct{} // closed when it is let go
	}
}

func newStorage(dir string) *storage {
	s := &storage{FileStorage: &certmagic.FileStorage{Path: dir}}
	s.guarded.held = map[string]chan struct{}{}
	return s
}

// Lock waits until nobody else has name locked, or ctx is done.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		s.guarded.Lock()
		other, ok := s.guarded.held[name]
		if !ok {
			s.guarded.held[name] = make(chan struct{})
			s.guarded.Unlock()
			return nil
		}
		s.guarded.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock lets name go.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.guarded.Lock()
	defer s.guarded.Unlock()
	if held, ok := s.guarded.held[name]; ok {
		close(held)
		delete(s.guarded.held, name)
	}
	return nil
}
