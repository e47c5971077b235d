package rego_test

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy"
	"github.com/cordon-mq/cordon/policy/opa"
	"github.com/cordon-mq/cordon/policy/topic"
	"github.com/cordon-mq/cordon/rego"
)

// What the built-in bundle states by covers holds for every kind of principal:
// each word that the rules know, and some that they do not, gets the same answer
// in each place of a wildcard.
func TestCoversAreTrue(t *testing.T) {
	t.Parallel()
	org, err := policy.ParseOrgID("acme01")
	if err != nil {
		t.Fatal(err)
	}
	device := policy.Principal{Org: org, Kind: policy.KindDevice, Type: "sensor", ID: "d1", Registered: true}
	gateway := policy.Principal{Org: org, Kind: policy.KindGateway, Type: "router", ID: "g1", Registered: true}
	application := func(roles ...string) policy.Principal {
		return policy.Principal{Org: org, Kind: policy.KindApplication, App: "app1", Roles: roles}
	}
	restricted := func(p policy.Principal) policy.Principal {
		p.Restricted, p.Groups = true, []string{"hall"}
		return p
	}
	const (
		event   = "iot-2/type/sensor/id/d1/evt/%s/fmt/json"
		command = "iot-2/type/sensor/id/d1/cmd/%s/fmt/json"
		bare    = "iot-2/type/sensor/id/d1/cmd/%s"
	)
	bundle, _ := opa.Load(context.Background(), rego.Bundle(), rego.Schemas())
	if bundle == nil {
		t.Fatal("the bundle does not load")
	}
	engine := opa.New(opa.Options{Timeout: 10 * time.Second})
	defer engine.Close()
	engine.Activate(bundle)
	known := words(t, rego.Bundle())
	for name, c := range map[string]struct {
		principal policy.Principal
		topics    []string
	}{
		"device":             {device, []string{event}},
		"gateway":            {gateway, []string{"iot-2/type/router/id/g1/evt/%s/fmt/json", event}},
		"restricted gateway": {restricted(gateway), []string{"iot-2/type/router/id/g1/evt/%s/fmt/json", event}},
		"standard key":       {application("PD_STANDARD_APP"), []string{event, command, bare}},
		"operator key":       {application("PD_OPERATOR_APP"), []string{command, bare}},
		"key of two roles":   {application("PD_OPERATOR_APP", "PD_ADMIN_APP"), []string{event, command, bare}},
		"restricted key":     {restricted(application("PD_STANDARD_APP")), []string{event, command, bare}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, pattern := range c.topics {
				ask := func(levels []string) *policy.Decision {
					// A judge that is asked once answers by the rules alone.
					r := messageRequest(t, policy.ActionPublish, strings.Join(levels, "/"))
					return engine.Judge(&policy.Facts{Principal: &c.principal}).Decide(context.Background(), r)
				}
				first := ask(strings.Split(fmt.Sprintf(pattern, "status"), "/"))
				if !first.Allow || len(first.Covers) != 1 {
					t.Fatalf("%s: %+v covers one filter, if it is allowed", pattern, first)
				}
				filter := first.Covers[0].Levels()
				for i, level := range filter {
					if level != "+" {
						continue
					}
					for _, word := range known {
						levels := slices.Clone(filter)
						for j := range levels {
							if levels[j] == "+" {
								levels[j] = "other"
							}
						}
						levels[i] = word
						if got := ask(levels); got.Allow != (word != "") || got.Allow && (got.Retain != first.Retain || !slices.Equal(got.Covers, first.Covers)) {
							t.Errorf("%v is covered by %v and answered otherwise: %+v", levels, filter, got)
						}
					}
				}
			}
		})
	}
}

// words are the levels of all string constants of a bundle, with some that it
// does not have; one is empty.
func words(t *testing.T, bundle fs.FS) []string {
	t.Helper()
	all := []string{"", "another", "4711", "acme01", "sensor", "router", "d1", "g1", "app1", "$SYS"}
	_, parsed := modules(t, bundle)
	for _, m := range parsed {
		ast.WalkTerms(m, func(term *ast.Term) bool {
			if s, ok := term.Value.(ast.String); ok {
				for word := range strings.SplitSeq(string(s), "/") {
					if len(word) <= 64 && !strings.ContainsAny(word, "+#") && topic.CheckText(word) {
						all = append(all, word)
					}
				}
			}
			return false
		})
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// publish is a message to a topic of a client with the identity mount.
func publish(t *testing.T, levels []string) *policy.Request {
	t.Helper()
	name, err := topic.ParseName(strings.Join(levels, "/"))
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Request{Action: policy.ActionPublish, Topic: name, Levels: levels, QoS: 1, Size: 64}
}
