package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// manyDevices adds x00, x01 and so on of type sensor; what is asked for lies in
// their metadata.
func (w *world) manyDevices(n int) {
	w.t.Helper()
	for i := range n {
		_, _, err := w.registry.CreateDevice(w.t.Context(), w.acme.Organisation.ID, registry.Device{
			Type: "sensor", ID: policy.ID(fmt.Sprintf("x%02d", i)),
			Metadata: map[string]any{
				"floor": i % 3, "hall": fmt.Sprint("h", i%2), "spare": i%2 == 0, "a.b": fmt.Sprint(i),
				"place": map[string]any{"city": map[string]any{"name": fmt.Sprint("c", i%4)}, "list": []any{"x"}, "none": nil},
			},
		}, plugins.Secret{})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestDevicesByMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.manyDevices(12)
	for _, test := range []struct{ query, want string }{
		{"metadata.floor=2", "x02 x05 x08 x11"},
		{"metadata.floor=2&metadata.hall=h1", "x05 x11"},
		{"metadata.spare=true&metadata.place.city.name=c2", "x02 x06 x10"},
		{"metadata.a.b=7", "x07"},
		{"metadata.floor=2&deviceId=x08", "x08"},
		{"metadata.floor=2&_sort=-deviceId", "x11 x08 x05 x02"},
		{"metadata.place.list=x", ""},
		{"metadata.place.city=c2", ""},
		{"metadata.place.none=null", ""},
		{"metadata.place.none=", ""},
		{"metadata.absent=", ""},
		{"metadata.floor.deeper=2", ""},
		{"status.alert.enabled=true", ""},
	} {
		for _, list := range []string{"/bulk/devices?typeId=sensor&", "/device/types/sensor/devices?", "/authorization/devices?_limit=3&"} {
			if got := strings.Join(w.all(t, list+test.query), " "); got != test.want {
				t.Errorf("%s%s = %q, want %q", list, test.query, got, test.want)
			}
		}
	}
	for _, nothing := range []string{"typeId=absent", "typeId=a%2Fb", "typeId="} {
		if got := w.all(t, "/bulk/devices?"+nothing); len(got) != 0 {
			t.Errorf("%s = %v", nothing, got)
		}
	}
}

// Whoever misspells a filter is told, instead of being shown everything.
func TestStrangersInQueries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	many := "metadata.n=1"
	for i := range maxOfFamily {
		many += fmt.Sprintf("&metadata.n%d=1", i)
	}
	for query, property := range map[string]string{
		"deviceid=d1": "deviceid", "deviceInfo.colour=red": "deviceInfo.colour", "metadata=1": "metadata", "metadata.=1": "metadata.",
		"_filter=x": "_filter", "_facets=x": "_facets", "z=1&a=1": "a", "_sort=metadata.floor": "_sort", many: "metadata.{name}",
	} {
		got := w.call("GET", "/bulk/devices?"+query, "", http.StatusBadRequest)
		got.wantError(t, http.StatusBadRequest, "CUDRS0007E")
		if !strings.Contains(got.text, `"properties":["`+property+`"]`) {
			t.Errorf("%s: %s does not name %s", query, got.text, property)
		}
	}
	w.call("GET", "/device/types?deviceId=x", "", http.StatusBadRequest)
	w.call("GET", "/authorization/apikeys?unknown=x", "", http.StatusOK) // a list that nothing restricts
}

// A bookmark is good for the question that it came with, and for no other.
func TestBookmarksAreOfOneQuestion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet()
	w.call("POST", "/device/types", `{"id":"meter"}`, http.StatusCreated)
	w.manyDevices(12)
	questions := []string{
		"/bulk/devices?", "/bulk/devices?metadata.hall=h1", "/bulk/devices?metadata.hall=h0", "/bulk/devices?metadata.floor=1", "/bulk/devices?typeId=sensor",
		"/bulk/devices?_sort=-deviceId", "/bulk/devices?_sort=deviceId", "/bulk/devices?_sort=deviceId&metadata.hall=h1",
		"/device/types/sensor/devices?_sort=deviceId", "/device/types/sensor/devices?metadata.hall=h1",
	}
	for _, from := range questions {
		bookmark, ok := w.call("GET", from+"&_limit=2", "", http.StatusOK).object(t)["bookmark"].(string)
		if !ok {
			t.Fatalf("%s: no bookmark", from)
		}
		for _, to := range questions {
			want := http.StatusBadRequest
			if to == from {
				want = http.StatusOK
			}
			w.call("GET", to+"&_limit=3&_bookmark="+url.QueryEscape(bookmark), "", want)
		}
		for _, bad := range []string{bookmark + "!", "." + bookmark, bookmark[1:], "AAAAAAAAAAAA." + bookmark} {
			w.call("GET", from+"&_bookmark="+url.QueryEscape(bad), "", http.StatusBadRequest)
		}
	}
}

// A page of a restricted list looks at so many records and no more.
func TestRestrictedListsAreBounded(t *testing.T) {
	t.Parallel()
	looked := 0
	fetch := func(p registry.Page) ([]registry.Device, string, error) {
		from := len(p.After)
		looked += p.Limit
		list := make([]registry.Device, p.Limit)
		return list, strings.Repeat("x", min(from+1, 1<<20)), nil
	}
	l, err := filtered(registry.Page{Limit: 5}, fetch, func(*registry.Device) bool { return false }, func(d *registry.Device) string { return string(d.ID) })
	if err != nil || len(l.Results) != 0 || l.Bookmark == "" || looked != maxLooked {
		t.Errorf("%d results after %d records, bookmark %t, %v", len(l.Results), looked, l.Bookmark != "", err)
	}
	looked = 0
	_, err = sorted(registry.Page{Limit: 5}, fetch, nil, by(func(d *registry.Device) string { return string(d.ID) }), func(d *registry.Device) string { return string(d.ID) })
	if policy.KindOf(err) != policy.KindInvalid || looked > maxSorted+1000 {
		t.Errorf("sorted %d records: %v", looked, err)
	}
}
