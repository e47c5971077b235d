package wasm

import (
	"encoding/base64"

	"github.com/tetratelabs/wazero/api"
)

// Names and versions of auth_abi v1. ABI.md says what they mean.
const (
	abiVersion = 1

	exportMemory    = "memory"
	exportVersion   = "auth_abi_v1"
	exportAlloc     = "auth_alloc"
	exportVerify    = "auth_verify"
	exportConfigure = "auth_configure"
	exportFree      = "auth_free"
	exportInit      = "_initialize"
	exportStart     = "cordon.start" // the rewriting makes it of a start function

	moduleCordon = "cordon"
	moduleWASI   = "wasi_snapshot_preview1"
	moduleEnv    = "env"
)

// signature is a function's type.
type signature struct{ params, results []api.ValueType }

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

// export is a function a plugin has, or may have.
type export struct {
	name   string
	needed bool
	signature
}

// exports are the functions of auth_abi v1.
func exports() []export {
	return []export{
		{exportVersion, true, signature{nil, types(i32)}},
		{exportAlloc, true, signature{types(i32), types(i32)}},
		{exportVerify, true, signature{types(i32, i32), types(i64)}},
		{exportConfigure, false, signature{types(i32, i32), types(i32)}},
		{exportFree, false, signature{types(i32, i32), nil}},
		{exportInit, false, signature{nil, nil}},
	}
}

func types(t ...api.ValueType) []api.ValueType { return t }

// request is what a guest is asked.
type request struct {
	V        int          `json:"v"`
	Org      string       `json:"org,omitempty"`
	Username string       `json:"username,omitempty"`
	ClientID string       `json:"client_id,omitempty"`
	Token    *octets      `json:"token,omitempty"`
	Peer     peer         `json:"peer"`
	Auth     *requestAuth `json:"auth,omitempty"`
	State    octets       `json:"state,omitempty"`
	NowMS    int64        `json:"now_ms"`
}

type peer struct {
	Address string   `json:"address,omitempty"`
	TLS     *peerTLS `json:"tls,omitempty"`
}

type peerTLS struct {
	Version string    `json:"version,omitempty"`
	SNI     string    `json:"sni,omitempty"`
	Cert    *peerCert `json:"cert,omitempty"`
}

type peerCert struct {
	Subject string   `json:"subject,omitempty"`
	SAN     []string `json:"san,omitempty"`
	SHA256  string   `json:"sha256,omitempty"`
}

type requestAuth struct {
	Method string `json:"method,omitempty"`
	Data   octets `json:"data,omitempty"`
}

// answer is what a guest says.
type answer struct {
	OK          bool           `json:"ok"`
	NotMine     bool           `json:"not_mine"`
	Org         string         `json:"org"`
	Subject     answerSubject  `json:"subject"`
	Claims      map[string]any `json:"claims"`
	ExpiresAtMS int64          `json:"expires_at_ms"`
	CacheTTLMS  int64          `json:"cache_ttl_ms"`
	Reason      string         `json:"reason"`
	UnknownKID  string         `json:"unknown_kid"`
	Continue    *octets        `json:"continue"`
	State       octets         `json:"state"`
	Data        octets         `json:"data"`
}

type answerSubject struct {
	Kind string `json:"kind"`
	Type string `json:"type"`
	ID   string `json:"id"`
	App  string `json:"app"`
}

// configuration is what auth_configure gets.
type configuration struct {
	V        int               `json:"v"`
	Org      string            `json:"org,omitempty"`
	Settings map[string]any    `json:"settings"`
	Secrets  map[string]octets `json:"secrets"`
	JWKS     map[string]keySet `json:"jwks"`
}

// octets are base64 in JSON, as in RFC 4648 §4.
type octets []byte

// MarshalText encodes.
func (o octets) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, o), nil
}
