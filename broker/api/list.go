package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cordon-mq/cordon/broker/registry"
	"github.com/cordon-mq/cordon/policy"
)

// Bounds of _limit.
const (
	defaultLimit = 25
	maxLimit     = 100
)

// List is one page. The last page has no bookmark.
type List[T any] struct {
	Results  []T    `json:"results" nullable:"false"`
	Bookmark string `json:"bookmark,omitempty" doc:"Goes into _bookmark for the next page; absent on the last one."`
	Meta     Meta   `json:"meta"`
}

// Meta is about the whole list. The number of its entries is not kept, so it
// would cost a walk over all of them, and is left out.
type Meta struct {
	TotalRows *int `json:"total_rows,omitempty" doc:"Number of entries on all pages, where known."`
}

// page reads _limit and _bookmark.
func (c *call) page() (registry.Page, error) { return c.pageOf(defaultLimit, maxLimit) }

func (c *call) pageOf(usual, most int) (registry.Page, error) {
	p := registry.Page{After: c.query.Get("_bookmark"), Limit: usual}
	if text := c.query.Get("_limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > most {
			return p, invalid("_limit", "must be 1 to "+strconv.Itoa(most))
		}
		p.Limit = n
	}
	return p, nil
}

// listed makes the answer of a list from what the registry found.
func listed[Record, T any](records []Record, next string, err error, show func(*Record) T) (List[T], error) {
	if err != nil {
		var e *policy.Error
		if errors.As(err, &e) && e.Kind == policy.KindInvalid {
			err = invalid("_bookmark", "must be the bookmark of the page before")
		}
		return List[T]{}, err
	}
	l := List[T]{Results: make([]T, 0, len(records)), Bookmark: next}
	for i := range records {
		l.Results = append(l.Results, show(&records[i]))
	}
	return l, nil
}

// timestamp is a moment in ISO 8601, in UTC with milliseconds.
type timestamp struct{ time.Time }

const timeFormat = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes the moment as a string.
func (t timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeFormat) + `"`), nil
}

// Schema describes it for the OpenAPI document.
func (timestamp) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}
