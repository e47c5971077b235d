package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

const (
	// maxLooked is how many records one call for a page of a filtered list looks at.
	// Beyond, the page ends early and its bookmark goes on.
	maxLooked = 20000
	// maxSorted is how many records may be sorted for one call.
	maxSorted = 10000
	// stepLooked is how many are read at once.
	stepLooked = 200
)

// order is by what a list may be sorted. The first field of natural is the one
// that it is kept by: it needs no sorting.
type order[R any] struct {
	natural []string
	fields  map[string]func(a, b *R) int
}

// filters are what a list may be restricted to.
type filters[R any] struct {
	// exact are the query parameters that a record has to have the same value of.
	exact map[string]func(*R) string
	// family, where there is one, is how every parameter begins that families finds
	// the value of; a record may have none.
	family   string
	families func(r *R, name string) (string, bool)
}

// maxOfFamily is how many parameters of a family one call may have.
const maxOfFamily = 8

// parameters describe a list that may be restricted so, and sorted in order o.
func (f *filters[R]) parameters(o order[R]) []parameter {
	all := []parameter{sortParameter(o)}
	for _, name := range slices.Sorted(maps.Keys(f.exact)) {
		all = append(all, parameter{name, "Only what has exactly this value."})
	}
	if f.family != "" {
		all = append(all, parameter{f.family + anyName, "Only what has exactly this value there: a text, a number or true or false. Dots lead into objects. At most " + strconv.Itoa(maxOfFamily) + " of them."})
	}
	return all
}

// matcher returns what the query of c asks for, and the names of the parameters;
// nil: everything. A parameter that the list does not know is an error: whoever
// restricts a list would take the whole of it for what they asked for.
func (f *filters[R]) matcher(c *call) (match func(*R) bool, asked []string, err error) {
	if name, found := c.query.stray(); found {
		return nil, nil, invalid(name, "is no parameter of this list")
	}
	type want struct {
		of    func(*R) (string, bool)
		value string
	}
	var wants []want
	for name, of := range f.exact {
		if c.query.Has(name) {
			wants = append(wants, want{func(r *R) (string, bool) { return of(r), true }, c.query.Get(name)})
			asked = append(asked, name)
		}
	}
	if f.family != "" {
		names := c.query.family(f.family)
		if len(names) > maxOfFamily {
			return nil, nil, invalid(f.family+anyName, "may be there "+strconv.Itoa(maxOfFamily)+" times at most")
		}
		for _, name := range names {
			rest := strings.TrimPrefix(name, f.family)
			wants = append(wants, want{func(r *R) (string, bool) { return f.families(r, rest) }, c.query.Get(name)})
			asked = append(asked, name)
		}
	}
	if len(wants) == 0 {
		return nil, nil, nil
	}
	return func(r *R) bool {
		for _, w := range wants {
			if value, ok := w.of(r); !ok || value != w.value {
				return false
			}
		}
		return true
	}, asked, nil
}

// sorting reads _sort: field,-field. Nil: as the list is kept.
func (o *order[R]) sorting(c *call) (func(a, b *R) int, error) {
	text := c.query.Get("_sort")
	if text == "" || text == strings.Join(o.natural, ",") || len(o.natural) > 0 && text == o.natural[0] {
		return nil, nil
	}
	var by []func(a, b *R) int
	for field := range strings.SplitSeq(text, ",") {
		name, descending := strings.CutPrefix(strings.TrimSpace(field), "-")
		compare := o.fields[name]
		if compare == nil || len(by) == 8 {
			return nil, invalid("_sort", "must be made of "+strings.Join(o.names(), ", ")+", each with - before it to turn it round")
		}
		if descending {
			forward := compare
			compare = func(a, b *R) int { return forward(b, a) }
		}
		by = append(by, compare)
	}
	return func(a, b *R) int {
		for _, compare := range by {
			if n := compare(a, b); n != 0 {
				return n
			}
		}
		return 0
	}, nil
}

// sortParameter describes _sort of a list in order o.
func sortParameter[R any](o order[R]) parameter {
	return parameter{"_sort", "Fields with a comma between, each with - before it to turn it round: " + strings.Join(o.names(), ", ") + "."}
}

