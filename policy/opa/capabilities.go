package opa

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/cordon-mq/cordon/policy/opa/confined"
)

// removedBuiltins are those that reach outside the policy: the network, the
// environment, randomness, or that make signatures. The text completes the
// sentence "NAME is not available to policies: it …". Read only.
var removedBuiltins = map[string]string{
	"http.send":              "reaches the network; what a policy needs to know arrives in input or its data files",
	"net.lookup_ip_addr":     "reaches the network; what a policy needs to know arrives in input or its data files",
	"json.match_schema":      "can follow references to other files and hosts",
	"json.verify_schema":     "can follow references to other files and hosts",
	"opa.runtime":            "shows the environment of the broker",
	"rand.intn":              "is random, so an answer could not be remembered or explained",
	"uuid.rfc4122":           "is random, so an answer could not be remembered or explained",
	"io.jwt.encode_sign":     "makes a signature; policies decide, they do not issue credentials",
	"io.jwt.encode_sign_raw": "makes a signature; policies decide, they do not issue credentials",
	"providers.aws.sign_req": "makes a signature; policies decide, they do not issue credentials",
}

// clockBuiltins answer differently as time passes: an answer that can depend on
// one holds only for as long as it says. Read only.
var clockBuiltins = map[string]bool{
	"time.now_ns":          true,
	"io.jwt.decode_verify": true, // checks exp and nbf
	"crypto.x509.parse_and_verify_certificates":              true, // checks validity
	"crypto.x509.parse_and_verify_certificates_with_options": true,
}

// capabilities are what this OPA version has, without removedBuiltins and with
// no host allowed. AllowNet must be empty, not nil: nil allows every host.
func capabilities() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.Builtins = slices.DeleteFunc(c.Builtins, func(b *ast.Builtin) bool {
		_, removed := removedBuiltins[b.Name]
		return removed
	})
	c.Builtins = confined.OwnTypes(c.Builtins)
	c.AllowNet = []string{}
	return c
}
