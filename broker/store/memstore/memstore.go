package memstore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/cordon-mq/cordon/broker/store"
)

// New returns an empty store with default options. It stands for a fresh disk
// that nobody else can open.
func New() store.Store {
	s, err := NewDisk().Open(store.Options{})
	if err != nil {
		// A fresh disk is empty and unlocked, so there is nothing to refuse.
		panic(fmt.Sprintf("memstore: open a fresh disk: %v", err))
	}
	return s
}

// Disk holds data between the stores that are opened on it, one at a time.
type Disk struct {
	state struct {
		sync.Mutex
		values map[store.Key][]byte // never changed in place
		keys   []store.Key          // ascending; nil when it must be sorted again
		locked bool
	}
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	d := &Disk{}
	d.state.values = make(map[store.Key][]byte)
	return d
}

// Open opens the store on the disk. It returns store.ErrLocked while another is
// open, and store.ErrSchema for data of another schema.
func (d *Disk) Open(o store.Options) (store.Store, error) {
	d.state.Lock()
	locked := d.state.locked
	d.state.locked = true
	d.state.Unlock()
	if locked {
		return nil, fmt.Errorf("open memory disk: %w", store.ErrLocked)
	}
	return store.New(engine{disk: d}, o)
}

// engine is one opening of a disk.
type engine struct{ disk *Disk }

func (e engine) Get(key store.Key) ([]byte, error) {
	e.disk.state.Lock()
	defer e.disk.state.Unlock()
	value, ok := e.disk.state.values[key]
	if !ok {
		return nil, store.ErrNotFound
	}
	return append([]byte{}, value...), nil
}

func (e engine) Scan(prefix store.Prefix, after store.Key, fn func(key store.Key, value []byte) bool) error {
	var scratch []byte
	for _, found := range e.disk.snapshot(prefix, after) {
		scratch = append(scratch[:0], found.value...)
		more := fn(found.key, scratch)
		for i := range scratch {
			scratch[i] = 0xff
		}
		if !more {
			break
		}
	}
	return nil
}

func (e engine) Apply(ops []store.Op) error {
	e.disk.state.Lock()
	defer e.disk.state.Unlock()
	for _, op := range ops {
		_, known := e.disk.state.values[op.Key()]
		if known == op.IsDelete() {
			e.disk.state.keys = nil
		}
		if op.IsDelete() {
			delete(e.disk.state.values, op.Key())
		} else {
			e.disk.state.values[op.Key()] = bytes.Clone(op.Value())
		}
	}
	return nil
}

func (e engine) Sync() error { return nil }

func (e engine) Close() error {
	e.disk.state.Lock()
	defer e.disk.state.Unlock()
	e.disk.state.locked = false
	return nil
}

type entry struct {
	key   store.Key
	value []byte
}

// snapshot returns what a scan sees, as of now.
func (d *Disk) snapshot(prefix store.Prefix, after store.Key) []entry {
	d.state.Lock()
	defer d.state.Unlock()
	if d.state.keys == nil {
		d.sortLocked()
	}
	keys := d.state.keys
	start := max(string(prefix.Bytes()), string(after.Bytes()))
	from, _ := slices.BinarySearchFunc(keys, start, func(key store.Key, start string) int {
		return strings.Compare(string(key.Bytes()), start)
	})
	var entries []entry
	for _, key := range keys[from:] {
		if !prefix.Covers(key) {
			break
		}
		if key == after {
			continue
		}
		entries = append(entries, entry{key: key, value: d.state.values[key]})
	}
	return entries
}

func (d *Disk) sortLocked() {
	d.state.keys = make([]store.Key, 0, len(d.state.values))
	for key := range d.state.values {
		d.state.keys = append(d.state.keys, key)
	}
	slices.SortFunc(d.state.keys, store.Key.Compare)
}
