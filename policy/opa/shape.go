package opa

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/cordon-mq/cordon/policy"
)

// checkInput compares an input with the schema of its package and says everything
// that is wrong with it, such as "input.principal.knid is no field; did you mean
// kind?". Without schemas nothing is.
func (s *shapes) checkInput(action policy.Action, input any) []string {
	schema := s.input[packageOf[action]]
	if schema == nil {
		return nil
	}
	return checkShape(schema, input, "input", nil)
}

func checkShape(schema map[string]any, v any, path string, problems []string) []string {
	want, _ := schema["type"].(string)
	if have := jsonKind(v); want != "" && have != want {
		return append(problems, fmt.Sprintf("%s is %s, and has to be %s", path, have, want))
	}
	if words, ok := schema["enum"].([]any); ok && !slices.ContainsFunc(words, func(w any) bool { return w == v }) {
		all := make([]string, len(words))
		for i, w := range words {
			all[i] = fmt.Sprint(w)
		}
		text, _ := v.(string)
		return append(problems, fmt.Sprintf("%s is %q; %s", path, shorten(text), nearest(text, all)))
	}
	switch v := v.(type) {
	case map[string]any:
		properties, typed := schema["properties"].(map[string]any)
		values, _ := schema["additionalProperties"].(map[string]any)
		for _, name := range util.KeysSorted(v) {
			below, known := properties[name].(map[string]any)
			switch {
			case known:
				problems = checkShape(below, v[name], path+"."+name, problems)
			case values != nil:
				problems = checkShape(values, v[name], path+"."+name, problems)
			case typed:
				problems = append(problems, fmt.Sprintf("%s.%s is no field; %s", path, shorten(name), nearest(name, util.KeysSorted(properties))))
			}
			if len(problems) >= maxProblems {
				return problems
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i, item := range v {
			if items == nil || len(problems) >= maxProblems {
				break
			}
			problems = checkShape(items, item, path+"["+strconv.Itoa(i)+"]", problems)
		}
	}
	return problems
}

// maxProblems is how many are told of one input.
const maxProblems = 20

func jsonKind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number, float64, int:
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "nothing JSON knows"
}

// badInput is one error of all the problems.
func badInput(problems []string) error {
	return &policy.Error{Kind: policy.KindInvalid, Op: "read input", Field: "input", Public: strings.Join(problems, "\n")}
}
