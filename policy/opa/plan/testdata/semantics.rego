package semantics

# Each rule is evaluated by both evaluators, with each of the inputs.

not_wildcard if not input.xs[0] == 1

not_nested if not not_wildcard

not_iteration if {
	not some_one
}

some_one if {
	some x in input.xs
	x == 1
}

every_small if every x in input.xs { x < 3 }

every_key if every k, v in input.o { k != "z"; v != "z" }

every_of_text if every c in input.text { c == "x" }

pairs contains [i, x] if some i, x in input.xs

doubled := [y | some x in input.xs; y := x * 2]

many := {y | some x in numbers.range(1, 50); y := x % 7}

many_pairs := {k: v | some v in numbers.range(1, 30); k := sprintf("k%d", [v])}

clash := {k: v | some v in input.xs; k := "same"}

counted := count(input.xs)

total := sum([x | some x in input.xs])

constants := {"a": [1, 2.0, null, {"b": {1, 2}}], "c": true, "d": ["x", {}, [], set()]}

mixed := {"a": [1, input.n, {"b": {1, input.n}}], "c": input.text, input.text: 1}

number_keys := {1: "a", 1.0: "b", "1": "c"}

in_set if 1.0 in {1, 2}

from_set := {1, 2, 3}[input.n]

from_array := ["a", "b", "c"][input.n]

from_mixed := input.o[input.xs[_]]

by_number := input.o[1]

two_values := input.n if input.n > 0

two_values := input.text if input.text == "x"

same_value if input.n == 1

same_value if 1 / input.zero == 1

same_value if input.text == "x"

failing_first if 1 / input.zero == 1

failing_first if input.n == 1

failing_not if not 1 / input.zero == 1

failing_list := [x | x := 1 / input.zero]

indexed if {
	input.text == "nobody"
	1 / input.zero == 1
}

indexed if {
	1 / input.zero == 1
	input.text == "nobody"
}

default fallback := {"value": 0}

fallback := {"value": input.n} if input.n > 0

chosen := "one" if {
	input.n == 1
} else := "text" if {
	input.text == "x"
} else := {"any": input.n}

chain(x) := "one" if {
	x == 1
} else := sprintf("%v", [x])

chain("x") := "letter"

called := [chain(x) | some x in [1, 2, "y"]]

called_twice := chain("x")

pattern([a, _, {"k": b}]) := [a, b]

patterns := pattern([1, input.n, {"k": input.text}])

no_pattern := pattern(input.xs)

default same(_) := "default"

same(x) := "same" if x == input.n

defaults := [same(1), same("nothing")]

partial[k] := v if some k, v in input.o

nested[k][i] := x if {
	some k in ["a", "b"]
	some i, x in input.xs
}

nested.c.d := 1

grouped[k] contains x if {
	some k in ["a", "b"]
	some x in numbers.range(1, 20)
}

grouped.a contains "more"

shared_object[k] := input.o if k := "a"

shared_object[k][l] := 1 if {
	k := "b"
	l := "c"
}

partial_of := partial[input.text]

set_of contains x if some x in input.xs

in_rule if set_of[1]

all_of_it := {x | some x in set_of}

plain := input.text

with_input := v if v := plain with input.text as "changed"

with_whole := v if v := plain with input as {"text": "whole"}

with_deep := d if d := deep with input.a.b.c as 1 with input.a.d as 2

deep := input.a

with_both := [plain, w, plain] if w := plain with input.text as "between"

with_undefined := v if v := plain with input.text as input.missing

with_data := v if v := fruit with data.fruits as ["kiwi"]

fruit := data.fruits[0]

with_rule := v if v := fallback_value with data.semantics.fallback as 7

fallback_value := fallback

with_function := v if v := counted with count as mocked_count

mocked_count(_) := 99

with_value := v if v := counted with count as 5

with_twice := [a, b] if {
	a := plain with input.text as "a"
	b := plain with input.text as "b"
}

with_nested := x if x := with_both with input.text as "outer"

with_not if not plain_is_x with input.text as "y"

plain_is_x if plain == "x"

fruits := data.fruits

fruits_some contains f if some f in data.fruits

prices contains [k, v] if some k, v in data.prices

price := data.prices[input.text]

whole_data := object.keys(data.prices)

dynamic contains [k, v] if some k, v in data.semantics.inner

