package guest

import "errors"

// Verify decides about one request. It is called once at a time, and keeps
// nothing of the request.
type Verify func(*Request) Answer

// Configure takes the settings over and returns the function that verifies with
// them. With an error the plugin does not load, or goes on with the settings it
// has; the text is for the operator's log and holds no secret.
type Configure func(*Config) (Verify, error)

// Plugin answers as the host asks, in JSON. A module's exports use the one that
// [Serve] makes; a plugin's tests may make more.
type Plugin struct {
	configure Configure
	verify    Verify // nil until it is configured
}

var (
	errPanic    = errors.New("the plugin panicked")
	errNoPlugin = errors.New("the module serves no plugin")
)

// New makes a plugin.
func New(configure Configure) *Plugin { return &Plugin{configure: configure} }

// Configure takes over the JSON of auth_configure. After an error the plugin
// goes on with what it had.
func (p *Plugin) Configure(configuration []byte) (err error) {
	defer recovered(&err)
	config, err := parseConfig(configuration)
	if err != nil {
		return err
	}
	return p.use(config)
}

func (p *Plugin) use(config *Config) error {
	if p == nil || p.configure == nil {
		return errNoPlugin
	}
	verify, err := p.configure(config)
	if err != nil {
		return err
	}
	p.verify = verify
	return nil
}

// Verify answers the JSON of auth_verify. An error is no answer, and refuses. A
// plugin that was handed no settings gets empty ones first.
func (p *Plugin) Verify(request []byte) (answer []byte, err error) {
	return p.appendVerdict(nil, request)
}

// appendVerdict is Verify, and writes the answer behind dst.
func (p *Plugin) appendVerdict(dst, request []byte) (answer []byte, err error) {
	defer recovered(&err)
	read, err := parseRequest(request)
	if err != nil {
		return nil, err
	}
	if p == nil || p.verify == nil {
		if err := p.use(&Config{Settings: NewFields("settings", nil)}); err != nil {
			return nil, err
		}
	}
	verdict := p.verify(read)
	return verdict.append(dst)
}

// recovered turns a panic into an error without its value, which may quote a
// secret.
func recovered(err *error) {
	if recover() != nil {
		*err = errPanic
	}
}
