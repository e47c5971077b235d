package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cordon-mq/cordon/broker/config"
	"github.com/cordon-mq/cordon/plugins/certificate/certificatetest"
)

// TestStories runs the scripts of broker/testdata/script: each is a story of
// the whole program, told by real processes that clients reach over loopback.
// `go doc testscript` has the language; here are the words that it gets.
//
//	cordon ARG...             runs the program
//	status N COMMAND ARG...   runs a command that has to end with exit status N
//	serve ARG...              runs `cordon serve` until shutdown, kill9 or the end
//	                          of the story, where it has to end with status 0. Sets
//	                          $MQTTS, $HTTPS and $MQTT (HOST:PORT of what is open)
//	                          and prints what it printed, without tokens
//	shutdown, kill9           end it in good order, or not
//	await REGEXP              waits for a line that this broker logs after the one
//	                          that was awaited last, and prints it. What all
//	                          brokers of the story logged is $LOG
//	org NAME                  runs `cordon init`, which also works while none is
//	                          served. For acme01 it sets $ACME01_KEY,
//	                          $ACME01_TOKEN, $ACME01_ADMIN, $ACME01_PASSWORD
//	rest [-u USER:PASSWORD] [-bearer TOKEN] [-plugin NAME] METHOD PATH [BODY]
//	                          calls /api/v0002, prints status and body
//	message [-u USER:PASSWORD] [-bearer TOKEN] [-plugin NAME] [-host HOST] [-type TYPE] [-1] [-later] PATH [BODY]
//	                          posts a message to /api/v0002; see story_message_test.go
//	answer                    prints what a message sent with -later was answered
//	operator [-bearer TOKEN] METHOD PATH [BODY]
//	                          the same at the operator's door: its socket, or
//	                          HTTPS with a token
//	metrics [-bearer TOKEN]   asks /metrics there, prints status and answer
//	operator-token            sets $OPERATOR_TOKEN from the data folder
//	field VAR NAME            puts a field of the last body into a variable
//	capture VAR REGEXP        puts what the group of it matches in the last output
//	                          into a variable
//	stream [-u USER:PASSWORD] NAME PATH
//	                          reads server-sent events of /api/v0002, or without -u
//	                          of the operator's door, and prints the status
//	event NAME REGEXP         waits for the next one that matches, and prints its
//	                          name and data; or "end" for the end
//	device ORG TYPE ID        makes the type, unless it is there, and a device with
//	                          the first key of ORG. Sets $ACME01_D1 to its token
//	pack [-sign FILE] ARCHIVE FOLDER
//	                          makes a .tar.gz of policies; see policy_pack_test.go
//	nosecrets                 no token of this story is in the data folder, in any
//	                          encoding that is likely, nor in the log
//	mqtt NAME ...             a client; see story_mqtt_test.go
//	authority, certificate, revoke
//	                          make client certificates; see story_certificate_test.go
//
// No token reaches the output: answers are shown without, and every answer is
// searched for tokens that were issued before it.
//
// Settings come from the environment, so that flags of a story win: listeners on
// free ports of 127.0.0.1 and the data folder $CORDON_DATA.
func TestStories(t *testing.T) {
	t.Parallel()
	p := stories()
	p.Dir = filepath.Join("broker", "testdata", "script")
	testscript.Run(t, p)
}

