package listen

import "net/netip"

// FailuresConfig says how many wrong credentials an address may present.
type FailuresConfig struct {
	// Rate is how many failures per second are forgiven. Default 0.5: a person
	// who mistypes is never stopped, and guessing makes no progress.
	Rate float64
	// Burst is how many failures an address may have before it is refused.
	// Default 30, because the devices of a site often share one address and one
	// wrong configuration.
	Burst int
}

// Failures remembers how often credentials from an address failed. An address
// is an IPv4 address or an IPv6 /64; loopback addresses are never refused. It
// remembers at most 65 536 addresses, the ones that failed last. Make one with
// NewFailures; it may be used by many goroutines.
//
// The owner asks Allowed before a credential is verified and calls Record when
// it turned out to be wrong. Those already being verified are not held back, so
// an address gets as many tries more as it has connections under way.
type Failures struct{ buckets *buckets }

// NewFailures returns an empty memory. Values that are zero or negative get
// their default.
func NewFailures(cfg FailuresConfig) *Failures {
	if cfg.Rate <= 0 {
		cfg.Rate = 0.5
	}
	if cfg.Burst <= 0 {
		cfg.Burst = 30
	}
	return &Failures{newBuckets(cfg.Rate, cfg.Burst, maxAddresses)}
}

// Record notes a credential that failed.
func (f *Failures) Record(addr netip.Addr) {
	if !exempt(addr) {
		f.buckets.take(addressKey(addr))
	}
}

// Allowed reports whether a credential from addr is to be verified at all.
func (f *Failures) Allowed(addr netip.Addr) bool {
	return exempt(addr) || f.buckets.has(addressKey(addr))
}
