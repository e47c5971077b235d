package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/policy"
)

// exportCmd writes an organisation as the registry knows it.
type exportCmd struct {
	Org                string     `arg:"" placeholder:"ORG" help:"The organisation."`
	Output             string     `short:"o" placeholder:"FILE" help:"Where to write it (default: standard output). It must not exist; nobody else may read it."`
	WithoutCredentials bool       `name:"without-credentials" help:"Leave out the salted hashes of tokens and passwords: everybody gets new ones after the import."`
	Folder             dataFolder `embed:""`
}

// privateFile is the mode of a file with hashes of secrets in it.
const privateFile fs.FileMode = 0o600

// Run writes the file, and says on standard error how far it is and what was
// written.
func (c *exportCmd) Run(ctx context.Context, std *streams) (err error) {
	org, err := policy.ParseOrgID(c.Org)
	if err != nil {
		return err
	}
	out := std.out
	if c.Output != "" {
		file, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, privateFile)
		if err != nil {
			return err
		}
		defer func() {
			if err = errors.Join(err, file.Close()); err != nil {
				err = errors.Join(err, os.Remove(c.Output))
			}
		}()
		out = file
	} else if !c.WithoutCredentials {
		if err := makePrivate(out); err != nil {
			return err
		}
	}
	var moved registry.Moved
	err = c.source(ctx, org, func(in io.Reader) (err error) {
		p := newProgress(std.err, "exported", 0)
		moved, err = registry.CheckExport(io.TeeReader(io.TeeReader(in, out), p))
		return err
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.err, "exported %s: %s\n", org, recordsOf(moved.Records))
	return err
}

// makePrivate keeps others from reading the file that standard output leads to.
func makePrivate(out io.Writer) error {
	file, ok := out.(*os.File)
	if !ok {
		return nil
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&^privateFile == 0 {
		return err
	}
	return file.Chmod(privateFile)
}

// source hands the export to read: that of the broker that runs, or where none does
// that of the data folder.
func (c *exportCmd) source(ctx context.Context, org policy.OrgID, read func(io.Reader) error) error {
	client, err := control.Dial(c.Folder.Data)
	if errors.Is(err, control.ErrNotRunning) {
		return c.alone(ctx, org, read)
	}
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	client.Timeout = 0 // the broker ends what does not get on
	url := control.BaseURL + "/organisations/" + org.String() + "/export?credentials=" + strconv.FormatBool(!c.WithoutCredentials)
	rq, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	rs, err := client.Do(rq)
	if err != nil {
		return err
	}
	defer rs.Body.Close()
	if rs.StatusCode != http.StatusOK {
		return problemOf(rs)
	}
	return read(rs.Body)
}

func (c *exportCmd) alone(ctx context.Context, org policy.OrgID, read func(io.Reader) error) error {
	if _, err := os.Stat(filepath.Join(c.Folder.Data, "db")); err != nil {
		return fmt.Errorf("data folder %s: %w", c.Folder.Data, err)
	}
	return aloneWith(c.Folder.Data, func(r *registry.Registry) error {
		in, out := io.Pipe()
		done := make(chan struct{})
		go func() { // ends when it has written all, or when the pipe is closed
			defer close(done)
			_, err := r.Export(ctx, org, out, registry.ExportOptions{WithoutCredentials: c.WithoutCredentials})
			_ = out.CloseWithError(err) // it never fails
		}()
		err := read(in)
		_ = in.CloseWithError(errors.New("nobody reads any more")) // likewise
		<-done
		return err
	})
}

// aloneWith opens the registry of a data folder on which no broker runs. Its lock
// keeps one from starting meanwhile.
func aloneWith(data string, f func(*registry.Registry) error) (err error) {
	log := slog.New(slog.DiscardHandler)
	st, err := badgerstore.Open(filepath.Join(data, "db"), badgerstore.Options{Logger: log})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("data folder %s is in use by a broker that does not answer yet; try again", data)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	r, err := registry.Open(st, registry.Options{Log: log})
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

// progress counts what passes it, and tells now and then.
type progress struct {
	out   io.Writer
	verb  string
	total int64 // bytes; 0: not known
	bytes int64
	lines int
	told  time.Time
}

// progressEvery is how often progress is told.
const progressEvery = 2 * time.Second

func newProgress(out io.Writer, verb string, total int64) *progress {
	return &progress{out: out, verb: verb, total: total, told: time.Now()}
}

// Write counts b.
func (p *progress) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	for _, c := range b {
		if c == '\n' {
			p.lines++
		}
	}
	if now := time.Now(); now.Sub(p.told) >= progressEvery {
		p.told = now
		share := ""
		if p.total > 0 {
			share = fmt.Sprintf(" (%d %%)", 100*p.bytes/p.total)
		}
		if _, err := fmt.Fprintf(p.out, "%s %d records, %d MiB%s\n", p.verb, p.lines, p.bytes>>20, share); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// recordsOf spells what was moved, such as "2 api_key, 5 device".
func recordsOf(records map[string]int) string {
	var all []string
	for kind, n := range records {
		all = append(all, fmt.Sprintf("%s %d", kind, n))
	}
	if len(all) == 0 {
		return "nothing"
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
