package guest

// instance is this module's plugin and the memory it shares with the host. A
// Wasm module's exports are functions without a receiver, so it is here or
// nowhere. The pointer is immutable: the host initialises a module before it
// calls an export, and calls one export at a time.
var instance = &module{}

type module struct {
	plugin *Plugin
	//lint:ignore U1000 what the exports of a module use
	shared
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
