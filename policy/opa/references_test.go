package opa

import (
	"context"
	"strings"
	"testing"
	"testing/fstest"
)

// What is spelt in two ways is no error of the language, and is told.
func TestWarningsOfReferences(t *testing.T) {
	t.Parallel()
	const publish = "cordon/publish/publish.rego"
	for name, test := range map[string]struct {
		files map[string]string // beside a publish package that allows
		want  string            // of each warning: position, code, what else it says; "" for none
	}{
		"all is there": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publish\n\n_a := data.cordon.table[input.topic]\n\n_b := data.cordon.table.x.y.z\n\n_c := data.cordon.names.list.anything\n\n_d := data.cordon.publish.deny\n\n_e := data.cordon.names[input.topic]\n\n_f := data.cordon.names.f(1)\n",
			"cordon/table/data.json":   `{"x": {"y": 1}}`, "cordon/names/n.rego": "package cordon.names\n\nlist[input.topic] := 1\n\nf(x) := x\n",
		}, ""},
		"data": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publish\n\n_a if input.topic in data.cordon.tabel.x\n", "cordon/table/data.json": `{"x": ["y"]}`,
		}, "cordon/publish/more.rego:3:22 undefined_data data.cordon.tabel is defined nowhere; did you mean table?"},
		"below data": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publish\n\nimport data.cordon.table as t\n\n_a if input.topic in t.names\n", "cordon/table/data.json": `{"name": ["y"]}`,
		}, "cordon/publish/more.rego:5:22 undefined_data data.cordon.table.names is defined nowhere; did you mean name?"},
		"a rule of another package": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publish\n\n_a if data.cordon.names.lists\n", "cordon/names/n.rego": "package cordon.names\n\nlist := 1\n",
		}, "cordon/publish/more.rego:3:7 undefined_data data.cordon.names.lists is defined nowhere; did you mean list?"},
		"what with replaces": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publish\n\n_a if _b with data.cordon.absent as 1\n\n_b if input.qos == 1\n",
		}, ""},
		"a package": {map[string]string{
			"cordon/publish/more.rego": "package cordon.publsh\n\ndeny contains \"x\" if input.qos == 1\n",
		}, "cordon/publish/more.rego:1:1 package_unasked nobody asks package cordon.publsh; did you mean cordon.publish?"},
		"a package of helpers": {map[string]string{
			"a.rego": "package helpers.inner\n\nx := data.helpers.other.y\n", "b.rego": "package helpers.other\n\ny := 1\n", "c.rego": "package cordon.connect\n\n_x := data.helpers.inner.x\n",
		}, ""},
		"tests may": {map[string]string{
			"cordon/publish/more_test.rego": "package x_test\n\ntest_a if not data.cordon.absent\n",
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{publish: {Data: []byte(allows)}}
			for name, text := range test.files {
				files[name] = &fstest.MapFile{Data: []byte(text)}
			}
			b, report := Load(context.Background(), files, builtinSchemas())
			if b == nil {
				t.Fatal(report.Err())
			}
			var got []string
			for _, p := range report.Warnings {
				if p.Code == CodeUndefined || p.Code == CodeUnasked {
					said, _, _ := strings.Cut(p.Message, " in the bundle")
					hint, _, _ := strings.Cut(p.Hint, " there are")
					got = append(got, p.Position+" "+p.Code+" "+said+"; "+hint)
				}
			}
			if text := strings.Join(got, "\n"); text != test.want {
				t.Errorf("warns\n%s\nwant\n%s", text, test.want)
			}
		})
	}
}

// What authors do wrong most often has a place and says what to do.
func TestWhatHelpsAuthors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ file, text, position, hint string }{
		"not closed":          {"a.rego", "package cordon.publish\n\ndecision := {\"allow\": true", "a.rego:3:26", "not closed"},
		"with in a head":      {"a_test.rego", "package a_test\n\nf(x) := data.a.b with input as x\n", "a_test.rego:3:1", "answer := … with input as …"},
		"no package":          {"a.rego", "decision := {\"allow\": true}\n", "a.rego:1:1", "package cordon.publish"},
		"Latin 1":             {"a.rego", "package cordon.publish\n\n# caf\xe9\n", "a.rego:3:1", "UTF-8"},
		"UTF-16":              {"a.rego", "\xff\xfep\x00a\x00", "a.rego:1:1", "UTF-8"},
		"unknown built-in":    {"a.rego", "package cordon.publish\n\ndecision := {\"allow\": startwith(input.topic, \"x\")}\n", "a.rego:3:23", "did you mean startswith?"},
		"no value":            {"a.rego", "package cordon.publish\n\ndecision := {\"allow\": false} if not name in input.levels\n", "a.rego:3:33", "gives name a value"},
		"a test":              {"a_test.rego", "package a_test\n\ntest_x if {\n\ty := 1\n\ty == 2\n}\n", "a_test.rego:3:1", "a_test.rego:5:2: y == 2"},
		"a mark before data":  {"data.json", "\xef\xbb\xbf{}", "data.json:1:1", "byte order mark"},
		"tabs in YAML":        {"data.yaml", "a:\n\t- b\n", "data.yaml:2:1", "spaces, not tabs"},
		"Latin 1 data":        {"data.yaml", "a: [caf\xe9\n", "data.yaml:1:4", "UTF-8"},
		"a comma too much":    {"data.json", "{\"a\": [1,]}", "data.json:1:10", ""},
		"a line of megabytes": {"data.json", "[" + strings.Repeat("1,", 100_000) + "]", "data.json:1:200002", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, report := Load(context.Background(), fstest.MapFS{test.file: {Data: []byte(test.text)}}, builtinSchemas())
			if len(report.Problems) != 1 {
				t.Fatalf("%+v", report.Problems)
			}
			p := report.Problems[0]
			if p.Position != test.position || !strings.Contains(p.Hint, test.hint) || len(p.Line) > 2*maxLine || strings.ContainsRune(p.Message, '\n') {
				t.Errorf("%+v", p)
			}
		})
	}
}
