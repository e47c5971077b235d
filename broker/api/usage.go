package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// TrafficObject is what went over the connections of an organisation, in bytes.
type TrafficObject struct {
	Start   string       `json:"start" format:"date"`
	End     string       `json:"end" format:"date"`
	Average float64      `json:"average" doc:"For each day from start to end."`
	Total   uint64       `json:"total"`
	Days    []TrafficDay `json:"days,omitempty" nullable:"false" doc:"Days with traffic, where detail was asked for."`
}

// TrafficDay is the traffic of one day.
type TrafficDay struct {
	Date  string `json:"date" format:"date"`
	Total uint64 `json:"total"`
}

// ServiceStatus is how the parts of the service are, by the name of the place.
type ServiceStatus map[string]PartStatus

// PartStatus is green, orange or red for each part.
type PartStatus struct {
	Dashboard  string `json:"dashboard" enum:"green,orange,red"`
	Messaging  string `json:"messaging" enum:"green,orange,red"`
	ThirdParty string `json:"thirdParty" enum:"green,orange,red"`
}

// maxUsageDays is the longest time that usage is asked for, in days.
const maxUsageDays = 366 * 5

func (a *API) usageRoutes(s *surface) {
	handle(s, operation{
		method: "GET", path: "/usage/data-traffic", id: "readTraffic", summary: "Bytes over the connections of the organisation, in both directions",
		status: http.StatusOK, queries: []parameter{
			{"start", "A year, a month or a day: 2026, 2026-11 or 2026-11-22. This month, unless given."},
			{"end", "Likewise; its last day counts. That of the start, unless given."},
			{"detail", "true for each day of its own."},
		},
	}, a.traffic)
}

func (a *API) serviceRoutes(s *surface) {
	for _, gone := range []struct{ path, id string }{
		{"/usage/active-devices", "readActiveDevices"}, {"/usage/historical-data", "readHistoricalData"},
	} {
		handle(s, operation{
			method: "GET", path: gone.path, id: gone.id, summary: "Gone: the platform withdrew it",
			status: http.StatusOK,
		}, func(context.Context, *call, *none) (none, error) {
			return none{}, &fault{status: http.StatusGone, message: "the platform withdrew this resource"}
		})
	}
	handle(s, operation{
		method: "GET", path: "/service-status", id: "readServiceStatus", summary: "How the service is",
		status: http.StatusOK,
	}, a.serviceStatus)
}

func (a *API) serviceStatus(context.Context, *call, *none) (ServiceStatus, error) {
	status := PartStatus{Dashboard: "green", Messaging: "green", ThirdParty: "green"}
	if a.ready() != nil {
		status.Messaging = "orange"
	}
	return ServiceStatus{"local": status}, nil
}

// period reads a year, a month or a day: when it begins and when its last day does.
func period(field, text string) (first, last time.Time, err error) {
	for _, form := range []struct {
		layout              string
		years, months, days int
	}{{"2006", 1, 0, 0}, {"2006-01", 0, 1, 0}, {time.DateOnly, 0, 0, 1}} {
		if t, err := time.Parse(form.layout, text); err == nil {
			return t, t.AddDate(form.years, form.months, form.days).AddDate(0, 0, -1), nil
		}
	}
	return first, last, invalid(field, "must be a year, a month or a day, such as 2026, 2026-11 or 2026-11-22")
}

// traffic sums up whole days in UTC. Without an end it is that of the start; with
// neither, this month.
func (a *API) traffic(ctx context.Context, c *call, _ *none) (TrafficObject, error) {
	now := a.now().UTC()
	start, end := c.query.Get("start"), c.query.Get("end")
	if start == "" && end == "" {
		start, end = now.Format("2006-01"), now.Format(time.DateOnly)
	}
	if start == "" {
		start = end
	}
	if end == "" {
		end = start
	}
	first, _, startErr := period("start", start)
	_, last, endErr := period("end", end)
	detail, detailErr := lenient("detail", c.query.Get("detail"))
	if err := errors.Join(startErr, endErr, detailErr); err != nil {
		return TrafficObject{}, err
	}
	days := int(last.Sub(first)/(24*time.Hour)) + 1
	if days < 1 || days > maxUsageDays {
		return TrafficObject{}, invalid("end", "must not lie before start, nor more than five years after it")
	}
	t, err := a.tenant(ctx, c)
	if err != nil {
		return TrafficObject{}, err
	}
	found, err := a.ledger.Traffic(t, first, last)
	o := TrafficObject{Start: first.Format(time.DateOnly), End: last.Format(time.DateOnly)}
	for _, day := range found {
		o.Total += day.Bytes
		if detail {
			o.Days = append(o.Days, TrafficDay{day.Date, day.Bytes})
		}
	}
	o.Average = float64(o.Total) / float64(days)
	return o, err
}

// lenient reads yes or no as the clients of the platform write it.
func lenient(field, text string) (bool, error) {
	switch strings.ToLower(text) {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	default:
		return false, invalid(field, "must be true or false")
	}
}
