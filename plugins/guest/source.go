//go:build !wasip1

package guest

import "embed"

//go:embed answer.go config.go doc.go export_wasip1.go fields.go host_native.go host_wasip1.go json.go jsonwrite.go object.go plugin.go request.go serve.go signature.go
var source embed.FS

// Source is this package's own source without this file and the tests, for
// projects that keep a copy.
func Source() embed.FS { return source }
