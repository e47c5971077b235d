package opa

import (
	"testing"

	"github.com/cordon-mq/cordon/policy"
)

func TestReads(t *testing.T) {
	t.Parallel()
	const none fields = 0
	for name, c := range map[string]struct {
		modules map[string]string
		reads   fields
		clock   bool
	}{
		"nothing":       {map[string]string{"publish": `decision := {"allow": true}`}, none, false},
		"constant part": {map[string]string{"publish": `decision := {"allow": true} if input.principal.id == input.client.id`}, none, false},
		"topic":         {map[string]string{"publish": `decision := {"allow": true} if input.topic == "a"`}, readTopic, false},
		"levels in a pattern": {map[string]string{"publish": `decision := {"allow": true} if {
			some e
			["a", e] = input.levels
		}`}, readLevels, false},
		"head":                 {map[string]string{"publish": `decision := {"allow": input.retain}`}, readRetain, false},
		"else":                 {map[string]string{"publish": "decision := {\"allow\": true} if input.qos == 0\n\nelse := {\"allow\": input.will}"}, readQoS | readWill, false},
		"default":              {map[string]string{"publish": "default decision := {\"allow\": false}\n\ndecision := {\"allow\": true} if input.size < 5"}, readSize, false},
		"one property":         {map[string]string{"publish": `decision := {"allow": true} if input.properties.content_type == "x"`}, readContentType, false},
		"user property":        {map[string]string{"publish": `decision := {"allow": true} if "x" in input.properties.user.a`}, readUser, false},
		"any property":         {map[string]string{"publish": "decision := {\"allow\": true} if {\n\tsome p\n\tinput.properties[p] == \"x\"\n}"}, readProperties, false},
		"properties":           {map[string]string{"publish": `decision := {"allow": true} if count(input.properties) == 0`}, readProperties, false},
		"device":               {map[string]string{"publish": `decision := {"allow": true} if input.device.registered`}, readDevice, false},
		"comprehension":        {map[string]string{"publish": `decision := {"allow": true} if count([l | some l in input.levels]) == 2`}, readLevels, false},
		"negation":             {map[string]string{"publish": `decision := {"allow": true} if not input.retain`}, readRetain, false},
		"every":                {map[string]string{"publish": `decision := {"allow": true} if every l in input.levels { l != "" }`}, readLevels, false},
		"inside every":         {map[string]string{"publish": `decision := {"allow": true} if every x in [1] { input.qos == x }`}, readQoS, false},
		"key of a head":        {map[string]string{"publish": "decision := {\"allow\": true} if table[1]\n\ntable[input.qos] := true"}, readQoS, false},
		"member of a set":      {map[string]string{"publish": "decision := {\"allow\": true} if 1 in all\n\nall contains input.size"}, readSize, false},
		"key of data":          {map[string]string{"publish": `decision := {"allow": true} if data.table[input.topic]`}, readTopic, false},
		"value of with":        {map[string]string{"publish": "decision := {\"allow\": true} if data.x == 1 with data.x as input.size"}, readSize, false},
		"built-in replaced":    {map[string]string{"publish": "decision := {\"allow\": true} if count([1]) == 2 with count as g\n\ng(x) := input.size if x"}, readSize, false},
		"member of properties": {map[string]string{"publish": "decision := {\"allow\": true} if {\n\tsome _, v in input.properties.user\n\tv == [\"a\"]\n}"}, readUser, false},
		"field by field":       {map[string]string{"publish": "decision.allow if input.qos == 1\n\ndecision.reason := input.topic"}, readQoS | readTopic, false},
		"nested":               {map[string]string{"publish": `decision := {"allow": true} if input.levels[input.qos] == "a"`}, readLevels | readQoS, false},
		"unknown name":         {map[string]string{"publish": "decision := {\"allow\": true} if {\n\tsome k\n\tinput[k] == \"a\"\n}"}, readAll, false},
		"computed name":        {map[string]string{"publish": `decision := {"allow": true} if input[lower("TOPIC")] == "a"`}, readAll, false},
		"passed whole":         {map[string]string{"publish": "decision := {\"allow\": true} if f(input)\n\nf(x) if x.topic == \"a\""}, readAll, false},
		"as a value":           {map[string]string{"publish": "decision := {\"allow\": true} if {\n\tx := input\n\tx.topic == \"a\"\n}"}, readAll, false},
		"object.get":           {map[string]string{"publish": `decision := {"allow": true} if object.get(input, "qos", 0) == 1`}, readAll, false},
		"walk":                 {map[string]string{"publish": "decision := {\"allow\": true} if {\n\twalk(input, [_, v])\n\tv == \"a\"\n}"}, readAll, false},
		"a part passed":        {map[string]string{"publish": "decision := {\"allow\": true} if f(input.qos)\n\nf(x) if x == 1"}, readQoS, false},
		"in a template":        {map[string]string{"publish": `decision := {"allow": false, "reason": $"not {input.topic}"}`}, readTopic, false},
		"other rule":           {map[string]string{"publish": "decision := {\"allow\": true} if ok\n\nok if input.qos == 1\n\nunused if input.size == 1"}, readQoS, false},
		"helper package":       {map[string]string{"publish": "import data.cordon.own\n\ndecision := {\"allow\": true} if own.ok", "own": `ok if input.size > 1`}, readSize, false},
		"helper function":      {map[string]string{"publish": "import data.cordon.own\n\ndecision := {\"allow\": true} if own.f(1)", "own": `f(x) if input.qos > x`}, readQoS, false},
		"helper by name": {map[string]string{
			"publish": "decision := {\"allow\": true} if {\n\tsome p\n\tdata.cordon.own[p]\n}",
			"own":     "a if input.size > 1\n\nb if input.will",
		}, readSize | readWill, false},
		"helper document": {map[string]string{
			"publish": "decision := {\"allow\": true} if count(data.cordon.own) == 1",
			"own":     `a if input.size > 1`,
		}, readSize, false},
		"input replaced":         {map[string]string{"publish": "decision := {\"allow\": true} if ok with input as {\"qos\": 1}\n\nok if input.qos == 1"}, readAll, false},
		"one field replaced":     {map[string]string{"publish": "decision := {\"allow\": true} if ok with input.qos as 1\n\nok if input.qos == input.size"}, readQoS | readSize, false},
		"function replaced":      {map[string]string{"publish": "decision := {\"allow\": true} if f(1) with f as g\n\nf(x) if x == 2\n\ng(x) if input.size == x"}, readSize, false},
		"clock":                  {map[string]string{"publish": `decision := {"allow": true} if time.now_ns() > 0`}, none, true},
		"clock in a helper":      {map[string]string{"publish": "decision := {\"allow\": true} if data.cordon.own.late", "own": `late if time.now_ns() > 0`}, none, true},
		"clock of a certificate": {map[string]string{"publish": `decision := {"allow": true} if io.jwt.decode_verify("x", {"secret": "y"})[0]`}, none, true},
		"clock elsewhere":        {map[string]string{"publish": "decision := {\"allow\": true}\n\nlate if time.now_ns() > 0"}, none, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entry := mustLoad(t, module(c.modules)).entry(policy.ActionPublish)
			if entry.reads != c.reads || entry.clock != c.clock {
				t.Errorf("reads %b and clock %v; want %b and %v", entry.reads, entry.clock, c.reads, c.clock)
			}
		})
	}
}

