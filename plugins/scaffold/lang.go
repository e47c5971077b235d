package scaffold

import (
	"strings"

	"github.com/cordon-mq/cordon/policy"
)

// Lang is the closed set of languages that a project can be written in. The zero
// Lang is none.
type Lang uint8

// The languages.
const (
	Go Lang = iota + 1
	Rust
	C
	AssemblyScript
)

// Langs are all of them.
func Langs() []Lang { return []Lang{Go, Rust, C, AssemblyScript} }

// ParseLang reads "go", "rust", "c" or "assemblyscript".
func ParseLang(s string) (Lang, error) {
	for _, l := range Langs() {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, &policy.Error{Kind: policy.KindInvalid, Field: "lang", Public: "must be go, rust, c or assemblyscript"}
}

func (l Lang) String() string {
	switch l {
	case Go:
		return "go"
	case Rust:
		return "rust"
	case C:
		return "c"
	case AssemblyScript:
		return "assemblyscript"
	default:
		return "none"
	}
}

// language is what the README says of a language.
type language struct {
	name      string
	needs     string // the tools
	main      string // the source file
	others    []file
	build     string // one command for a shell
	alsoBuild string // another way, as a paragraph; may be empty
}

type file struct{ Path, About string }

// language describes l for a project called name.
func (l Lang) language(name string) language {
	var d language
	switch l {
	case Go:
		d = language{
			name:  "Go",
			needs: "Go 1.25 or newer is needed.",
			main:  "main.go",
			others: []file{
				{"main_test.go", "its test: `go test .`"},
				{"guest/", "the kit it is written with, copied from Cordon"},
				{"go.mod", "requires no other module"},
			},
			build: "GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o NAME.wasm .",
		}
	case Rust:
		d = language{
			name:   "Rust",
			needs:  "The Rust compiler is needed with its target `wasm32-unknown-unknown` (Debian: `rustc libstd-rust-dev-wasm32 lld`).",
			main:   "lib.rs",
			others: []file{{"Cargo.toml", "for Cargo; requires no other crate"}},
			build: "rustc --edition 2021 --target wasm32-unknown-unknown --crate-type cdylib --crate-name plugin " +
				"-C opt-level=s -C panic=abort -C lto -C strip=symbols -o NAME.wasm lib.rs",
			alsoBuild: "\nWith Cargo: `cargo build --release --offline --target wasm32-unknown-unknown`, then copy\n" +
				"`target/wasm32-unknown-unknown/release/plugin.wasm` to `NAME.wasm`.\n",
		}
	case C:
		d = language{
			name:  "C",
			needs: "Clang and LLD 14 or newer are needed (Debian: `clang lld`).",
			main:  "NAME.c",
			build: "clang --target=wasm32 -Os -Wall -Wextra -ffreestanding -nostdlib -Wl,--no-entry -Wl,--strip-all -o NAME.wasm NAME.c",
		}
	case AssemblyScript:
		d = language{
			name:  "AssemblyScript",
			needs: "The compiler `asc` is needed (npm: `assemblyscript`, 0.27 or newer).",
			main:  "NAME.ts",
			build: "asc NAME.ts -o NAME.wasm --runtime minimal -Osize",
		}
	}
	for _, s := range []*string{&d.main, &d.build, &d.alsoBuild} {
		*s = strings.ReplaceAll(*s, "NAME", name)
	}
	return d
}

// Build is the shell command that builds the project called name, in its folder,
// into NAME.wasm.
func (l Lang) Build(name string) string { return l.language(name).build }