func (o *order[R]) names() (names []string) {
	for name := range o.fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// listing answers a list: restricted, sorted and in pages.
func listing[R, T any](
	c *call, fetch func(registry.Page) ([]R, string, error), o order[R], f filters[R], show func(*R) T,
) (List[T], error) {
	page, err := c.page()
	if err != nil {
		return List[T]{}, err
	}
	compare, err := o.sorting(c)
	if err != nil {
		return List[T]{}, err
	}
	match, asked, err := f.matcher(c)
	if err != nil {
		return List[T]{}, err
	}
	if match == nil && compare == nil {
		found, next, err := fetch(page)
		return listed(found, next, err, show)
	}
	// A bookmark is good for the same question alone.
	words := []string{c.params("typeId")}
	if compare != nil {
		words = append(words, c.query.Get("_sort"))
	}
	mark := c.query.mark(asked, words...) + "."
	if after, ok := strings.CutPrefix(page.After, mark); ok || page.After == "" {
		page.After = after
	} else {
		return List[T]{}, invalid("_bookmark", "must be the bookmark of the page before, with the same other parameters")
	}
	var l List[T]
	if compare != nil {
		l, err = sorted(page, fetch, match, compare, show)
	} else {
		l, err = filtered(page, fetch, match, show)
	}
	if l.Bookmark != "" {
		l.Bookmark = mark + l.Bookmark
	}
	return l, err
}

// filtered is a page of the records that match, in the order they are kept in.
func filtered[R, T any](page registry.Page, fetch func(registry.Page) ([]R, string, error), match func(*R) bool, show func(*R) T) (List[T], error) {
	var found []R
	for looked := 0; ; {
		step := registry.Page{After: page.After, Limit: stepLooked}
		list, next, err := fetch(step)
		if err != nil {
			return listed[R, T](nil, "", err, show)
		}
		for i := range list {
			if !match(&list[i]) {
				continue
			}
			if found = append(found, list[i]); len(found) < page.Limit {
				continue
			}
			if i+1 < len(list) { // the bookmark of this very record
				step.Limit = i + 1
				_, next, err = fetch(step)
			}
			return listed(found, next, err, show)
		}
		if looked += len(list); next == "" || looked >= maxLooked {
			return listed(found, next, nil, show)
		}
		page.After = next
	}
}

// sorted is a page of the records that match, in another order.
func sorted[R, T any](page registry.Page, fetch func(registry.Page) ([]R, string, error), match func(*R) bool, compare func(a, b *R) int, show func(*R) T) (List[T], error) {
	from, err := parseOffset(page.After)
	if err != nil {
		return List[T]{}, err
	}
	var found []R
	for step, looked := (registry.Page{Limit: 1000}), 0; ; {
		list, next, err := fetch(step)
		if err != nil {
			return listed[R, T](nil, "", err, show)
		}
		for i := range list {
			if match == nil || match(&list[i]) {
				found = append(found, list[i])
			}
		}
		if looked += len(list); looked > maxSorted {
			return List[T]{}, invalid("_sort", "works for lists of at most "+strconv.Itoa(maxSorted)+" entries")
		}
		if step.After = next; next == "" {
			break
		}
	}
	slices.SortStableFunc(found, func(a, b R) int { return compare(&a, &b) })
	total := len(found)
	found = found[min(from, total):]
	next := ""
	if len(found) > page.Limit {
		found, next = found[:page.Limit], makeOffset(from+page.Limit)
	}
	l, err := listed(found, next, nil, show)
	l.Meta.TotalRows = &total
	return l, err
}

// A bookmark in a sorted list is a number of entries.
func makeOffset(n int) string {
	return base64.RawURLEncoding.EncodeToString([]byte("sorted/" + strconv.Itoa(n)))
}

func parseOffset(bookmark string) (int, error) {
	if bookmark == "" {
		return 0, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(bookmark)
	text, ok := strings.CutPrefix(string(raw), "sorted/")
	n, numberErr := strconv.Atoi(text)
	if err != nil || !ok || numberErr != nil || n < 0 || makeOffset(n) != bookmark {
		return 0, invalid("_bookmark", "must be the bookmark of the page before")
	}
	return n, nil
}

// by compares what two records are sorted by.
func by[R any, V cmp.Ordered](of func(*R) V) func(a, b *R) int {
	return func(a, b *R) int { return cmp.Compare(of(a), of(b)) }
}

func byTime[R any](of func(*R) time.Time) func(a, b *R) int {
	return func(a, b *R) int { return of(a).Compare(of(b)) }
}

func typeFilters() filters[registry.DeviceType] {
	return filters[registry.DeviceType]{exact: map[string]func(*registry.DeviceType) string{
		"id":          func(t *registry.DeviceType) string { return string(t.ID) },
		"classId":     func(t *registry.DeviceType) string { return t.ClassID },
		"description": func(t *registry.DeviceType) string { return t.Description },
	}}
}

func typeOrder() order[registry.DeviceType] {
	o := order[registry.DeviceType]{fields: map[string]func(a, b *registry.DeviceType) int{
		"createdDateTime": byTime(func(t *registry.DeviceType) time.Time { return t.Created }),
		"updatedDateTime": byTime(func(t *registry.DeviceType) time.Time { return t.Updated }),
	}}
	for name, of := range typeFilters().exact {
		o.fields[name] = by(of)
	}
	return o
}

// deviceFilters are those of devices.
func deviceFilters() filters[registry.Device] {
	return filters[registry.Device]{family: "metadata.", families: inMetadata, exact: map[string]func(*registry.Device) string{
		"typeId":        func(d *registry.Device) string { return string(d.Type) },
		"deviceId":      func(d *registry.Device) string { return string(d.ID) },
		"classId":       func(d *registry.Device) string { return d.ClassID },
		"gatewayTypeId": func(d *registry.Device) string { return string(d.GatewayType) },
		"gatewayId":     func(d *registry.Device) string { return string(d.GatewayID) },
		"status.alert.enabled": func(d *registry.Device) string {
			return strconv.FormatBool(d.Status.Alert.Enabled)
		},
		"deviceInfo.serialNumber":        func(d *registry.Device) string { return d.DeviceInfo.SerialNumber },
		"deviceInfo.manufacturer":        func(d *registry.Device) string { return d.DeviceInfo.Manufacturer },
		"deviceInfo.model":               func(d *registry.Device) string { return d.DeviceInfo.Model },
		"deviceInfo.deviceClass":         func(d *registry.Device) string { return d.DeviceInfo.DeviceClass },
		"deviceInfo.description":         func(d *registry.Device) string { return d.DeviceInfo.Description },
		"deviceInfo.fwVersion":           func(d *registry.Device) string { return d.DeviceInfo.FwVersion },
		"deviceInfo.hwVersion":           func(d *registry.Device) string { return d.DeviceInfo.HwVersion },
		"deviceInfo.descriptiveLocation": func(d *registry.Device) string { return d.DeviceInfo.DescriptiveLocation },
	}}
}

// inMetadata is the text, number or truth value that lies in the metadata of d under
// name, in which dots lead into objects.
func inMetadata(d *registry.Device, name string) (string, bool) {
	at := d.Metadata
	for {
		if v, ok := at[name]; ok {
			return plain(v)
		}
		first, rest, more := strings.Cut(name, ".")
		if at, _ = at[first].(map[string]any); !more || at == nil {
			return "", false
		}
		name = rest
	}
}

// plain is a value of JSON that is no object, no list and not null, as it is
// written, without quotation marks.
func plain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// typeAsked is the device type that a list of all devices is restricted to; the
// list of that type is shorter.
func (a *API) typeAsked(ctx context.Context, c *call) (typ policy.ID, known bool, err error) {
	if !c.query.Has("typeId") {
		return "", true, nil
	}
	if typ, err = policy.ParseID("typeId", c.query.Get("typeId")); err != nil {
		return "", false, nil //nolint:nilerr // no device has that type
	}
	_, err = a.registry.Type(ctx, c.org, typ)
	if policy.KindOf(err) == policy.KindNotFound {
		return "", false, nil
	}
	return typ, err == nil, err
}

// devices fetches the devices of the organisation that the query of c may be about.
func (a *API) devices(ctx context.Context, c *call) (func(registry.Page) ([]registry.Device, string, error), error) {
	typ, known, err := a.typeAsked(ctx, c)
	return func(page registry.Page) ([]registry.Device, string, error) {
		if !known {
			return nil, "", nil
		}
		return a.devicesFor(ctx, c, typ, page)
	}, err
}

// deviceParameters describe a list of devices, and typeParameters one of types.
func deviceParameters() []parameter {
	f := deviceFilters()
	return f.parameters(deviceOrder())
}

func typeParameters() []parameter {
	f := typeFilters()
	return f.parameters(typeOrder())
}

func deviceOrder() order[registry.Device] {
	o := order[registry.Device]{fields: map[string]func(a, b *registry.Device) int{
		"registration.date": byTime(func(d *registry.Device) time.Time { return d.Created }),
	}}
	for name, of := range deviceFilters().exact {
		o.fields[name] = by(of)
	}
	return o
}
