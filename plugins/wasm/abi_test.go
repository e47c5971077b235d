package wasm

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// tables reads the tables of a page: the cells of each row, by heading.
func tables(t *testing.T, path string) map[string][][]string {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all, heading := map[string][][]string{}, ""
	for _, line := range strings.Split(string(page), "\n") {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.Trim(h, "`")
		}
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") {
			continue
		}
		line = strings.ReplaceAll(line, `\|`, "\x00")
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		for i := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "\x00", "|")
		}
		all[heading] = append(all[heading], cells)
	}
	for heading := range all {
		all[heading] = all[heading][1:] // what the columns are called
	}
	return all
}

func code(cell string) string { return strings.Trim(cell, "`") }

// The page a plugin's author reads says what the code does.
func TestDocumentExports(t *testing.T) {
	t.Parallel()
	got := map[string]string{exportMemory: "memory yes"}
	for _, e := range exports() {
		needed := "no"
		if e.needed {
			needed = "yes"
		}
		got[e.name] = e.signature.String() + " " + needed
	}
	said := map[string]string{}
	for _, row := range tables(t, "ABI.md")["Exports"] {
		said[code(row[0])] = code(row[1]) + " " + row[2]
	}
	if !maps.Equal(got, said) {
		t.Errorf("the code has\n%v\nand the page\n%v", got, said)
	}
}

func TestDocumentImports(t *testing.T) {
	t.Parallel()
	got, said := map[string]string{}, map[string]string{}
	for _, f := range imports() {
		if f.module == moduleCordon {
			got[f.name] = f.signature.String()
		}
	}
	for _, row := range tables(t, "ABI.md")["Imports"] {
		said[code(row[0])] = code(row[1])
	}
	if !maps.Equal(got, said) {
		t.Errorf("the code has\n%v\nand the page\n%v", got, said)
	}
	for _, f := range imports() {
		if f.module == moduleEnv && (f.name != "abort" || f.signature.String() != "(i32, i32, i32, i32) -> ()") {
			t.Errorf("%s is not on the page", f)
		}
	}
}

func TestDocumentJSON(t *testing.T) {
	t.Parallel()
	for heading, value := range map[string]any{"Request": request{}, "Answer": answer{}, "Configuration": configuration{}} {
		got, said := map[string]string{}, map[string]string{}
		members(reflect.TypeOf(value), "", got)
		for _, row := range tables(t, "ABI.md")[heading] {
			said[code(row[0])] = row[1]
		}
		if !maps.Equal(got, said) {
			t.Errorf("%s: the code has\n%v\nand the page\n%v", heading, got, said)
		}
	}
}

// members names the members of a JSON object and their types, as the page does.
func members(t reflect.Type, path string, all map[string]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch kind.Kind() {
		case reflect.Bool:
			all[path+name] = "true or false"
		case reflect.Int, reflect.Int64:
			all[path+name] = "number"
		case reflect.String:
			all[path+name] = "text"
		case reflect.Slice:
			all[path+name] = "list of text"
			if kind == reflect.TypeFor[octets]() {
				all[path+name] = "text"
			}
		case reflect.Map:
			all[path+name] = "object"
		case reflect.Struct:
			all[path+name] = "object"
			members(kind, path+name+".", all)
		default:
			all[path+name] = kind.String()
		}
	}
}

func TestDocumentLimits(t *testing.T) {
	t.Parallel()
	l := Limits{}.withDefaults()
	page, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| %d ms |", l.Deadline.Milliseconds()),
		fmt.Sprintf("| %d s |", int(l.StartDeadline/time.Second)),
		fmt.Sprintf("| %d MiB |\n| module", l.MemoryBytes>>20),
		fmt.Sprintf("| %d MiB, of which one function %d KiB |", l.ModuleBytes>>20, functionBytes>>10),
		fmt.Sprintf("a length over %d bytes", operandBytes),
		fmt.Sprintf("at most %d bytes. A member that has nothing", l.InputBytes),
		fmt.Sprintf("at most %d bytes, at most %d levels deep", l.OutputBytes, depthMost),
		fmt.Sprintf("at most %d bytes decoded", stateBytes),
		fmt.Sprintf("at most %d bytes.\n", l.ConfigBytes),
		fmt.Sprintf("at most %d bytes are kept", reasonBytes),
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("ABI.md does not say %q", want)
		}
	}
}

// The fields of the .yaml are those the README has.
func TestDocumentSettings(t *testing.T) {
	t.Parallel()
	var got, said []string
	var walk func(reflect.Type, string)
	walk = func(t reflect.Type, path string) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := path + f.Tag.Get("yaml")
			got = append(got, name)
			kind := f.Type
			switch {
			case kind == reflect.TypeFor[time.Duration]():
			case kind.Kind() == reflect.Struct:
				walk(kind, name+".")
			case kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Struct:
				walk(kind.Elem(), name+"[].")
			case kind.Kind() == reflect.Map && kind.Elem().Kind() == reflect.Struct:
				walk(kind.Elem(), name+".NAME.")
			}
		}
	}
	walk(reflect.TypeFor[settings](), "")
	for _, row := range tables(t, "README.md")["The `.yaml` beside a module"] {
		said = append(said, code(row[0]))
	}
	slices.Sort(got)
	slices.Sort(said)
	if !slices.Equal(got, said) {
		t.Errorf("the code has\n%v\nand the page\n%v", got, said)
	}
}

// The example of the README is accepted.
func TestDocumentExample(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) == 0 {
		t.Fatal("no example")
	}
	for _, b := range blocks {
		if _, err := parseSettings(b[1]); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
	}
}
