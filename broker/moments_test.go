package broker_test

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"
)

// moments are all at which authorisation has to be checked. Each is shown by
// tests whose names begin with its number, or says what it comes with.
var moments = []struct {
	number int
	moment string
	due    string // the feature that brings it; empty: it is shown
	shown  string // the test that shows it where its name has no number
}{
	{1, "a credential is refused", "", ""},
	{2, "a connect is denied", "", ""},
	{3, "a will, at CONNECT", "", ""},
	{4, "a will, when it fires", "", ""},
	{5, "a publish", "", ""},
	{6, "a publish is denied", "", ""},
	{7, "a publish over HTTP or from the console", "", ""},
	{8, "a subscribe", "", ""},
	{9, "a live delivery", "", ""},
	{10, "a retained message, on subscribe", "", ""},
	{11, "a queued message, on return", "", ""},
	{12, "a message in flight, sent again", "", ""},
	{13, "a shared subscription chooses a member", "", ""},
	{14, "a session is resumed", "", ""},
	{15, "stored subscriptions, on resume", "", ""},
	{16, "a restart of the broker", "", ""},
	{17, "a policy is activated", "", ""},
	{18, "a credential is revoked or disabled", "", ""},
	{19, "a principal or a decision expires", "", ""},
	{20, "a Response Topic", "", ""},
	{21, "an UNSUBSCRIBE", "", ""},
	{22, "a take-over", "", ""},
	{23, "a REST or console call", "", "api/TestEveryRouteIsDecided"},
	{24, "a registry record is edited", "", ""},
	{25, "a namesake is created after a deletion", "", ""},
	{26, "a client authenticates again", "", ""},
	{27, "a device is registered on demand", "", ""},
	{28, "a client is handed a secret of its own", "", ""},
}

func TestMomentsAreShown(t *testing.T) {
	t.Parallel()
	tests := map[string]bool{}
	for _, dir := range []string{".", "api"} {
		for _, file := range sources(t, dir, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok {
					tests[strings.TrimPrefix(dir+"/", "./")+f.Name.Name] = true
				}
			}
		}
	}
	names := slices.Sorted(maps.Keys(tests))
	for i, m := range moments {
		if m.number != i+1 {
			t.Fatalf("moment %d is in place %d", m.number, i+1)
		}
		prefix := fmt.Sprintf("TestA%d", m.number)
		shown := slices.ContainsFunc(names, func(name string) bool {
			rest, ok := strings.CutPrefix(name, prefix)
			return ok && (rest == "" || rest[0] < '0' || rest[0] > '9')
		})
		switch {
		case m.shown != "" && !tests[m.shown]:
			t.Errorf("A%d, %s: %s does not exist", m.number, m.moment, m.shown)
		case m.shown != "":
		case m.due == "" && !shown:
			t.Errorf("A%d, %s: no test is named %s…", m.number, m.moment, prefix)
		case m.due != "" && shown:
			t.Errorf("A%d, %s: it is shown, and the table says that it comes with %s", m.number, m.moment, m.due)
		}
	}
}
