package guest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestObject(t *testing.T) {
	t.Parallel()
	const text = ` {"s":"a\u00e9","n":-1.50,"o":{"s":"below","o":{}},"l":["a",1,{"a":"no"},"b"],"t":true,"z":null,"\u0071":"q"} `
	o, err := ReadObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	below, isObject := o.Object("o")
	deeper, isDeeper := below.Object("o")
	s, isText := o.String("s")
	q, isQ := o.String("q")
	n, isNumber := o.Number("n")
	if s != "aé" || !isText || q != "q" || !isQ || n != "-1.50" || !isNumber || !isObject || !isDeeper || deeper.Has("s") || o.Text() != text {
		t.Errorf("%q %q %q %+v", s, q, n, below)
	}
	if s, ok := below.String("s"); s != "below" || !ok {
		t.Errorf("%q", s)
	}
	if got := o.Strings("l"); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
	if got := o.Strings("s"); !reflect.DeepEqual(got, []string{"aé"}) {
		t.Errorf("%q", got)
	}
	// A value of another type is as good as none.
	for _, name := range []string{"s", "n", "o", "l", "t", "z", "absent"} {
		_, isText := o.String(name)
		_, isNumber := o.Number(name)
		_, isObject := o.Object(name)
		if isText != (name == "s") || isNumber != (name == "n") || isObject != (name == "o") || o.Has(name) != (name != "absent") {
			t.Errorf("%s: %v %v %v", name, isText, isNumber, isObject)
		}
	}
	picked := o.Pick("o", "q", "absent")
	if picked.Text() != `{"o":{"s":"below","o":{}},"q":"q"}` || picked.Has("s") {
		t.Errorf("%s", picked.Text())
	}
	if q, _ := picked.String("q"); q != "q" {
		t.Errorf("%q", q)
	}
	if s := o.Pick().Text(); s != `{}` {
		t.Error(s)
	}
	var none *Object
	if none.Has("a") || none.Text() != `{}` || none.Pick("a").Text() != `{}` || none.Strings("a") != nil {
		t.Error("nil is not empty")
	}
}

// An object of many members is read as one of few.
func TestLargeObjects(t *testing.T) {
	t.Parallel()
	many := map[string]any{}
	for i := range 5 * manyMembers {
		many[strings.Repeat("x", i)] = map[string]any{"a": "b"}
	}
	text, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ReadObject(text)
	if err != nil || len(o.members) != len(many) {
		t.Fatalf("%v", err)
	}
	twice := append(text[:len(text)-1:len(text)-1], `,"xxx":1}`...)
	if _, err := ReadObject(twice); err != ErrDuplicate { //nolint:errorlint // the very value
		t.Errorf("a member twice: %v", err)
	}
}

func TestReadObjectBase64URL(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"eyJhIjoiYiJ9":         nil,          // {"a":"b"}
		"eyJhIjoiYiJ9==":       ErrBase64,    // padding is another spelling
		"eyJhIjoiYiIsImEiOjF9": ErrDuplicate, // {"a":"b","a":1}
		"W10":                  ErrSyntax,    // []
	} {
		o, err := ReadObjectBase64URL(text)
		if err != want { //nolint:errorlint // the very values
			t.Errorf("%s: %v, want %v", text, err, want)
		}
		if s, ok := o.String("a"); want == nil && (!ok || s != "b") {
			t.Errorf("%s: a is %q", text, s)
		}
	}
}

// FuzzReadObject holds it against ParseObject: both read the same or neither does.
func FuzzReadObject(f *testing.F) {
	for _, seed := range []string{
		`{"a":"b","c":{"d":[1,"2",{}]},"e":-1}`, `{"a":1,"a":2}`, `{"\ud800":1}`, ` {} `, `{"a":"\"\\"}`, `[]`,
		`{"":` + strings.Repeat("[", MaxDepth-1) + strings.Repeat("]", MaxDepth-1) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := ParseObject(data)
		o, err := ReadObject(data)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, ParseObject says %v", data, err, wantErr)
		}
		if err != nil {
			return
		}
		for name, v := range want {
			s, isText := o.String(name)
			n, isNumber := o.Number(name)
			below, isObject := o.Object(name)
			switch v := v.(type) {
			case string:
				isText = isText && s == v
			case Number:
				isNumber = isNumber && n == v
			case map[string]any:
				isObject = isObject && len(below.members) == len(v)
			default:
				if isText || isNumber || isObject || !o.Has(name) {
					t.Fatalf("%q: %q is none of these", data, name)
				}
				continue
			}
			if !isText && !isNumber && !isObject {
				t.Fatalf("%q: %q reads differently", data, name)
			}
		}
		if again, err := ParseObject([]byte(o.Pick(names(want)...).Text())); err != nil || !reflect.DeepEqual(again, want) {
			t.Fatalf("%q: picked %v, %v", data, again, err)
		}
	})
}

func names(object map[string]any) (all []string) {
	for name := range object {
		all = append(all, name)
	}
	return all
}
