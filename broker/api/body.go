package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// defaultMaxBody is the largest request body, in bytes.
	defaultMaxBody = 512 << 10
	// maxDepth is how deep the arrays and objects of a body may be nested:
	// metadata is the caller's own, and is later walked by the policy engine.
	maxDepth = 32
	// maxNumber is the longest number in a body, in characters, and maxExponent
	// the largest power of ten it may have.
	maxNumber   = 40
	maxExponent = 300
	// bodyTimeout is how long a caller may take to send a body.
	bodyTimeout = 30 * time.Second
)

// readBody reads the body of r, of at most limit bytes. It returns nothing for
// an empty one.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength == 0 {
		return nil, nil
	}
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	return slurp(w, r, limit)
}

// slurp reads the body of r whatever it is, of at most limit bytes, and in a
// bounded time.
func slurp(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	// The deadline is the socket's, so it is real time. A server that cannot set
	// one has its own.
	socket := http.NewResponseController(w)
	_ = socket.SetReadDeadline(time.Now().Add(bodyTimeout))
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case err == nil:
		_ = socket.SetReadDeadline(time.Time{})
		return b, nil
	case errors.As(err, &over):
		return nil, tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &fault{status: http.StatusRequestTimeout, message: "the body took too long to arrive"}
	default:
		return nil, invalid("body", "ended before it was complete")
	}
}

func tooLarge(limit int64) error {
	return &fault{
		status:  http.StatusRequestEntityTooLarge,
		message: fmt.Sprintf("the body is larger than %d bytes", limit),
		header:  http.Header{"Connection": {"close"}},
	}
}

// checkContentType accepts JSON as it is, in the only encoding JSON has.
func checkContentType(h http.Header) error {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, named := params["charset"]
	encoding := h.Get("Content-Encoding")
	if err != nil || media != "application/json" || named && !strings.EqualFold(charset, "utf-8") ||
		encoding != "" && encoding != "identity" {
		return &fault{status: http.StatusUnsupportedMediaType, message: "the body must be application/json in UTF-8, not compressed"}
	}
	return nil
}

// decode reads a JSON object into *into, or an array where that is a slice.
// Properties that *into does not have are ignored, null leaves a field as it is.
// Errors name the field and never repeat what was in it: it may be a secret.
func decode(body []byte, into any) error {
	if !utf8.Valid(body) {
		return invalid("body", "is not UTF-8")
	}
	if err := checkShape(body); err != nil {
		return err
	}
	opening, kind := byte('{'), "object"
	if t := reflect.TypeOf(into); t.Elem().Kind() == reflect.Slice {
		opening, kind = '[', "array"
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != opening {
		return invalid("body", "must be a JSON "+kind)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	err := d.Decode(into)
	if err == nil {
		if _, extra := d.Token(); !errors.Is(extra, io.EOF) {
			return invalid("body", "must be one JSON "+kind)
		}
	}
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return invalid("body", fmt.Sprintf("is not JSON, at byte %d", syntax.Offset))
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return invalid(mismatch.Field, "must be "+typeName(mismatch.Type))
	default:
		return invalid("body", "is not JSON")
	}
}

// checkShape bounds what a decoder and those behind it have to walk: the nesting
// of body and the size of its numbers, whose digits are kept as they are. It
// does not ask whether body is valid JSON.
func checkShape(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return invalid("body", fmt.Sprintf("is nested more than %d levels deep", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		case c == '-' || c >= '0' && c <= '9':
			number := numberAt(body[i:])
			if !fits(number) {
				return invalid("body", "holds a number that is too long or too large")
			}
			i += len(number) - 1
		}
	}
	return nil
}

// numberAt is the run of characters of numbers that b begins with.
func numberAt(b []byte) []byte {
	return b[:len(b)-len(bytes.TrimLeft(b, "0123456789+-.eE"))]
}

// fits reports whether a number is one that arithmetic can be done on: 1e999999999
// is short to write and takes gigabytes to compute with.
func fits(number []byte) bool {
	if len(number) > maxNumber {
		return false
	}
	e := bytes.IndexAny(number, "eE")
	if e < 0 {
		return true
	}
	exponent, err := strconv.Atoi(string(number[e+1:]))
	return err == nil && exponent >= -maxExponent && exponent <= maxExponent
}

// typeName is what JSON calls a value that fits t.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "an array"
	default:
		return "an object"
	}
}
