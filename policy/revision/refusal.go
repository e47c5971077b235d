package revision

import "fmt"

// Finding is one thing that the gate found wrong with a bundle.
type Finding struct {
	Position string // "file:line:col", or "file", or empty for the bundle as a whole
	Line     string // the source line; may be empty
	Code     string // such as "rego_type_error"
	Message  string
	Hint     string // what to do about it; may be empty
}

// Refusal is the error of a [Check] that says everything that is wrong, for
// whoever shows it to a person.
type Refusal struct{ Findings []Finding } // at least one

// Error is the first finding in one line, and how many more there are.
func (r *Refusal) Error() string {
	f := r.Findings[0]
	s := f.Code + ": " + f.Message
	if f.Position != "" {
		s = f.Position + ": " + s
	}
	if n := len(r.Findings); n > 1 {
		s += fmt.Sprintf(" (and %d more)", n-1)
	}
	return s
}