// stories are how scripts are run; which ones is for the caller to say.
func stories() testscript.Params {
	command := func(run func(*story, []string)) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("say what is expected instead of !")
			}
			s := ts.Value(storyKey{}).(*story)
			s.ts = ts
			run(s, args)
		}
	}
	return testscript.Params{
		Setup:              setUpStory,
		RequireUniqueNames: true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":            command((*story).status),
			"serve":             command((*story).serve),
			"shutdown":          command((*story).shutdown),
			"kill9":             command((*story).kill9),
			"await":             command((*story).await),
			"org":               command((*story).org),
			"rest":              command((*story).rest),
			"message":           command((*story).message),
			"answer":            command((*story).messageAnswer),
			"operator":          command((*story).operator),
			"metrics":           command((*story).metrics),
			"ready":             command((*story).ready),
			"operator-token":    command((*story).operatorToken),
			"field":             command((*story).field),
			"capture":           command((*story).capture),
			"stream":            command((*story).stream),
			"event":             command((*story).event),
			"device":            command((*story).device),
			"pack":              command((*story).pack),
			"nosecrets":         command((*story).noSecrets),
			"mqtt":              command((*story).mqtt),
			"authority":         command((*story).authority),
			"certificate":       command((*story).certificate),
			"revoke":            command((*story).revoke),
			"servercertificate": command((*story).servercertificate),
		},
	}
}

// story is the state of one script. Its methods run in the script's goroutine.
type story struct {
	ts      *testscript.TestScript // of the command under way
	tb      testing.TB
	data    string   // the data folder
	log     string   // the file with everything that was logged
	broker  *process // nil while none is served
	clients map[string]*client
	secrets secrets
	answer  []byte             // the last body
	asked   chan messageAnswer // of a message that was sent with -later; nil: none
	streams map[string]*eventStream
	issued  issued
}

type storyKey struct{}

func setUpStory(env *testscript.Env) error {
	s := &story{
		tb:      env.T().(testing.TB),
		data:    filepath.Join(env.WorkDir, "data"),
		log:     filepath.Join(env.WorkDir, "log"),
		clients: map[string]*client{},
		streams: map[string]*eventStream{},
		issued:  issued{authorities: map[string]*certificatetest.Authority{}, leaves: map[string]*certificatetest.Leaf{}},
	}
	env.Values[storyKey{}] = s
	env.Setenv("LOG", s.log)
	env.Setenv("CA", filepath.Join(s.data, "tls", "ca.crt"))
	env.Setenv("CORDON_DATA", s.data)
	env.Setenv("TOMORROW", time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
	env.Setenv("CORDON_MQTTS", "127.0.0.1:0")
	env.Setenv("CORDON_HTTPS", "127.0.0.1:0")
	if cache, err := os.UserCacheDir(); err == nil { // where go builds what a story writes
		env.Setenv("GOCACHE", cmp.Or(os.Getenv("GOCACHE"), filepath.Join(cache, "go-build")))
	}
	env.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE")) // or every run lasts a second longer
	env.Defer(func() {
		if s.tb.Failed() && s.broker != nil {
			s.tb.Logf("the broker logged:\n%s", s.secrets.masked(s.broker.log.String()))
		}
		if err := s.end(); err != nil {
			s.tb.Errorf("end of the story: %v", err)
		}
	})
	return os.WriteFile(s.log, nil, 0o600)
}

// end lets go of what a story has left. The clients go first: a broker that
// stops waits a while for those who were told goodbye.
func (s *story) end() error {
	for _, c := range s.clients {
		c.Close()
	}
	for _, e := range s.streams {
		e.close()
	}
	clear(s.streams)
	if s.broker == nil {
		return nil
	}
	err := s.broker.stop()
	s.broker = nil
	return err
}

// options parses the flags of a command, and checks how many arguments follow.
func (s *story) options(set *flag.FlagSet, args []string, least, most int) []string {
	set.Init(set.Name(), flag.ContinueOnError)
	set.SetOutput(io.Discard)
	s.ts.Check(set.Parse(args))
	if n := set.NArg(); n < least || most >= 0 && n > most {
		s.ts.Fatalf("%s: %d arguments", set.Name(), n)
	}
	return set.Args()
}

func (s *story) status(args []string) {
	args = s.options(flag.NewFlagSet("status", 0), args, 2, -1)
	want, err := strconv.Atoi(args[0])
	s.ts.Check(err)
	err = s.ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case err == nil && want == 0:
	case errors.As(err, &exit) && exit.ExitCode() == want:
	default:
		s.ts.Fatalf("want exit status %d: %v", want, err)
	}
}

