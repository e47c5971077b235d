package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cordon-mq/cordon/broker/api"
	"github.com/cordon-mq/cordon/broker/api/control"
	"github.com/cordon-mq/cordon/broker/pki"
	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// initCmd makes an organisation that somebody can sign in to, in a new or
// existing data folder, also beside a running broker.
type initCmd struct {
	Org    string `required:"" placeholder:"ORG" help:"The organisation: 3 to 20 of a-z and 0-9."`
	Name   string `placeholder:"TEXT" help:"Its name for people."`
	Data   string `placeholder:"DIR" default:"./cordon-data" help:"Folder for everything Cordon keeps."`
	Domain string `placeholder:"NAME" default:"localhost" help:"DNS name that organisations live under."`
	JSON   bool   `name:"json" help:"Print one JSON object and nothing else."`
}

// seeded is the answer of init, printed once.
type seeded struct {
	api.CreatedOrganisation
	CA string `json:"ca"` // absolute path
}

// Run prints the first credentials of the new organisation.
func (c *initCmd) Run(ctx context.Context, std *streams) error {
	org, err := policy.ParseOrgID(c.Org)
	if err != nil {
		return err
	}
	made, err := c.beside(ctx, org)
	if errors.Is(err, control.ErrNotRunning) {
		made, err = c.alone(ctx, org)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(std.out).Encode(made)
	}
	_, err = fmt.Fprintf(std.out, `organisation    %s
API key         %s
API token       %s
administrator   %s
password        %s
CA certificate  %s
These secrets are shown this once.
`, made.Org, made.APIKey, made.APIToken, made.AdminUser, made.AdminPassword, made.CA)
	return err
}

// alone opens the data folder itself. Its lock keeps a broker from starting
// meanwhile.
func (c *initCmd) alone(ctx context.Context, org policy.OrgID) (made seeded, err error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return made, err
	}
	err = aloneWith(c.Data, func(r *registry.Registry) error {
		seed, err := r.SeedOrganisation(ctx, org, c.Name)
		if err != nil {
			return err
		}
		names, err := organisationNames(ctx, r)
		if err != nil {
			return err
		}
		ca, err := pki.Open(filepath.Join(c.Data, "tls"), pki.Names{
			Domain: c.Domain, Organisations: names, Hosts: hosts(), Log: slog.New(slog.DiscardHandler),
		}, nil)
		if err != nil {
			return err
		}
		made = seeded{api.CreatedOrganisation{
			Org: org.String(), APIKey: seed.APIKey.Key, APIToken: seed.APIToken,
			AdminUser: string(seed.AdminUser.Name) + "@" + org.String(), AdminPassword: seed.AdminPassword,
		}, ca.CAFile()}
		return nil
	})
	return made, err
}

// beside asks the broker that runs on the data folder.
func (c *initCmd) beside(ctx context.Context, org policy.OrgID) (made seeded, err error) {
	client, err := control.Dial(c.Data)
	if err != nil {
		return made, err
	}
	defer client.CloseIdleConnections()
	body, err := json.Marshal(map[string]string{"org": org.String(), "name": c.Name})
	if err != nil {
		return made, err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, control.BaseURL+"/organisations", bytes.NewReader(body))
	if err != nil {
		return made, err
	}
	rq.Header.Set("Content-Type", "application/json")
	rs, err := client.Do(rq)
	if err != nil {
		return made, err
	}
	defer rs.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(rs.Body, 64<<10))
	if err != nil {
		return made, err
	}
	if rs.StatusCode != http.StatusCreated {
		var problem api.ErrorBody
		if json.Unmarshal(answer, &problem) != nil || problem.Message == "" {
			problem.Message = rs.Status
		}
		return made, errors.New(problem.Message)
	}
	if err := json.Unmarshal(answer, &made.CreatedOrganisation); err != nil {
		return made, err
	}
	made.CA, err = filepath.Abs(filepath.Join(c.Data, "tls", "ca.crt"))
	return made, err
}
