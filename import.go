package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/registry"
)

// importCmd makes an organisation from what export wrote.
type importCmd struct {
	File   string     `arg:"" placeholder:"FILE" help:"What export wrote; - reads standard input."`
	Merge  bool       `help:"Add what it lacks to an organisation that exists; what is there stays as it is."`
	JSON   bool       `name:"json" help:"Print one JSON object and nothing else."`
	Folder dataFolder `embed:""`
}

// Run imports the file and prints what it was made of. Nobody sees anything of it
// before all of it was read and found to be whole.
func (c *importCmd) Run(ctx context.Context, std *streams) error {
	made, err := c.read(std.err, func(in io.Reader) (api.Imported, error) {
		made, err := c.beside(ctx, in)
		if errors.Is(err, control.ErrNotRunning) {
			return c.alone(ctx, in)
		}
		return made, err
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(std.out).Encode(made) //nolint:gosec // the token is shown this once, as asked
	}
	text := fmt.Sprintf("imported %s: %s\n", made.Org, recordsOf(made.Records))
	if c.Merge {
		text = fmt.Sprintf("added to %s: %s; %d were there already\n", made.Org, recordsOf(made.Records), made.Skipped)
	}
	if made.APIKey != "" {
		text += fmt.Sprintf("The file has no credentials. A new administrator's, shown this once:\nAPI key    %s\nAPI token  %s\n", made.APIKey, made.APIToken)
	}
	_, err = io.WriteString(std.out, text)
	return err
}

// read opens the file for do. One that can be read twice is checked first, so that
// a damaged one costs the broker nothing.
func (c *importCmd) read(said io.Writer, do func(io.Reader) (api.Imported, error)) (made api.Imported, err error) {
	file := os.Stdin
	if c.File != "-" {
		if file, err = os.Open(c.File); err != nil {
			return made, err
		}
		defer file.Close()
	}
	info, err := file.Stat()
	if err != nil {
		return made, err
	}
	total := int64(0)
	if info.Mode().IsRegular() {
		total = info.Size()
		if _, err := registry.CheckExport(io.TeeReader(file, newProgress(said, "checked", total))); err != nil {
			return made, fmt.Errorf("%s: %w", c.File, err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return made, err
		}
	}
	return do(io.TeeReader(file, newProgress(said, "imported", total)))
}

// beside asks the broker that runs on the data folder.
func (c *importCmd) beside(ctx context.Context, in io.Reader) (made api.Imported, err error) {
	client, err := control.Dial(c.Folder.Data)
	if err != nil {
		return made, err
	}
	defer client.CloseIdleConnections()
	client.Timeout = 0 // the broker ends what does not get on
	url := control.BaseURL + "/organisations/import?merge=" + strconv.FormatBool(c.Merge)
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(in))
	if err != nil {
		return made, err
	}
	rq.Header.Set("Content-Type", "application/x-ndjson")
	rs, err := client.Do(rq)
	if err != nil {
		return made, err
	}
	defer rs.Body.Close()
	if rs.StatusCode != http.StatusCreated {
		return made, problemOf(rs)
	}
	return made, json.NewDecoder(io.LimitReader(rs.Body, maxAnswer)).Decode(&made)
}

// alone opens the data folder itself, and makes it where there is none.
func (c *importCmd) alone(ctx context.Context, in io.Reader) (made api.Imported, err error) {
	if err := os.MkdirAll(c.Folder.Data, 0o700); err != nil {
		return made, err
	}
	err = aloneWith(c.Folder.Data, func(r *registry.Registry) error {
		moved, err := r.Import(ctx, in, registry.ImportOptions{Merge: c.Merge})
		made = api.ShowImported(moved)
		return err
	})
	return made, err
}
