package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"
)

// keySet is a JSON Web Key Set, as it was fetched. Nil writes null.
type keySet json.RawMessage

// MarshalJSON writes the set itself.
func (k keySet) MarshalJSON() ([]byte, error) {
	if k == nil {
		return []byte("null"), nil
	}
	return k, nil
}

const (
	keySetBytes   = 128 << 10
	fetchDeadline = 5 * time.Second
	retryAfter    = 15 * time.Second // a fetch that failed
	hintLeast     = 30 * time.Second // between two fetches because of an unknown key
)

// keySets are the key sets of one plugin. Whatever fails, the last good ones stay.
type keySets struct {
	client *http.Client
	kept   keptSets
	log    *slog.Logger
	now    func() time.Time
	hint   chan struct{} // a guest met a key it does not know
	mu     struct {
		sync.Mutex
		sets       map[string]*fetchedSet
		generation uint64 // grows when a set changes
		hinted     time.Time
		hunt       chan struct{} // closed when the fetch for such a key is over; nil for none
		over       bool          // nobody fetches any more
	}
}

type fetchedSet struct {
	url     string
	refresh time.Duration
	etag    string
	set     keySet
	due     time.Time
}

// newKeySets takes what before knows of the same addresses, or else what an earlier
// run of the program kept.
func newKeySets(of map[string]jwksSettings, before *keySets, kept keptSets, client *http.Client, log *slog.Logger, now func() time.Time) *keySets {
	k := &keySets{client: client, kept: kept, log: log, now: now, hint: make(chan struct{}, 1)}
	k.mu.sets, k.mu.over = map[string]*fetchedSet{}, true // until run begins
	for name, s := range of {
		refresh := s.Refresh
		if refresh == 0 {
			refresh = refreshUsual
		}
		f := &fetchedSet{url: s.URL, refresh: refresh}
		if before != nil {
			before.copyTo(f)
		}
		if f.set == nil {
			f.set, f.etag = kept.load(f.url)
		}
		k.mu.sets[name] = f
	}
	return k
}

func (k *keySets) copyTo(f *fetchedSet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, old := range k.mu.sets {
		if old.url == f.url && old.set != nil {
			f.etag, f.set, f.due = old.etag, old.set, old.due
		}
	}
}

// snapshot is every set by name and the generation of them.
func (k *keySets) snapshot() (map[string]keySet, uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make(map[string]keySet, len(k.mu.sets))
	for name, f := range k.mu.sets {
		all[name] = f.set
	}
	return all, k.mu.generation
}

func (k *keySets) generation() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.generation
}

// hunted has the sets fetched, for a guest that was asked under a generation met a
// key which they lack. It waits for that, but not for longer than patience, and
// reports whether there is another generation now.
func (k *keySets) hunted(ctx context.Context, asked uint64, patience time.Duration) bool {
	hunt := k.unknown(asked)
	if hunt != nil {
		enough := time.NewTimer(patience)
		defer enough.Stop()
		select {
		case <-hunt:
		case <-enough.C:
		case <-ctx.Done():
		}
	}
	return k.generation() != asked
}

// unknown asks for a fetch, and what it returns is closed when that is over. It is
// nil where there is nothing to wait for: there is another generation already, or
// there was a fetch for this reason not long ago. Anybody can write a token that
// names an unknown key.
func (k *keySets) unknown(asked uint64) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case len(k.mu.sets) == 0 || k.mu.over || k.mu.generation != asked:
		return nil
	case k.mu.hunt != nil:
		return k.mu.hunt
	case k.now().Sub(k.mu.hinted) < hintLeast:
		return nil
	}
	k.mu.hinted = k.now()
	for _, f := range k.mu.sets {
		f.due = time.Time{}
	}
	k.mu.hunt = make(chan struct{})
	k.hint <- struct{}{} // there is room: one hunt at a time
	return k.mu.hunt
}

// found ends the hunt, if there is one, and says whether it was the last.
func (k *keySets) found(over bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.over = over
	if k.mu.hunt != nil {
		close(k.mu.hunt)
		k.mu.hunt = nil
	}
}