// The built-in policies look at the topic and the device it names, so that is all
// their memory compares; a delivery is about the device alone.
func TestBuiltinReads(t *testing.T) {
	t.Parallel()
	b := mustLoad(t, builtinBundle())
	for action, want := range map[policy.Action]fields{
		policy.ActionConnect:    0,
		policy.ActionPublish:    readLevels | readDevice | readWill,
		policy.ActionSubscribe:  readLevels | readDevice,
		policy.ActionReceive:    readDevice,
		policy.ActionAdminister: readMethod | readRoute | readTarget | readDevice,
	} {
		if e := b.entry(action); e.reads != want || e.clock {
			t.Errorf("%v reads %b and clock %v; want %b", action, e.reads, e.clock, want)
		}
	}
}

// Every field below input is either constant or known to the memory.
func TestSchemasAndReadsAgree(t *testing.T) {
	t.Parallel()
	report := &Report{}
	s := readShapes(builtinSchemas(), report)
	if report.Err() != nil {
		t.Fatal(report.Err())
	}
	constants := map[string]bool{"action": true, "principal": true, "org": true, "client": true}
	for name := range s.union()["properties"].(map[string]any) {
		if _, ok := fieldNames[name]; ok == constants[name] {
			t.Errorf("input.%s: known to the memory %v, constant %v", name, ok, constants[name])
		}
	}
	properties := s.input["publish"]["properties"].(map[string]any)["properties"].(map[string]any)["properties"].(map[string]any)
	for name := range properties {
		if _, ok := propertyNames[name]; !ok {
			t.Errorf("input.properties.%s is unknown to the memory", name)
		}
	}
}
