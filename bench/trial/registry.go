package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// registryConfig is what the registry trial is run with.
type registryConfig struct {
	binary  string
	devices int
	types   int
	call    int // devices in one bulk call
	looked  int // devices that are looked up
	starts  int
}

func registryCommand(ctx context.Context, args []string, out io.Writer) error {
	var c registryConfig
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	flags.StringVar(&c.binary, "cordon", "", "program to run (default: it is built)")
	flags.IntVar(&c.devices, "devices", 1_000_000, "devices in one organisation")
	flags.IntVar(&c.types, "types", 10, "device types that they are of")
	flags.IntVar(&c.call, "call", 5000, "devices in one bulk call")
	flags.IntVar(&c.looked, "looked", 20_000, "devices that are looked up, and then connect")
	flags.IntVar(&c.starts, "starts", 3, "how often the broker is started")
	err := errors.Join(parse(flags, args), atLeast(1, c.devices, "devices"), atLeast(1, c.types, "types"),
		atLeast(1, c.call, "call"), atLeast(1, c.looked, "looked"), atLeast(1, c.starts, "starts"))
	if err != nil {
		return err
	}
	found, err := measureRegistry(ctx, c)
	if err != nil {
		return err
	}
	if _, err := found.summary().WriteTo(out); err != nil {
		return err
	}
	return found.verdict()
}

// registryFound is what the registry trial found.
type registryFound struct {
	registryConfig
	added     time.Duration
	addedCPU  time.Duration   // of this process
	calls     []time.Duration // each bulk call
	single    []time.Duration // one device alone
	opened    time.Duration   // the store and the registry
	lookups   []lookup
	listed    time.Duration
	pages     int
	seen      int           // devices in the list
	removed   time.Duration // of some of them
	resident  memoryOf      // of this process, after the listing
	before    memoryOf      // the same, before anything
	moves     []move
	folder    int64
	starts    []start
	connected int
	connects  time.Duration // for all that connected
	faults    []string
}

// memoryOf is what this process has in memory, in bytes.
type memoryOf struct{ all, anonymous int64 }

func (m memoryOf) String() string {
	return fmt.Sprintf("%s, of which anonymous %s", megabytes(m.all), megabytes(m.anonymous))
}

func ownMemory() (m memoryOf, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return m, err
	}
	if m.all, err = statusLine(string(status), "VmRSS:"); err != nil {
		return m, err
	}
	m.anonymous, err = statusLine(string(status), "RssAnon:")
	return m, err
}

// move is an export or an import.
type move struct {
	name  string
	took  time.Duration
	cpu   time.Duration // of this process
	bytes int64         // of the file
	peak  int64         // of anonymous memory
}

// lookup is one way to ask for a device.
type lookup struct {
	name string
	took []time.Duration
}

func (f *registryFound) verdict() error {
	if f.seen != f.devices || f.connected != min(f.looked, f.devices) || len(f.faults) > 0 {
		return errBroken
	}
	return nil
}

func (f *registryFound) summary() *summary {
	s := &summary{}
	s.title("Registry with %s devices in one organisation", count(f.devices))
	s.text("%d types, %d devices in one bulk call, generated tokens. Opened in %s.", f.types, f.call, f.opened.Round(time.Millisecond))
	s.table([]string{"", ""}, [][]string{
		{"registered", fmt.Sprintf("%.0f devices/s, %s in all, CPU %s", perSecond(f.devices, f.added), f.added.Round(time.Millisecond), f.addedCPU.Round(time.Millisecond))},
		{"one bulk call", fmt.Sprintf("p50 %s, p99 %s", shown(f.calls, 0.5), shown(f.calls, 0.99))},
		{"one device alone", fmt.Sprintf("p50 %s, p99 %s", shown(f.single, 0.5), shown(f.single, 0.99))},
		{"listed", fmt.Sprintf("%.0f pages/s of %d, %d devices in %s", perSecond(f.pages, f.listed), listPage, f.seen, f.listed.Round(time.Millisecond))},
		{"removed", fmt.Sprintf("%.0f devices/s", perSecond(min(f.looked, f.devices), f.removed))},
		{"data folder", fmt.Sprintf("%s, %d bytes for each device", megabytes(f.folder), f.folder/int64(f.devices))},
		{"RSS of the registry alone", f.resident.String()},
		{"RSS before anything", f.before.String()},
		{"connected afterwards", fmt.Sprintf("%d devices, %.0f/s", f.connected, perSecond(f.connected, f.connects))},
	})
	var rows [][]string
	for _, l := range f.lookups {
		rows = append(rows, []string{l.name, shown(l.took, 0.5), shown(l.took, 0.99)})
	}
	s.table([]string{"look-up", "p50", "p99"}, rows)
	rows = nil
	for _, m := range f.moves {
		rows = append(rows, []string{m.name, m.took.Round(time.Millisecond).String(), m.cpu.Round(time.Millisecond).String(), fmt.Sprintf("%.0f", perSecond(f.devices, m.took)), megabytes(m.bytes), megabytes(m.peak)})
	}
	s.table([]string{"", "took", "CPU", "devices/s", "file", "anonymous memory at its peak"}, rows)
	rows = nil
	for i, start := range f.starts {
		rows = append(rows, []string{
			itoa(i + 1), start.ready.Round(time.Millisecond).String(), start.cpu.String(), megabytes(start.resident), megabytes(start.settled),
		})
	}
	s.table([]string{"start", "ready after", "CPU", "RSS when ready", "RSS " + startRest.String() + " later"}, rows)
	s.list("Errors logged", f.faults)
	return s
}

func shown(sorted []time.Duration, q float64) string {
	return quantile(sorted, q).Round(10 * time.Nanosecond).String()
}

func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }
