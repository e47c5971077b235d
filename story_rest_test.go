package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/api/control"
)

// rest calls the interface of an organisation.
func (s *story) rest(args []string) {
	set := flag.NewFlagSet("rest", 0)
	authorise := s.authorisation(set)
	until := set.String("until", "", "TEXT that the answer has to hold: what happens in the background takes its time")
	args = s.options(set, args, 2, 3)
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		s.call(s.overTLS(), "https://"+s.ts.Getenv("HTTPS")+"/api/v0002", args, authorise)
		if strings.Contains(string(s.answer), *until) {
			return
		}
		if time.Now().After(deadline) {
			s.ts.Fatalf("no answer holds %q", *until)
		}
	}
}

// authorisation adds the flags that say who calls: -u USER:PASSWORD, or -bearer
// TOKEN, which with -plugin NAME is for that plugin. What it returns makes a
// request the caller's, once the flags are parsed.
func (s *story) authorisation(set *flag.FlagSet) func(*http.Request) {
	basic := set.String("u", "", "USER:PASSWORD")
	bearer := set.String("bearer", "", "TOKEN")
	plugin := set.String("plugin", "", "NAME")
	return func(rq *http.Request) {
		if user, password, ok := strings.Cut(*basic, ":"); ok {
			rq.SetBasicAuth(user, password)
		}
		if *bearer != "" {
			s.secrets.add("BEARER", *bearer)
			rq.Header.Set("Authorization", "Bearer "+*bearer)
		}
		if *plugin != "" {
			rq.Header.Set("X-Cordon-Plugin", *plugin)
		}
	}
}

// operator calls the operator's interface.
func (s *story) operator(args []string) {
	set := flag.NewFlagSet("operator", 0)
	bearer := set.String("bearer", "", "TOKEN")
	args = s.options(set, args, 2, 3)
	if *bearer != "" {
		s.call(s.overTLS(), "https://"+s.ts.Getenv("HTTPS")+"/api/operator/v1", args, func(rq *http.Request) {
			rq.Header.Set("Authorization", "Bearer "+*bearer)
		})
		return
	}
	client, err := control.Dial(s.data)
	s.ts.Check(err)
	s.call(client, control.BaseURL, args, func(*http.Request) {})
}

// metrics asks for the operator's metrics.
func (s *story) metrics(args []string) {
	set := flag.NewFlagSet("metrics", 0)
	bearer := set.String("bearer", "", "TOKEN")
	s.options(set, args, 0, 0)
	if *bearer != "" {
		s.call(s.overTLS(), "https://"+s.ts.Getenv("HTTPS"), []string{http.MethodGet, "/metrics"}, func(rq *http.Request) {
			rq.Header.Set("Authorization", "Bearer "+*bearer)
		})
		return
	}
	client, err := control.Dial(s.data)
	s.ts.Check(err)
	s.call(client, strings.TrimSuffix(control.BaseURL, "/api/operator/v1"), []string{http.MethodGet, "/metrics"}, func(*http.Request) {})
}

// ready asks /readyz: "ready" prints the status and what is said.
func (s *story) ready(args []string) {
	s.options(flag.NewFlagSet("ready", 0), args, 0, 0)
	s.call(s.overTLS(), "https://"+s.ts.Getenv("HTTPS"), []string{http.MethodGet, "/readyz"}, func(*http.Request) {})
}

// operatorTokenFile is the only file that may have a token in it.
func (s *story) operatorTokenFile() string { return filepath.Join(s.data, "operator.token") }

func (s *story) operatorToken(args []string) {
	s.options(flag.NewFlagSet("operator-token", 0), args, 0, 0)
	info, err := os.Stat(s.operatorTokenFile())
	s.ts.Check(err)
	if info.Mode() != 0o600 {
		s.ts.Fatalf("operator.token has mode %v", info.Mode())
	}
	token := strings.TrimSpace(s.ts.ReadFile(s.operatorTokenFile()))
	s.secrets.add("OPERATOR_TOKEN", token)
	s.ts.Setenv("OPERATOR_TOKEN", token)
}

func (s *story) overTLS() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: s.trusting("localhost")}}
}

