package wasm

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// rememberKey keys the hashes of requests. It lives as long as the process, so
// that what is remembered helps nobody who reads the memory of another.
type rememberKey [32]byte

func newRememberKey() (k rememberKey) {
	_, _ = rand.Read(k[:]) // it never fails
	return k
}

// requestHash stands for a whole request but its time.
type requestHash [sha256.Size]byte

func (k *rememberKey) hash(request []byte) requestHash {
	h := hmac.New(sha256.New, k[:])
	h.Write(request)
	return requestHash(h.Sum(nil))
}

// remembered is a verdict that may be repeated until it is stale.
type remembered struct {
	verdict verdict
	until   time.Time
}

// answers are the verdicts of one version of a plugin.
type answers struct {
	most int
	mu   struct {
		sync.Mutex
		all        map[requestHash]remembered
		generation uint64 // of the configuration they were given under
	}
}

func newAnswers(most int) *answers {
	a := &answers{most: most}
	a.mu.all = map[requestHash]remembered{}
	return a
}

func (a *answers) get(h requestHash, generation uint64, now time.Time) (verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := a.mu.all[h]
	if !ok || a.mu.generation != generation || !now.Before(r.until) {
		return verdict{}, false
	}
	return r.verdict, true
}

// put remembers v for ttl. A full memory forgets what is stale, and if nothing
// is, whatever comes first in the map's own order, which is random.
func (a *answers) put(h requestHash, generation uint64, v verdict, ttl time.Duration, now time.Time) {
	if ttl <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if generation < a.mu.generation {
		return // it was asked before the configuration changed
	}
	if generation > a.mu.generation {
		clear(a.mu.all)
		a.mu.generation = generation
	}
	if len(a.mu.all) >= a.most {
		maps.DeleteFunc(a.mu.all, func(_ requestHash, r remembered) bool { return !now.Before(r.until) })
	}
	// An eighth at a time, so that a flood of new requests seldom comes here.
	if len(a.mu.all) >= a.most {
		for h := range a.mu.all {
			if len(a.mu.all) <= a.most/8*7 {
				break
			}
			delete(a.mu.all, h)
		}
	}
	a.mu.all[h] = remembered{v, now.Add(ttl)}
}

// jitter is d, up to a quarter shorter or longer: clients that were refused
// together should not come back together.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + time.Duration(mathrand.Int64N(int64(d)/2+1)) //nolint:gosec // nobody gains from guessing it
}
