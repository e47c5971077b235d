package guest

// instance is this module's plugin and the memory it shares with the host. A
// Wasm module's exports are functions without a receiver, so it is here or
// nowhere. The pointer is immutable: the host initialises a module before it
// calls an export, and calls one export at a time.
var instance = &module{}

type module struct {
	plugin        *Plugin
	input, output buffer // the answer is in output until the host frees it
	calls         uint
}

// buffer is memory that the host reads or writes. It stays where it is: Go's
// collector moves nothing on the heap.
type buffer struct{ b []byte }

// grow makes room for n bytes.
func (b *buffer) grow(n int) {
	if cap(b.b) < n {
		b.b = make([]byte, n)
	}
}

// Serve makes configure the plugin of this module:
//
//	var _ = guest.Serve(configure)
//
// The host runs no main function, but does initialise the packages. A module
// serves one plugin; the last call counts.
func Serve(configure Configure) *Plugin {
	instance.plugin = New(configure)
	return instance.plugin
}

// ServeFunc is [Serve] for a plugin without settings: one function.
//
//	var _ = guest.ServeFunc(verify)
func ServeFunc(verify Verify) *Plugin {
	return Serve(func(config *Config) (Verify, error) { return verify, config.Settings.Err() })
}
