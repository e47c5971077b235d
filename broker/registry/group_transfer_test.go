package registry

import (
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

// Groups, who is in them and who reaches them move with the organisation.
func TestGroupsMove(t *testing.T) {
	t.Parallel()
	onEachStore(t, func(t *testing.T, f *fixture) {
		token := f.hubFleet()
		d1 := sensor("d1")
		f.ok(f.register(g1, d1))
		north, gone := f.group("north"), f.group("gone")
		f.ok(f.put(north, d1))
		f.ok(f.put(gone, d1))
		key, keyToken := f.apiKey(acme, APIKey{Reach: Reach{Groups: RefsTo(north, gone)}})
		f.ok(f.DeleteGroup(t.Context(), acme, gone))
		file := f.export(acme, ExportOptions{})
		moved := func(t *testing.T, o ImportOptions) *fixture {
			there := newFixture(t, stores[0].open(t))
			if o.Merge {
				there.organisation(acme)
			}
			must[Moved](t)(there.load(file, o))
			there.reaches("the gateway", there.gateway(token), hubGroup)
			there.reaches("the application", there.app(key, keyToken), north)
			there.isIn(d1, hubGroup, north)
			there.has([]string{hubGroup}, "", Page{}, "hub/g1 sensor/d1")
			checkWhole(t, there.Registry, acme, 2)
			return there
		}
		t.Run("import", func(t *testing.T) {
			there := moved(t, ImportOptions{})
			if back := there.export(acme, ExportOptions{}); back != file {
				t.Errorf("exported\n%s\nimported\n%s", back, file)
			}
		})
		t.Run("merge", func(t *testing.T) { moved(t, ImportOptions{Merge: true}) })
	})
}

// A file cannot have groups that no call could make.
func TestImportedGroups(t *testing.T) {
	t.Parallel()
	f := newFixture(t, stores[0].open(t))
	line := func(kind, record string) string {
		return `{"kind":"` + kind + `","record":{` + record + `,"created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}}`
	}
	hub := line("device_type", `"id":"hub","classId":"Gateway"`)
	gateway := func(more string) string {
		return line("device", `"typeId":"hub","deviceId":"g1","classId":"Gateway"`+more)
	}
	group := func(id string) string { return line("group", `"id":"`+id+`"`) }
	for name, lines := range map[string][]string{
		"a default group of nobody":     {group(hubGroup)},
		"one of another organisation":   {hub, gateway(""), group("gw_def_res_grp:other1:hub:g1")},
		"a name that is none":           {group("a/b")},
		"groups without a role":         {hub, gateway(`,"reach":{"restricted":true,"groups":["x"]}`)},
		"groups of whoever reaches all": {hub, gateway(`,"roles":["A"],"reach":{"groups":["x"]}`)},
		"a reference that is none":      {hub, gateway(`,"groups":["a@b"]`)},
		"too many groups of a device":   {hub, gateway(`,"groups":["1","2","3","4","5","6","7","8","9","10","11"]`)},
		"roles of a device, no gateway": {fileType, strings.Replace(fileDevice, `"classId"`, `"roles":["A"],"classId"`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.load(seal(append([]string{fileHead, fileOrg}, lines...)...), ImportOptions{})
			refused(t, err, policy.KindInvalid)
		})
	}

	// A reference to a group that the file does not have is one to nothing, whatever
	// is made later.
	file := seal(fileHead, fileOrg, hub, gateway(`,"groups":["x"],"roles":["A"],"reach":{"restricted":true,"groups":["x"]}`))
	must[Moved](t)(f.load(file, ImportOptions{}))
	f.isIn(g1)
}
