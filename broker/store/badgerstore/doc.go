// Package badgerstore keeps a store on disk with Badger, and is the only
// package that imports it.
//
// The folder belongs to one process at a time, which a lock on the folder
// ensures; the system releases it however the process ends. The folder is
// readable by its owner only.
//
// # How Badger is used
//
// All writes come from the committer of package store, one transaction at a
// time, so Badger's conflict detection is off. Badger writes through mapped
// files: what it acknowledged survives the process, and Sync makes it survive
// the machine. Badger's own SyncWrites stays off, because it syncs once for each
// request instead of once for each batch.
//
// Values stay below Badger's threshold for its value log (store.MaxValue is one
// byte less), so the value log stays empty and needs no garbage collection.
// Caches and tables are a quarter of Badger's defaults, for the sake of small
// machines.
//
// # What its owner must know
//
// A full disk kills the process, because a mapped page that has no block
// behind it raises SIGBUS. Watch the free space and refuse writes before it
// comes to that.
//
// Keys that are written once and then deleted, again and again under new names,
// leave traces that only [Store.Compact] removes. Layers that queue should
// write to a fixed ring of keys instead.
package badgerstore
