package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// fileMax bounds a configuration file, in bytes. All settings with a paragraph
// of comment each take a tenth of it.
const fileMax = 16 << 10

// File reads the settings that the YAML file at path states.
func File(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads the settings that data states; path is for messages only. The
// error has one line per problem, each starting with path:line:col.
//
// It walks the parsed document instead of decoding it: the file is one flat
// mapping of plain values and lists of texts, so anchors, tags, merges and nesting are problems
// rather than features, and every problem can be told at once.
func Parse(path string, data []byte) (Settings, error) {
	if len(data) > fileMax {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, fileMax)
	}
	document, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntaxError(path, err)
	}
	var bodies []ast.Node
	for _, d := range document.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			bodies = append(bodies, d.Body)
		}
	}
	switch len(bodies) {
	case 0:
		return Settings{}, nil
	case 1:
		return parseMapping(path, bodies[0])
	default:
		return nil, fmt.Errorf("%s: a second document", position(path, bodies[1]))
	}
}

// parseMapping reads the one mapping of the file.
func parseMapping(path string, body ast.Node) (Settings, error) {
	mapping, ok := body.(*ast.MappingNode)
	if !ok {
		return nil, fmt.Errorf("%s: want `name: value` lines", position(path, body))
	}
	known := settings()
	stated := Settings{}
	var problems []error
	for _, entry := range mapping.Values {
		name := entry.Key.GetToken().Value
		i := slices.IndexFunc(known, func(s setting) bool { return s.name == name })
		var value any
		var err error
		switch {
		case i < 0:
			err = fmt.Errorf("unknown field %q; the fields are %s", name, names(known))
		case name == "config":
			err = errors.New("a configuration file cannot name another one")
		default:
			value, err = known[i].kind.value(entry.Value)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", position(path, entry.Key), err))
			continue
		}
		stated[name] = value
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return stated, nil
}

// value reads what stands after the colon.
func (k kind) value(node ast.Node) (any, error) {
	switch k {
	case truth:
		return boolValue(node)
	case number:
		return numberValue(node)
	case list:
		return listValue(node)
	default:
		return textValue(node)
	}
}

func textValue(node ast.Node) (string, error) {
	text, ok := node.(*ast.StringNode)
	if !ok {
		return "", errors.New("want a text; put quotes around a number")
	}
	return text.Value, nil
}

func boolValue(node ast.Node) (bool, error) {
	truth, ok := node.(*ast.BoolNode)
	if !ok {
		return false, errors.New("want true or false")
	}
	return truth.Value, nil
}

func numberValue(node ast.Node) (int, error) {
	wrong := errors.New("want a whole number")
	if _, ok := node.(*ast.IntegerNode); !ok {
		return 0, wrong
	}
	n, err := strconv.Atoi(node.GetToken().Value)
	if err != nil {
		return 0, wrong
	}
	return n, nil
}

func listValue(node ast.Node) ([]string, error) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		return nil, errors.New("want a list of texts")
	}
	elements := make([]string, 0, len(sequence.Values))
	for _, value := range sequence.Values {
		element, err := textValue(value)
		if err != nil {
			return nil, fmt.Errorf("in the list: %w", err)
		}
		elements = append(elements, element)
	}
	return elements, nil
}

func names(known []setting) string {
	all := make([]string, 0, len(known))
	for _, s := range known {
		if s.name != "config" {
			all = append(all, s.name)
		}
	}
	return strings.Join(all, ", ")
}

// position is path:line:col of a node.
func position(path string, node ast.Node) string {
	if mapping, ok := node.(*ast.MappingNode); ok && len(mapping.Values) > 0 {
		node = mapping.Values[0].Key // a mapping's own token is its first colon
	}
	at := node.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", path, at.Line, at.Column)
}

// syntaxError turns the parser's error, which draws the source, into one line.
func syntaxError(path string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		p := at.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s", path, p.Line, p.Column, at.GetMessage())
	}
	return fmt.Errorf("%s: %w", path, err)
}