// trusting makes a client's settings that trust the broker's own authority only.
func (s *story) trusting(serverName string) *tls.Config {
	text, err := os.ReadFile(s.ts.Getenv("CA"))
	s.ts.Check(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		s.ts.Fatalf("$CA is no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS12}
}

// call makes one call, METHOD PATH [BODY], and prints status and body.
func (s *story) call(client *http.Client, base string, args []string, authorise func(*http.Request)) {
	defer client.CloseIdleConnections()
	body := strings.Join(args[2:], "")
	rq, err := http.NewRequestWithContext(s.tb.Context(), args[0], base+args[1], strings.NewReader(body))
	s.ts.Check(err)
	if body != "" {
		rq.Header.Set("Content-Type", "application/json")
	}
	authorise(rq)
	rs, err := client.Do(rq)
	s.ts.Check(err)
	defer rs.Body.Close()
	s.answer, err = io.ReadAll(rs.Body)
	s.ts.Check(err)
	if name := s.secrets.foundIn(s.answer); name != "" {
		s.ts.Fatalf("status %d, and the answer has %s in it", rs.StatusCode, name)
	}
	s.learn()
	_, err = fmt.Fprintf(s.ts.Stdout(), "%d\n%s\n", rs.StatusCode, s.secrets.masked(string(s.answer)))
	s.ts.Check(err)
}

// learn remembers what is secret of an answer.
func (s *story) learn() {
	var fields map[string]any
	if json.Unmarshal(s.answer, &fields) != nil {
		return
	}
	for _, name := range []string{"authToken", "token", "apiToken", "adminPassword"} {
		if value, ok := fields[name].(string); ok {
			s.secrets.add(name, value)
		}
	}
}

func (s *story) field(args []string) {
	args = s.options(flag.NewFlagSet("field", 0), args, 2, 2)
	var fields map[string]any
	s.ts.Check(json.Unmarshal(s.answer, &fields))
	value, ok := fields[args[1]].(string)
	if !ok || value == "" {
		s.ts.Fatalf("the last answer has no text named %s", args[1])
	}
	s.ts.Setenv(args[0], value)
}

func (s *story) device(args []string) {
	args = s.options(flag.NewFlagSet("device", 0), args, 3, 3)
	org, typ, id := strings.ToUpper(args[0]), args[1], args[2]
	basic := []string{"-u", s.ts.Getenv(org+"_KEY") + ":" + s.ts.Getenv(org+"_TOKEN"), "POST"}
	s.rest(append(basic, "/device/types", fmt.Sprintf(`{"id":%q}`, typ)))
	s.rest(append(basic, "/device/types/"+typ+"/devices", fmt.Sprintf(`{"deviceId":%q}`, id)))
	s.field([]string{org + "_" + strings.ToUpper(id), "authToken"})
}

// secrets are the tokens that were issued in a story.
type secrets []secret

type secret struct{ name, value string }

func (list *secrets) add(name, value string) { *list = append(*list, secret{name, value}) }

// foundIn names the first secret that text has, as it is or encoded.
func (list secrets) foundIn(text []byte) string {
	for _, s := range list {
		for _, form := range []string{
			s.value, hex.EncodeToString([]byte(s.value)), base64.StdEncoding.EncodeToString([]byte(s.value)),
		} {
			if bytes.Contains(text, []byte(strings.TrimRight(form, "="))) {
				return s.name
			}
		}
	}
	return ""
}

// masked is text with names in place of the secrets.
func (list secrets) masked(text string) string {
	for _, s := range list {
		text = strings.ReplaceAll(text, s.value, "("+s.name+")")
	}
	return text
}

// noSecrets searches every byte that the program left behind. That it would
// find something in the store is shown with the API keys: they are public, and
// kept as they are.
func (s *story) noSecrets(args []string) {
	s.options(flag.NewFlagSet("nosecrets", 0), args, 0, 0)
	if len(s.secrets) == 0 {
		s.ts.Fatalf("this story has no secrets")
	}
	search := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // the store tidies up
			s.ts.Fatalf("%v", err)
		}
		if name := s.secrets.foundIn(text); name != "" {
			s.ts.Fatalf("%s has %s in it", path, name)
		}
		return text
	}
	search(s.log)
	var kept []byte
	s.ts.Check(filepath.WalkDir(s.data, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && path != s.operatorTokenFile() {
			kept = append(kept, search(path)...)
		}
		return err
	}))
	for _, name := range []string{"APP_KEY", "ACME01_KEY", "RIVAL1_KEY"} {
		if key := s.ts.Getenv(name); !bytes.Contains(kept, []byte(key)) {
			s.ts.Fatalf("$%s was not found either, so this search finds nothing", name)
		}
	}
}
