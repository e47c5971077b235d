package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cordon-mq/cordon/bench/trial/client"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/broker/wire"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// listPage is the longest page that REST gives.
const listPage = 100

// fleet is the registry under trial, and what is needed to ask it.
type fleet struct {
	registryConfig
	*registry.Registry
	org    policy.OrgID
	sample []member
}

// member is a device with its token, a secret of a registry that is thrown away.
type member struct {
	name  registry.DeviceName
	token string
}

func measureRegistry(ctx context.Context, c registryConfig) (found *registryFound, err error) {
	program, err := prepare(ctx, c.binary)
	defer program.remove()
	if err != nil {
		return nil, err
	}
	found = &registryFound{registryConfig: c}
	if found.before, err = ownMemory(); err != nil {
		return nil, err
	}
	org, err := policy.ParseOrgID(organisation)
	if err != nil {
		return nil, err
	}
	f := &fleet{registryConfig: c, org: org}
	if err := f.inside(program.data, func() error { return f.register(ctx, found) }); err != nil {
		return nil, err
	}
	debug.FreeOSMemory()
	began := time.Now()
	err = f.inside(program.data, func() error {
		found.opened = time.Since(began)
		return f.ask(ctx, found)
	})
	if err != nil {
		return nil, err
	}
	if found.folder, err = folderSize(program.data); err != nil {
		return nil, err
	}
	for i := range c.starts {
		say("start %d of %d", i+1, c.starts)
		if err := f.start(ctx, program, found, i == c.starts-1); err != nil {
			return nil, err
		}
	}
	began = time.Now()
	if err := f.inside(program.data, func() error { return f.remove(ctx) }); err != nil {
		return nil, err
	}
	found.removed = time.Since(began)
	return found, f.transfer(ctx, program, found)
}

