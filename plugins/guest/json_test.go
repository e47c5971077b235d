package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want any
	}{
		{`null`, nil},
		{` true `, true},
		{`"a\u00e9\ud83d\ude00\n\/\"\\"`, "aé😀\n/\"\\"},
		{`"plain é"`, "plain é"},
		{`-0.5e+3`, Number("-0.5e+3")},
		{`12345678901234567890`, Number("12345678901234567890")},
		{`[]`, []any{}},
		{`{}`, map[string]any{}},
		{"\t[1,\r\n[\"x\"] ]", []any{Number("1"), []any{"x"}}},
		{`{"a":{"b":[false]},"A":""}`, map[string]any{"a": map[string]any{"b": []any{false}}, "A": ""}},
		{strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), nest(MaxDepth)},
	} {
		if got, err := ParseJSON([]byte(tt.text)); err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %#v, %v; want %#v", tt.text, got, err, tt.want)
		}
	}
}

func nest(depth int) any {
	if depth == 1 {
		return []any{}
	}
	return []any{nest(depth - 1)}
}

func TestParseJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want error
	}{
		{``, ErrSyntax},
		{`nul`, ErrSyntax},
		{`True`, ErrSyntax},
		{`01`, ErrSyntax},
		{`+1`, ErrSyntax},
		{`.5`, ErrSyntax},
		{`1.`, ErrSyntax},
		{`1e`, ErrSyntax},
		{`-`, ErrSyntax},
		{`NaN`, ErrSyntax},
		{`'a'`, ErrSyntax},
		{`"a`, ErrSyntax},
		{`"\x41"`, ErrSyntax},
		{`"\`, ErrSyntax},
		{`"\u12`, ErrSyntax},
		{`"\u12g4"`, ErrSyntax},
		{"\"a\x00b\"", ErrSyntax},
		{"\"\\n\x1fb\"", ErrSyntax},
		{"\"\xff\"", ErrSyntax},
		{`"\ud83d"`, ErrSyntax},
		{`"\ud83dx"`, ErrSyntax},
		{`"\ud83d\u0041"`, ErrSyntax},
		{`"\ude00\ud83d"`, ErrSyntax},
		{`[1,]`, ErrSyntax},
		{`[1 2]`, ErrSyntax},
		{`[`, ErrSyntax},
		{`{"a":1,}`, ErrSyntax},
		{`{"a"}`, ErrSyntax},
		{`{a:1}`, ErrSyntax},
		{`{"a":1`, ErrSyntax},
		{`{} {}`, ErrSyntax},
		{"\ufeff{}", ErrSyntax},
		{`{"a":1,"a":1}`, ErrDuplicate},
		{`{"a":1,"\u0061":2}`, ErrDuplicate},
		{`[{"x":{"a":1,"b":2,"a":3}}]`, ErrDuplicate},
		{nested(MaxDepth + 1), ErrDepth},
		{strings.Repeat("[", 1<<20), ErrDepth},
		{strings.Repeat(`{"a":`, 1<<16), ErrDepth},
	} {
		if got, err := ParseJSON([]byte(tt.text)); !errors.Is(err, tt.want) || got != nil {
			t.Errorf("%.40q: %#v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestParseObjectWantsAnObject(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`[]`, `null`, `"{}"`, `1`} {
		if got, err := ParseObject([]byte(text)); !errors.Is(err, ErrSyntax) || got != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		number     Number
		i          int64
		isInt      bool
		f          float64
		isInFloats bool
	}{
		{"12", 12, true, 12, true},
		{"-3", -3, true, -3, true},
		{"1.5", 0, false, 1.5, true},
		{"1e3", 0, false, 1000, true},
		{"9223372036854775808", 0, false, 9223372036854775808, true},
		{"1e400", 0, false, 0, false},
		{"", 0, false, 0, false},
	} {
		i, isInt := tt.number.Int64()
		f, isInFloats := tt.number.Float64()
		if isInt != tt.isInt || isInt && i != tt.i || isInFloats != tt.isInFloats || isInFloats && f != tt.f {
			t.Errorf("%s: %d %v, %g %v", tt.number, i, isInt, f, isInFloats)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value any
		want  string
	}{
		{nil, `null`},
		{map[string]any{"b": true, "a": []any{Number("1.50"), "x"}}, `{"a":[1.50,"x"],"b":true}`},
		{[]string{"\x00\"\\\n é \xff"}, "[\"\\u0000\\\"\\\\\\u000a é \ufffd\"]"},
		{[]any{1, int64(-2), uint64(3)}, `[1,-2,3]`},
	} {
		if got, err := appendJSON(nil, tt.value, 0); err != nil || string(got) != tt.want {
			t.Errorf("%#v: %s, %v; want %s", tt.value, got, err, tt.want)
		}
	}
	deep := nest(MaxDepth + 5)
	for _, value := range []any{1.5, Number("x"), Number(`{"a":1}`), Number(""), []any{struct{}{}}, map[string]any{"a": []byte{1}}, deep} {
		if got, err := appendJSON(nil, value, 0); err == nil {
			t.Errorf("%#v was written as %s", value, got)
		}
	}
}

// Strings are read eight bytes at a time: what ends that may stand anywhere.
func TestStringsOfAllLengths(t *testing.T) {
	t.Parallel()
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				inside := []byte(strings.Repeat("a", length))
				inside[at] = byte(c)
				text := append(append([]byte{'"'}, inside...), '"')
				got, err := ParseJSON(text)
				good := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
				if good != (err == nil) || good && got != string(inside) {
					t.Fatalf("%q: %#v, %v", text, got, err)
				}
				if written := appendString(nil, string(inside)); utf8.Valid(inside) {
					var back string
					if err := json.Unmarshal(written, &back); err != nil || back != string(inside) {
						t.Fatalf("%q was written as %s: %v", inside, written, err)
					}
				}
			}
		}
	}
}

// FuzzParseJSON holds the parser against encoding/json: it accepts nothing that
// encoding/json refuses, reads the same, and can read what is written from it.
func FuzzParseJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e3,"x\u0041\ud83d\ude00",true,null]}`, `{"a":1,"a":2}`, `"\ud800"`, `[[[[]]]]`, "1 ", `{"":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseJSON(data)
		if err != nil {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var want any
		if err := decoder.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", data, err)
		}
		if !reflect.DeepEqual(asNumbers(got), want) {
			t.Fatalf("%q: %#v; encoding/json reads %#v", data, got, want)
		}
		written, err := appendJSON(nil, got, 0)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", data, err)
		}
		if again, err := ParseJSON(written); err != nil || !reflect.DeepEqual(again, got) {
			t.Fatalf("%q was written as %q, which is %#v, %v", data, written, again, err)
		}
	})
}

// asNumbers is value with the number type of encoding/json.
func asNumbers(value any) any {
	switch v := value.(type) {
	case Number:
		return json.Number(v)
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = asNumbers(v[i])
		}
		return list
	case map[string]any:
		object := map[string]any{}
		for name := range v {
			object[name] = asNumbers(v[name])
		}
		return object
	default:
		return v
	}
}
