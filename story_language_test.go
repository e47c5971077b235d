package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cordon-mq/cordon/plugins/scaffold"
	"github.com/cordon-mq/cordon/plugins/scaffold/scaffoldtest"
)

// TestPluginLanguages tells the story of broker/testdata/language once for each
// language that plugins are written in; $LANGUAGE is its name.
func TestPluginLanguages(t *testing.T) {
	t.Parallel()
	for _, lang := range scaffold.Langs() {
		t.Run(lang.String(), func(t *testing.T) {
			t.Parallel()
			tools, missing := scaffoldtest.Tools(t, lang)
			if missing != "" {
				t.Skip(missing)
			}
			p := stories()
			p.Files = []string{filepath.Join("broker", "testdata", "language", "plugin.txtar")}
			p.Setup = func(env *testscript.Env) error {
				env.Setenv("LANGUAGE", lang.String())
				env.Setenv("HOME", os.Getenv("HOME")) // where a compiler may be kept
				if tools != "" {
					env.Setenv("PATH", tools+string(os.PathListSeparator)+env.Getenv("PATH"))
				}
				return setUpStory(env)
			}
			testscript.Run(t, p)
		})
	}
}
