// Package rego embeds the built-in policies, their tests, and the JSON schemas
// of what a policy is asked and may answer. It holds files and nothing else:
// package policy/opa reads them through [fs.FS] and never imports this package.
package rego

import (
	"embed"
	"io/fs"
)

//go:embed cordon
var bundle embed.FS

//go:embed schemas/*.json
var schemas embed.FS

// Bundle is the default policy bundle: its top folder is "cordon", one folder
// below it per package.
func Bundle() fs.FS { return bundle }

// Schemas has "input.<action>.json" and "decision.<action>.json" for connect,
// publish, subscribe, receive and admin.
func Schemas() fs.FS {
	// Sub fails only for an ill-formed folder name.
	sub, _ := fs.Sub(schemas, "schemas")
	return sub
}
