package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/cordon-mq/cordon/plugins/scaffold"
	"github.com/cordon-mq/cordon/plugins/wasm"
	"github.com/cordon-mq/cordon/policy"
)

// pluginCmd is for those who write token verifiers; none of its commands needs a
// broker.
type pluginCmd struct {
	New    pluginNewCmd    `cmd:"" help:"Write a new plugin, ready to build."`
	Check  pluginCheckCmd  `cmd:"" help:"Say whether a plugin may go live, and what it costs."`
	Verify pluginVerifyCmd `cmd:"" help:"Ask a plugin about one token, step by step."`
}

type pluginNewCmd struct {
	Lang string `required:"" enum:"go,rust,c,assemblyscript" placeholder:"LANG" help:"Language: go, rust, c or assemblyscript."`
	Name string `arg:"" help:"Name of the plugin, and of the folder to make."`
}

// Run writes the project.
func (c *pluginNewCmd) Run(std *streams) error {
	lang, err := scaffold.ParseLang(c.Lang)
	if err != nil {
		return err
	}
	if err := scaffold.Write(lang, ".", c.Name); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "wrote %[1]s/, whose README.md has the rest; build it there with\n\n  %[2]s\n\nand then: cordon plugin check %[1]s/%[1]s.wasm --vectors %[1]s/vectors.yaml\n",
		c.Name, lang.Build(c.Name))
	return err
}

// inspection is what check and verify share: a file, and whose it would be.
type inspection struct {
	File string `arg:"" help:"The module, a .wasm file; the .yaml beside it is read too."`
	Org  string `placeholder:"ORG" help:"Organisation it is to serve (default: those of its .yaml, or its folder's name)."`
}

func (i *inspection) options() (o wasm.InspectOptions, err error) {
	if i.Org != "" {
		o.Org, err = policy.ParseOrgID(i.Org)
	}
	return o, err
}

type pluginCheckCmd struct {
	inspection `embed:""`

	Vectors string `placeholder:"FILE" help:"YAML file with tokens and what has to become of them."`
	JSON    bool   `name:"json" help:"Print one JSON object and nothing else."`
}

// Run prints what is known of the module, whether it may go live or not.
func (c *pluginCheckCmd) Run(ctx context.Context, std *streams) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	options.Vectors = c.Vectors
	report, err := wasm.Inspect(ctx, c.File, options)
	r := newPluginReport(&report, err)
	if c.JSON {
		encoder := json.NewEncoder(std.out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return err
		}
	} else if err := r.print(std.out, filepath.Base(c.File)); err != nil {
		return err
	}
	if err != nil {
		return errReported
	}
	return nil
}

// pluginReport is a wasm.Report as check prints it: sizes in bytes, times in
// microseconds.
type pluginReport struct {
	OK            bool           `json:"ok"`
	Refused       string         `json:"refused,omitempty"` // why it may not go live
	Name          string         `json:"name"`
	SHA256        string         `json:"sha256"`
	Bytes         int            `json:"bytes"`
	ABI           string         `json:"abi"`
	Organisations []string       `json:"organisations"`
	Exports       []string       `json:"exports"`
	Imports       []string       `json:"imports"`
	Memory        pluginMemory   `json:"memory"`
	Limits        pluginLimits   `json:"limits"`
	CompileMicros int64          `json:"compileMicros"`
	StartMicros   int64          `json:"startMicros"`
	CallMicros    int64          `json:"callMicros"` // median
	Vectors       []pluginVector `json:"vectors"`
	Warnings      []string       `json:"warnings"`
}

type pluginMemory struct {
	Least int64 `json:"least"`
	Most  int64 `json:"most"`
	Used  int64 `json:"used"` // by one instance, after the self-test
}

type pluginLimits struct {
	DeadlineMicros int64 `json:"deadlineMicros"`
	Memory         int   `json:"memory"`
	Instances      int   `json:"instances"`
	Module         int   `json:"module"`
	Request        int   `json:"request"`
	Answer         int   `json:"answer"`
}

type pluginVector struct {
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	Detail string `json:"detail,omitempty"`
	Micros int64  `json:"micros"`
}

func newPluginReport(r *wasm.Report, refused error) *pluginReport {
	out := &pluginReport{
		OK: refused == nil, Name: r.Name, SHA256: r.SHA256, Bytes: r.Bytes, ABI: r.ABI,
		Organisations: []string{}, Exports: append([]string{}, r.Exports...), Imports: append([]string{}, r.Imports...),
		Memory: pluginMemory{r.MemoryMinBytes, r.MemoryMaxBytes, r.MemoryUsedBytes},
		Limits: pluginLimits{
			r.Limits.Deadline.Microseconds(), r.Limits.MemoryBytes, r.Limits.Instances,
			r.Limits.ModuleBytes, r.Limits.InputBytes, r.Limits.OutputBytes,
		},
		CompileMicros: r.CompileTime.Microseconds(), StartMicros: r.StartTime.Microseconds(), CallMicros: r.CallTime.Microseconds(),
		Vectors: []pluginVector{}, Warnings: append([]string{}, r.Warnings...),
	}
	if refused != nil {
		out.Refused = refused.Error()
	}
	for _, org := range r.Orgs {
		out.Organisations = append(out.Organisations, org.String())
	}
	for _, v := range r.Vectors {
		out.Vectors = append(out.Vectors, pluginVector{v.Name, v.Passed, v.Detail, v.Took.Microseconds()})
	}
	return out
}

// print writes what was found, line by line, and then the verdict.
func (r *pluginReport) print(to io.Writer, file string) error {
	w := &printer{to: to}
	if r.SHA256 != "" {
		w.printf("file           %s, %s, SHA-256 %s", file, size(int64(r.Bytes)), r.SHA256)
	}
	if r.ABI != "" {
		w.printf("interface      %s", r.ABI)
		w.printf("memory         %s at first, at most %s; %s after the self-test", size(r.Memory.Least), size(r.Memory.Most), size(r.Memory.Used))
		w.printf("limits         %v a call, %s of memory, %d instances at once, requests of %s, answers of %s",
			micros(r.Limits.DeadlineMicros), size(int64(r.Limits.Memory)), r.Limits.Instances, size(int64(r.Limits.Request)), size(int64(r.Limits.Answer)))
		w.printf("times          compile %v, start %v, call %v", micros(r.CompileMicros), micros(r.StartMicros), micros(r.CallMicros))
	}
	for _, org := range r.Organisations {
		w.printf("serves         %s", org)
	}
	for _, name := range r.Imports {
		w.printf("imports        %s", name)
	}
	for _, v := range r.Vectors {
		verdict := "pass"
		if !v.Passed {
			verdict = "FAIL"
		}
		w.printf("%s           %s, %v%s", verdict, v.Name, micros(v.Micros), after(": ", v.Detail))
	}
	for _, warning := range r.Warnings {
		w.printf("warning        %s", warning)
	}
	if r.OK {
		w.printf("ok: it may go live")
	} else {
		w.printf("refused: %s", r.Refused)
	}
	return w.err
}

// printer prints lines until one cannot be printed.
type printer struct {
	to  io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.to, format+"\n", args...)
	}
}

func after(separator, text string) string {
	if text == "" {
		return ""
	}
	return separator + text
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// size is n bytes in the unit that leaves a number people can read.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%d bytes", n)
	}
}

// errNoModule is what verify says of a module that cannot be asked.
var errNoModule = errors.New("the module does not load; cordon plugin check says why")
