package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cordon-mq/cordon/bench/load"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// organisation is the one that everybody in the benchmarks belongs to.
const organisation = "bench1"

// cordon builds the program and registers devices: they publish with their own
// token, applications read with an API key.
func (l *Lab) cordon(ctx context.Context, binary string) (*Peer, error) {
	if binary == "" {
		var err error
		if binary, err = l.build(ctx, Cordon, "."); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(l.dir, "data")
	who, err := register(ctx, data, l.devices)
	if err != nil {
		return nil, err
	}
	plugged, err := l.installJWT(ctx, data)
	if err != nil {
		return nil, err
	}
	policies, err := l.uncoveredPolicies(ctx, binary)
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(version, []byte("\n"))
	return &Peer{
		Title: "Cordon", Version: string(bytes.TrimSpace(line)), hasTLS: true,
		Setup:  "the program with its default policies; devices with generated tokens, applications with an API key",
		caFile: filepath.Join(data, "tls", "ca.crt"), mounts: true, plugged: plugged,
		uncovered: []string{"--policy", policies},
		launch: func(e endpoints, _ bool) (string, []string, error) {
			return binary, []string{
				"serve", "--data", data, "--mqtt", e.plain, "--mqtts", e.tls, "--https", "off", "--log-level", "error",
			}, nil
		},
		device: func(i int) load.Identity {
			return load.Identity{
				ClientID: fmt.Sprintf("d:%s:sensor:d%d", organisation, i), Username: "use-token-auth", Password: who.devices[i],
			}
		},
		app: func(id string) load.Identity {
			return load.Identity{ClientID: fmt.Sprintf("a:%s:%s", organisation, id), Username: who.key, Password: who.token}
		},
	}, nil
}

// uncoveredPolicies writes the built-in policies with one that forbids an event.
// Then no answer holds for all events, so the built-in rules leave covers out.
func (l *Lab) uncoveredPolicies(ctx context.Context, binary string) (dir string, err error) {
	dir = filepath.Join(l.dir, "uncovered")
	if said, err := exec.CommandContext(ctx, binary, "policy", "init", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("policy init: %w\n%s", err, said)
	}
	const rule = "package cordon.publish\n\ndeny contains \"forbidden\" if input.levels[6] == \"forbidden\"\n"
	return dir, os.WriteFile(filepath.Join(dir, "cordon", "publish", "forbidden.rego"), []byte(rule), 0o600)
}

// credentials are secrets of a registry that is thrown away.
type credentials struct {
	key, token string
	devices    []string // token of each
}

func register(ctx context.Context, data string, devices int) (who credentials, err error) {
	st, err := badgerstore.Open(filepath.Join(data, "db"), badgerstore.Options{})
	if err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r, err := registry.Open(st, registry.Options{DefaultConnectionLevel: registry.LevelTLSOptional})
	if err != nil {
		return who, err
	}
	defer r.Close()
	org, err := policy.ParseOrgID(organisation)
	if err != nil {
		return who, err
	}
	seed, err := r.SeedOrganisation(ctx, org, "")
	if err != nil {
		return who, err
	}
	who.key, who.token = seed.APIKey.Key, seed.APIToken
	if _, err := r.CreateType(ctx, org, registry.DeviceType{ID: "sensor"}); err != nil {
		return who, err
	}
	for i := range devices {
		device := registry.Device{Type: "sensor", ID: policy.ID(fmt.Sprintf("d%d", i))}
		_, token, err := r.CreateDevice(ctx, org, device, plugins.Secret{})
		if err != nil {
			return who, err
		}
		who.devices = append(who.devices, token)
	}
	return who, nil
}
