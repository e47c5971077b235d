package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Settings is what one source states: values by the name of the setting, each
// already of the setting's type (string, bool, int or []string).
type Settings map[string]any

// Lookup finds a variable of the environment, as os.LookupEnv does. It is a
// parameter so that a caller in the same process has an environment of its own.
type Lookup func(name string) (value string, ok bool)

// setting is one field of Config as its tags describe it.
type setting struct {
	name string
	kind kind
}

// kind is the type of a setting.
type kind uint8

const (
	text   kind = iota // string
	truth              // bool
	number             // int
	list               // []string
)

// settings lists the fields of Config in their order.
func settings() []setting {
	t := reflect.TypeFor[Config]()
	all := make([]setting, 0, t.NumField())
	kinds := map[reflect.Kind]kind{reflect.Bool: truth, reflect.Int: number, reflect.Slice: list} // else text
	for field := range t.Fields() {
		all = append(all, setting{name: field.Tag.Get("name"), kind: kinds[field.Type.Kind()]})
	}
	return all
}

// EnvName returns the variable of a setting: CORDON_TLS_CERT for tls-cert.
func EnvName(name string) string {
	return "CORDON_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Environment reads the settings that lookup has; the elements of a list stand
// between commas. A variable that is set but empty counts as not set; CORDON_
// variables that are no setting are left alone, because container platforms make
// such names up themselves.
func Environment(lookup Lookup) (Settings, error) {
	stated := Settings{}
	var problems []error
	for _, s := range settings() {
		written, ok := lookup(EnvName(s.name))
		if !ok || written == "" {
			continue
		}
		value, err := s.kind.parse(written)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", EnvName(s.name), err))
			continue
		}
		stated[s.name] = value
	}
	return stated, errors.Join(problems...)
}

// parse reads the value of a variable.
func (k kind) parse(s string) (any, error) {
	switch k {
	case truth:
		switch s {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", s)
	case number:
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a whole number", s)
		}
		return n, nil
	case list:
		elements := strings.Split(s, ",")
		for i, element := range elements {
			elements[i] = strings.TrimSpace(element)
		}
		return elements, nil
	default:
		return s, nil
	}
}

// AddSources lets the environment and the configuration file fill the flags
// that the command line left out. The grammar calls it from its BeforeResolve
// hook: by then the command line is parsed, so the name of the file is known.
// A command that has no --config flag reads no file; one that has a flag named
// like a setting takes the setting's variable.
//
// kong applies its own env tags before any resolver, which would let the file
// win over the environment. Of several resolvers the last answer counts, so
// both are resolvers here, the environment last.
func AddSources(ctx *kong.Context, lookup Lookup) error {
	environment, err := Environment(lookup)
	if err != nil {
		return err
	}
	file, err := loadFile(ctx, environment)
	if err != nil {
		return err
	}
	ctx.AddResolver(file)
	ctx.AddResolver(environment)
	return nil
}

// loadFile reads the file that the command line or the environment names.
func loadFile(ctx *kong.Context, environment Settings) (Settings, error) {
	flag := configFlag(ctx)
	if flag == nil {
		return Settings{}, nil
	}
	path, _ := environment["config"].(string)
	for _, step := range ctx.Path {
		if step.Flag == flag {
			path = ctx.Value(step).String()
		}
	}
	if path == "" {
		return Settings{}, nil
	}
	return File(path)
}

// configFlag finds the flag that names the file; nil when the selected command
// has none.
func configFlag(ctx *kong.Context) *kong.Flag {
	for _, step := range ctx.Path {
		for _, flag := range step.Flags {
			if flag.Name == "config" {
				return flag
			}
		}
	}
	return nil
}

// Validate has nothing to say: names and types were checked on reading.
func (s Settings) Validate(*kong.Application) error { return nil }

// Resolve answers kong with the value of a flag, nil where the source has none.
func (s Settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	elements, ok := s[flag.Name].([]string)
	if !ok {
		return s[flag.Name], nil
	}
	values := make([]any, len(elements)) // kong takes no other list
	for i, element := range elements {
		values[i] = element
	}
	return values, nil
}
