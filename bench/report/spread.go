package report

import (
	"math"
	"slices"
	"strconv"
)

// Spread is one figure of several repetitions.
type Spread struct{ Median, Min, Max float64 }

// SpreadOf sums values up; of an even number the median is the mean of the
// middle two. There is no Spread of nothing: it is all NaN.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// String is the median, and the range if there is one.
func (s Spread) String() string {
	median, lowest, highest := Number(s.Median), Number(s.Min), Number(s.Max)
	if lowest == highest {
		return median
	}
	return median + " (" + lowest + "…" + highest + ")"
}

// Number writes x with three significant digits, whole thousands apart.
func Number(x float64) string {
	switch size := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "–"
	case size >= 1000:
		digits := math.Pow(10, math.Floor(math.Log10(size))-2)
		return thousands(int64(math.Round(x/digits) * digits))
	case size >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

// thousands puts a narrow space between groups of three digits.
func thousands(n int64) string {
	if n < 0 {
		return "-" + thousands(-n)
	}
	text := strconv.FormatInt(n, 10)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "\u202f" + text[at:]
	}
	return text
}