// run fetches until the context ends. Whoever starts it says found(false) before.
func (k *keySets) run(ctx context.Context) {
	defer k.found(true)
	for {
		k.refresh(ctx)
		next := time.NewTimer(k.next())
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-k.hint:
			next.Stop()
			k.refresh(ctx)
			k.found(false)
		case <-next.C:
		}
	}
}

func (k *keySets) next() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	wait := refreshMost
	for _, f := range k.mu.sets {
		wait = min(wait, f.due.Sub(k.now()))
	}
	return max(wait, time.Second)
}

// refresh fetches what is due, all at once.
func (k *keySets) refresh(ctx context.Context) {
	k.fetchAll(ctx, func(f *fetchedSet) bool { return !f.due.After(k.now()) })
}

// complete fetches those of which nothing is known.
func (k *keySets) complete(ctx context.Context) {
	k.fetchAll(ctx, func(f *fetchedSet) bool { return f.set == nil })
}

func (k *keySets) fetchAll(ctx context.Context, which func(*fetchedSet) bool) {
	k.mu.Lock()
	due := maps.Clone(k.mu.sets)
	maps.DeleteFunc(due, func(_ string, f *fetchedSet) bool { return !which(f) })
	k.mu.Unlock()
	var fetches sync.WaitGroup
	for name, f := range due {
		fetches.Go(func() { k.refreshOne(ctx, name, f) })
	}
	fetches.Wait()
}

// refreshOne fetches f. Only run, and load before it, come here, so that nobody
// else changes f meanwhile but for its due time.
func (k *keySets) refreshOne(ctx context.Context, name string, f *fetchedSet) {
	set, etag, err := k.fetch(ctx, f.url, f.etag)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			k.log.Warn("key set not fetched", "set", name, "error", err, "kept", f.set != nil)
		}
		f.due = k.now().Add(jitter(min(retryAfter, f.refresh)))
		return
	}
	f.due = k.now().Add(jitter(f.refresh))
	if set != nil && !bytes.Equal(set, f.set) {
		f.set = set
		k.mu.generation++
		k.log.Info("key set fetched", "set", name, "bytes", len(set))
	}
	if set != nil {
		f.etag = etag
	}
	if err := k.kept.save(f.url, f.set, f.etag); err != nil {
		k.log.Warn("key set not kept for the next start", "set", name, "error", err)
	}
}

// fetch gets a set; nil when the server says that it is the one etag stands for.
func (k *keySets) fetch(ctx context.Context, url, etag string) (keySet, string, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	if etag != "" {
		request.Header.Set("If-None-Match", etag)
	}
	response, err := k.client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotModified && etag != "" {
		return nil, etag, nil
	}
	if response.StatusCode != http.StatusOK {
		return nil, "", fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, keySetBytes+1))
	if err != nil {
		return nil, "", err
	}
	set, err := parseKeySet(body)
	return set, response.Header.Get("ETag"), err
}

// parseKeySet checks the form alone; the keys are for the plugin to judge.
func parseKeySet(body []byte) (keySet, error) {
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	switch err := json.Unmarshal(body, &set); {
	case len(body) > keySetBytes:
		return nil, fmt.Errorf("more than %d bytes", keySetBytes)
	case err != nil:
		return nil, errors.New("not a JSON Web Key Set")
	case len(set.Keys) == 0:
		return nil, errors.New("a key set without keys")
	}
	for _, key := range set.Keys {
		if key["d"] != nil || key["kty"] == "oct" {
			return nil, errors.New("a key set with a secret key")
		}
	}
	var compact bytes.Buffer
	err := json.Compact(&compact, body)
	return compact.Bytes(), err
}

// secureClient is a copy of client that speaks HTTPS only, also where it is sent on.
func secureClient(client *http.Client) *http.Client {
	secure := &http.Client{Timeout: fetchDeadline}
	if client != nil {
		*secure = *client
	}
	before := secure.CheckRedirect
	secure.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		switch {
		case r.URL.Scheme != "https":
			return errors.New("sent on to an address that is not https")
		case len(via) > 3:
			return errors.New("sent on too often")
		case before != nil:
			return before(r, via)
		}
		return nil
	}
	return secure
}