// inside runs do with the registry of the data folder open.
func (f *fleet) inside(data string, do func() error) (err error) {
	st, err := badgerstore.Open(filepath.Join(data, "db"), badgerstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if f.Registry, err = registry.Open(st, registry.Options{DefaultConnectionLevel: registry.LevelTLSOptional}); err != nil {
		return err
	}
	defer f.Close()
	return do()
}

func (f *fleet) typeID(i int) policy.ID { return policy.ID("type" + itoa(i%f.types)) }

func (f *fleet) device(i int) registry.NewDevice {
	return registry.NewDevice{Device: registry.Device{
		Type: f.typeID(i), ID: policy.ID(fmt.Sprintf("device-%07d", i)), CreatedBy: "a-trial1-0123456789",
		DeviceInfo: registry.DeviceInfo{SerialNumber: fmt.Sprintf("SN-%012d", i), FwVersion: "1.4.2"},
		Metadata:   map[string]any{"site": fmt.Sprintf("site-%d", i%1000)},
	}}
}

// register adds all devices, and some more one at a time.
func (f *fleet) register(ctx context.Context, found *registryFound) error {
	for i := range f.types {
		t := registry.DeviceType{ID: f.typeID(i), DeviceInfo: registry.DeviceInfo{Manufacturer: "Acme", Model: "M1"}}
		if _, err := f.CreateType(ctx, f.org, t); err != nil {
			return err
		}
	}
	// The last ones are registered alone.
	alone := min(1000, f.devices/10)
	before, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	began := time.Now()
	for from := 0; from < f.devices-alone; from += f.call {
		batch := make([]registry.NewDevice, min(f.call, f.devices-alone-from))
		for i := range batch {
			batch[i] = f.device(from + i)
		}
		call := time.Now()
		results, err := f.AddDevices(ctx, f.org, batch)
		if err != nil {
			return err
		}
		found.calls = append(found.calls, time.Since(call))
		for _, r := range results {
			if r.Err != nil {
				return r.Err
			}
			f.keep(r)
		}
		if len(found.calls)%20 == 0 {
			say("%d devices", from+len(batch))
		}
	}
	found.added = time.Since(began)
	after, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	found.addedCPU = after.cpu - before.cpu
	slices.Sort(found.calls)
	var single []time.Duration
	for i := f.devices - alone; i < f.devices; i++ {
		next := f.device(i)
		call := time.Now()
		made, token, err := f.CreateDevice(ctx, f.org, next.Device, plugins.Secret{})
		if err != nil {
			return err
		}
		single = append(single, time.Since(call))
		f.keep(registry.Result{Device: made, Token: token})
	}
	slices.Sort(single)
	found.single = single
	return nil
}

// keep takes devices into the sample, early ones as well as late ones.
func (f *fleet) keep(r registry.Result) {
	m := member{registry.DeviceName{Type: r.Device.Type, ID: r.Device.ID}, r.Token}
	switch {
	case len(f.sample) < f.looked:
		f.sample = append(f.sample, m)
	case rand.IntN(f.devices) < f.looked: //nolint:gosec // a sample is no secret
		f.sample[rand.IntN(f.looked)] = m //nolint:gosec // likewise
	}
}

func (m member) clientID() string {
	return fmt.Sprintf("d:%s:%s:%s", organisation, m.name.Type, m.name.ID)
}

// ask looks devices up in every way, each twice: what is found is remembered.
func (f *fleet) ask(ctx context.Context, found *registryFound) error {
	say("looking up %d devices", len(f.sample))
	rand.Shuffle(len(f.sample), func(i, j int) { f.sample[i], f.sample[j] = f.sample[j], f.sample[i] }) //nolint:gosec // likewise
	verifier := f.TokenVerifier()
	verify := func(m member, token string) error {
		_, err := verifier.Verify(ctx, &plugins.Credential{
			Client:   policy.Client{ID: policy.ClientID(m.clientID()), Username: "use-token-auth", Listener: "mqtts"},
			Password: plugins.NewSecret([]byte(token)), HasPassword: true,
		})
		return err
	}
	half := len(f.sample) / 2
	for _, way := range []struct {
		name string
		of   []member
		ask  func(m member) error
	}{
		{"token, first", f.sample[:half], func(m member) error { return verify(m, m.token) }},
		{"token, remembered", f.sample[:half], func(m member) error { return verify(m, m.token) }},
		{"token, wrong", f.sample[:half], func(m member) error {
			if verify(m, "wrong") == nil {
				return errors.New("a wrong token was accepted")
			}
			return nil
		}},
		{"facts of a device, first", f.sample[half:], f.facts(ctx, true)},
		{"facts of a device, remembered", f.sample[half:], f.facts(ctx, true)},
		{"facts of one that does not exist", f.sample[half:], f.facts(ctx, false)},
		{"whole record", f.sample, func(m member) error {
			_, err := f.Device(ctx, f.org, m.name.Type, m.name.ID)
			return err
		}},
	} {
		took := make([]time.Duration, 0, len(way.of))
		for _, m := range way.of {
			began := time.Now()
			err := way.ask(m)
			took = append(took, time.Since(began))
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
		}
		slices.Sort(took)
		if len(took) > 0 {
			found.lookups = append(found.lookups, lookup{way.name, took})
		}
	}
	if err := f.list(ctx, found); err != nil {
		return err
	}
	var err error
	found.resident, err = ownMemory()
	return err
}

func (f *fleet) facts(ctx context.Context, registered bool) func(member) error {
	return func(m member) error {
		id := m.name.ID
		if !registered {
			id += "x"
		}
		facts, err := f.DeviceFacts(ctx, f.org, m.name.Type, id)
		if err == nil && facts.Registered != registered {
			err = errors.New("the registry is wrong about a device")
		}
		return err
	}
}

// list reads every page.
func (f *fleet) list(ctx context.Context, found *registryFound) error {
	say("listing all")
	began := time.Now()
	for page := (registry.Page{Limit: listPage}); ; {
		devices, next, err := f.Devices(ctx, f.org, "", page)
		if err != nil {
			return err
		}
		found.pages++
		found.seen += len(devices)
		if page.After = next; next == "" {
			break
		}
	}
	found.listed = time.Since(began)
	return nil
}

// start measures one start of the broker; in the last, the sample connects.
func (f *fleet) start(ctx context.Context, p *program, found *registryFound, last bool) error {
	b, err := p.run(ctx)
	if err != nil {
		return err
	}
	defer b.kill()
	s, err := look(ctx, b)
	if err != nil {
		return err
	}
	found.starts = append(found.starts, s)
	if last {
		began := time.Now()
		err := each(ctx, len(f.sample), connecting, func(i int) error {
			m := f.sample[i]
			conn, err := client.Dial(ctx, client.Config{
				Address: p.mqtt, Version: wire.V311, Clean: true, Local: loopback(i),
				ClientID: m.clientID(), Username: "use-token-auth", Password: m.token,
			})
			if err != nil {
				return err
			}
			return conn.Disconnect()
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, b.log.tail())
		}
		found.connected, found.connects = len(f.sample), time.Since(began)
	}
	lines, _ := b.log.faults()
	found.faults = append(found.faults, lines...)
	return b.stop()
}

// remove takes the sample away again.
func (f *fleet) remove(ctx context.Context) error {
	say("removing %d devices", len(f.sample))
	names := make([]registry.DeviceName, len(f.sample))
	for i, m := range f.sample {
		names[i] = m.name
	}
	results, err := f.RemoveDevices(ctx, f.org, names)
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// transfer exports the organisation and imports it into another folder.
func (f *fleet) transfer(ctx context.Context, p *program, found *registryFound) (err error) {
	say("exporting and importing")
	debug.FreeOSMemory()
	file, err := os.Create(filepath.Join(p.dir, "export"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	left := 0
	export := func() error {
		moved, err := f.Export(ctx, f.org, file, registry.ExportOptions{})
		left = moved.Records["device"]
		return err
	}
	if err := f.inside(p.data, func() error { return found.move("exported", file, export) }); err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	debug.FreeOSMemory()
	return f.inside(filepath.Join(p.dir, "elsewhere"), func() error {
		return found.move("imported", file, func() error {
			moved, err := f.Import(ctx, file, registry.ImportOptions{})
			if err == nil && moved.Records["device"] != left {
				err = fmt.Errorf("%d devices were exported and %d imported", left, moved.Records["device"])
			}
			return err
		})
	})
}

// move measures do.
func (f *registryFound) move(name string, file *os.File, do func() error) error {
	m := move{name: name}
	done, watched := make(chan struct{}), make(chan struct{})
	go func() { // ends with do
		defer close(watched)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if now, err := ownMemory(); err == nil {
					m.peak = max(m.peak, now.anonymous)
				}
			case <-done:
				return
			}
		}
	}()
	before, err := usageOf(os.Getpid())
	began := time.Now()
	if err == nil {
		err = do()
	}
	m.took = time.Since(began)
	close(done)
	<-watched
	if err != nil {
		return err
	}
	after, err := usageOf(os.Getpid())
	if err != nil {
		return err
	}
	m.cpu = after.cpu - before.cpu
	info, err := file.Stat()
	if err != nil {
		return err
	}
	m.bytes = info.Size()
	f.moves = append(f.moves, m)
	return nil
}
