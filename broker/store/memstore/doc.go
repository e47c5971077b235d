// Package memstore is a store in memory: the reference implementation that
// storetest holds against, and the store of other packages' tests.
//
// It keeps the contract of package store to the letter and is simple before it
// is fast. A [Disk] outlives the stores that are opened on it, so that a test
// can restart what it tests. The value that a Scan shows is overwritten after
// each call, so that a test notices who kept it.
package memstore
