package wasm
import ("testing";"strings";"fmt";"time")
func TestZZYaml(t *testing.T) {
	laugh := "settings:\n  a: &a [x,x,x,x,x,x,x,x,x]\n"
	prev := "a"
	for _, c := range []string{"b","c","d","e","f","g","h"} {
		laugh += "  "+c+": &"+c+" ["+strings.Repeat("*"+prev+",",8)+"*"+prev+"]\n"; prev = c
	}
	for name, text := range map[string]string{
		"deep list 20k": "settings: {a: "+strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+"}",
		"deep block": func() string { s := "settings:\n"; for i := 1; i < 600; i++ { s += strings.Repeat(" ", i)+"a:\n" }; return s }(),
		"laugh": laugh,
		"merge": "settings:\n  a: &a {x: 1}\n  b:\n    <<: *a\n",
		"self": "settings: &a\n  b: *a\n",
	} {
		t0 := time.Now()
		s, err := parseSettings([]byte(text))
		n := 0
		if err == nil { b, e := encode(s.Settings); n = len(b); err = e }
		es := fmt.Sprint(err)
		fmt.Println(name, len(text), time.Since(t0), n, es[:min(len(es),150)])
	}
}