// environment is the script's own, as far as the program looks at it.
func (s *story) environment() []string {
	names := []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR", "GORACE"}
	for setting := range reflect.TypeFor[config.Config]().Fields() {
		names = append(names, config.EnvName(setting.Tag.Get("name")))
	}
	var env []string
	for _, name := range names {
		if value := s.ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func (s *story) serve(args []string) {
	if s.broker != nil {
		s.ts.Fatalf("there is one already")
	}
	var err error
	s.broker, err = startProcess(s.ts.MkAbs("."), s.log, s.environment(), append([]string{"serve"}, args...)...)
	s.ts.Check(err)
	line, err := s.broker.await(readyLine())
	s.ts.Check(err)
	s.broker.log.rewind()
	for _, name := range []string{"mqtts", "https", "mqtt"} {
		s.ts.Setenv(strings.ToUpper(name), addressIn(line, name))
	}
	for _, found := range tourVariable().FindAllStringSubmatch(s.broker.stdout(), -1) {
		name, value := found[1], found[2]
		if strings.HasSuffix(name, "_TOKEN") {
			s.secrets.add(name, value)
		}
		s.ts.Setenv(name, value)
	}
	_, err = io.WriteString(s.ts.Stdout(), s.secrets.masked(s.broker.stdout()))
	s.ts.Check(err)
}

// tourVariable finds what the demonstration gives to the shell.
func tourVariable() *regexp.Regexp { return regexp.MustCompile(`\b([A-Z_]+)='([^']*)'`) }

// running is the broker, which has to be there.
func (s *story) running() *process {
	if s.broker == nil {
		s.ts.Fatalf("nothing is served")
	}
	return s.broker
}

func (s *story) shutdown(args []string) {
	s.options(flag.NewFlagSet("shutdown", 0), args, 0, 0)
	s.running()
	s.ts.Check(s.end())
	s.clients = map[string]*client{}
}

func (s *story) kill9(args []string) {
	s.options(flag.NewFlagSet("kill9", 0), args, 0, 0)
	s.running().kill()
	s.broker = nil
	s.ts.Check(s.end())
	s.clients = map[string]*client{}
}

func (s *story) await(args []string) {
	args = s.options(flag.NewFlagSet("await", 0), args, 1, 1)
	pattern, err := regexp.Compile(args[0])
	s.ts.Check(err)
	line, err := s.running().await(pattern)
	s.ts.Check(err)
	_, err = io.WriteString(s.ts.Stdout(), line)
	s.ts.Check(err)
}

func (s *story) org(args []string) {
	name := s.options(flag.NewFlagSet("org", 0), args, 1, 1)[0]
	cmd := exec.CommandContext(s.tb.Context(), "cordon", "init", "--json", "--org", name)
	cmd.Dir, cmd.Env = s.ts.MkAbs("."), s.environment()
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.ts.Fatalf("cordon init: %v\n%s", err, said.String())
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	decoder.DisallowUnknownFields()
	var made seeded
	s.ts.Check(decoder.Decode(&made))
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) || said.Len() > 0 {
		s.ts.Fatalf("more than one object: %v %s", err, said.String())
	}
	if want := s.ts.Getenv("CA"); made.CA != want || made.Org != name {
		s.ts.Fatalf("organisation %q with CA %q, want %q", made.Org, made.CA, want)
	}
	prefix := strings.ToUpper(name)
	s.secrets.add(prefix+"_TOKEN", made.APIToken)
	s.secrets.add(prefix+"_PASSWORD", made.AdminPassword)
	s.ts.Setenv(prefix+"_KEY", made.APIKey)
	s.ts.Setenv(prefix+"_TOKEN", made.APIToken)
	s.ts.Setenv(prefix+"_ADMIN", made.AdminUser)
	s.ts.Setenv(prefix+"_PASSWORD", made.AdminPassword)
}
