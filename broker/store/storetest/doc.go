// Package storetest holds what every store must pass, and a store that fails on
// request.
//
// [Run] checks the contract of package store, [RunPersistent] what must survive
// Close and Open. [Faulty] wraps a store for the tests of other packages: it
// refuses commits, reports written ones as failed, holds them back, or fails
// reads, each exactly when the test says so and without a clock.
package storetest