rule_by_name := data.semantics.inner[input.text]

inner.x := 1

inner.y := input.n

inner.z := "z" if input.n == 2

walked contains p if {
	walk(input.o, [p, v])
	is_number(v)
}

walked_all := [x | walk(input.xs, x)]

walk_holds if walk(input.o)

unify_array := [a, b] if [a, "fixed", b] = input.three

unify_object := a if {"p": a, "q": 1} = input.unify

unify_both := [a, b] if {
	[a, 2] = [1, b]
}

unify_sets if {1, 2} = {2, 1}

text_of := $"n is {input.n}, missing {input.missing}"

cut := split(input.text, "x")

slices := array.slice(input.xs, 1, 2)

regexes if regex.match(`^x$`, input.text)

united := object.union(input.o, {"more": {"deep": input.n}})

comparison := [1 < 2, "a" < "b", [1] < [1, 2], {1} == {1.0}, null == false]

arithmetic := ((input.n + 1) * 3) - (7 % 4)

masked := bits.and(input.n, 3)

clock := time.now_ns()

nothing := input.missing.missing

falsehood := false

truth if falsehood == false

refused if falsehood

null_value := null

deep_lookup := input.o.a.b.c

whole_input := input

assigned := y if {
	x := input
	y := x.n
}

shadow := [x | x := [y | y := input.xs[_]][_]; x > 1]

cross := [[x, y] | x := input.xs[_]; y := input.xs[_]; x < y]

object_of_comprehension := {x: [y | some y in input.xs; y >= x] | some x in input.xs}

conflict_free := {"a": 1, "a": 1}

by_membership := [k | some k, "b" in input.letters]

json_round := json.unmarshal(json.marshal(input.o))

print_free := concat(",", ["a", input.text])

strict_type := upper(input.n)

jwt := io.jwt.decode(input.text)

recursive_names := [a | a := data.semantics.inner[_]]

uneven.x := 1

uneven.deep.q := 2

uneven.f := false

not_uneven if not data.semantics.uneven[input.text]

not_uneven_deep if not data.semantics.uneven[input.text].q

not_inner if not data.semantics.inner[input.text]

not_price if not data.prices[input.text]

not_mixed_base if not data.prices[input.text].z

not_partial if not partial[input.text]

not_nested_partial if not nested[input.text][1]

not_grouped if not grouped[input.text].more

not_set if not set_of[input.n]

not_every if not every_small

not_call if not startswith(input.text, "x")

not_function if not chain(input.text) == "letter"

not_comprehension if not count([x | some x in input.xs; x == 1]) == 1

not_uneven_equal if not data.semantics.uneven[input.text] == 1

not_extent if not data.semantics.uneven == {}

not_in if not input.n in input.xs

not_every_uneven if {
	some name in ["x", "y", "deep"]
	not data.semantics.uneven[name]
}

flags.x := false

flags.y := true

flags.list := ["a", "x"]

not_flag if not data.semantics.flags[input.text]

not_flag_deep if not data.semantics.flags[input.text][0]

every_flag if every v in data.semantics.flags[input.text] { v != "b" }

every_uneven if every v in data.semantics.uneven[input.text] { v == 2 }

not_every_flag if not every_flag

flag_is_not if data.semantics.flags[input.text] != true

list_of_flags := [v | some k in ["x", "y", "list", "z"]; v := data.semantics.flags[k]]

some_flag contains v if some v in data.semantics.flags[input.text]

flag_with := v if v := data.semantics.flags[input.text] with input.text as "y"

not_flag_with if not data.semantics.flags[input.text] with input.text as "y"

not_two if {
	not data.semantics.flags.x
	not data.semantics.flags.z
}

every_in_every if every k in ["x", "y"] {
	every l in ["list"] {
		count(data.semantics.flags[l]) == 2
		k != data.semantics.flags[k]
	}
}

alone if [x | x := 1 / input.zero]

alone_inside if {
	[1, {x: y | some x, y in input.xs}]
}

twice := {input.text: 1, "x": 2}

not_input if not input

not_keys if not {"a": input.n} == {"a": 1, input.text: input.n}

not_literals if not [1, input.n] == [1, 2]

not_deep_literals if not [1, [input.n]] == [1, input.xs]

not_literal if not [1, input.n] == input.xs

not_sets if not {1, input.n} == {1, 2}
