package api

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-mq/cordon/broker/registry"
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

// filters are what a list may be restricted to, each by the exact value of a query
// parameter.
type filters[R any] map[string]func(*R) string

// matcher returns what the query of c asks for; nil: everything.
func (f filters[R]) matcher(c *call) func(*R) bool {
	type want struct {
		of    func(*R) string
		value string
	}
	var wants []want
	for name, of := range f {
		if c.query.Has(name) {
			wants = append(wants, want{of, c.query.Get(name)})
		}
	}
	if len(wants) == 0 {
		return nil
	}
	return func(r *R) bool {
		for _, w := range wants {
			if w.of(r) != w.value {
				return false
			}
		}
		return true
	}
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
	match := f.matcher(c)
	switch {
	case compare != nil:
		return sorted(page, fetch, match, compare, show)
	case match != nil:
		return filtered(page, fetch, match, show)
	default:
		found, next, err := fetch(page)
		return listed(found, next, err, show)
	}
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
	return filters[registry.DeviceType]{
		"id":          func(t *registry.DeviceType) string { return string(t.ID) },
		"classId":     func(t *registry.DeviceType) string { return t.ClassID },
		"description": func(t *registry.DeviceType) string { return t.Description },
	}
}

func typeOrder() order[registry.DeviceType] {
	o := order[registry.DeviceType]{fields: map[string]func(a, b *registry.DeviceType) int{
		"createdDateTime": byTime(func(t *registry.DeviceType) time.Time { return t.Created }),
		"updatedDateTime": byTime(func(t *registry.DeviceType) time.Time { return t.Updated }),
	}}
	for name, of := range typeFilters() {
		o.fields[name] = by(of)
	}
	return o
}

// deviceFilters are those of devices; typed says whether the list has several
// types.
func deviceFilters(typed bool) filters[registry.Device] {
	f := filters[registry.Device]{
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
	}
	if typed {
		f["typeId"] = func(d *registry.Device) string { return string(d.Type) }
	}
	return f
}

func deviceOrder() order[registry.Device] {
	o := order[registry.Device]{fields: map[string]func(a, b *registry.Device) int{
		"registration.date": byTime(func(d *registry.Device) time.Time { return d.Created }),
	}}
	for name, of := range deviceFilters(true) {
		o.fields[name] = by(of)
	}
	return o
}
