package guest

// Config is what the host hands over before the first request, and again when
// any of it changes.
type Config struct {
	// Org is the organisation the plugin serves; empty where it may be any of
	// several.
	Org      string
	Settings *Fields           // of the plugin's .yaml
	Secrets  map[string][]byte // by name, each the contents of a file
	// JWKS are the key sets by name [RFC 7517], nil for one that could not be
	// fetched yet.
	JWKS map[string]map[string]any
}

// parseConfig reads a configuration.
func parseConfig(data []byte) (*Config, error) {
	object, err := ParseObject(data)
	if err != nil {
		return nil, err
	}
	f := NewFields("configuration", object)
	f.Int("v", version, version, 0)
	config := &Config{
		Org:      f.String("org"),
		Settings: f.detached("settings"),
		Secrets:  map[string][]byte{},
		JWKS:     map[string]map[string]any{},
	}
	secrets := f.Fields("secrets")
	for name := range secrets.object {
		config.Secrets[name] = secrets.base64(name)
	}
	sets := f.Fields("jwks")
	for name, set := range sets.object {
		if config.JWKS[name] = nil; set != nil {
			config.JWKS[name], _ = member[map[string]any](sets, name, "an object or null")
		}
	}
	sets.Ignore()
	f.Ignore()
	return config, f.Err()
}

// detached is a member that is an object, with errors of its own.
func (f *Fields) detached(name string) *Fields {
	object, _ := member[map[string]any](f, name, "an object")
	return NewFields(name, object)
}

// base64 is a member of bytes, never nil.
func (f *Fields) base64(name string) []byte {
	data, err := decodeBase64(f.String(name))
	if err != nil {
		f.Fail(name, "has to be base64")
		return []byte{}
	}
	return data
}
