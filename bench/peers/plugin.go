package peers

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cordon-mq/cordon/bench/load"
)

// jwtSettings lets the first-party plugin jwt take tokens of the benchmark's own.
const jwtSettings = `name: jwt
settings:
  algorithms: [HS256]
  issuer: bench
  any_audience: true
  hmac_keys: [{secret: hs256}]
  identity:
    kind: device
    type: sensor
    id: {claim: sub}
secrets:
  hs256: hs256.key
limits: {deadline: 1s}
`

// installJWT builds the plugin jwt into the data folder and returns who a device
// is by a token of its own.
func (l *Lab) installJWT(ctx context.Context, data string) (func(i int) load.Identity, error) {
	dir := filepath.Join(data, "plugins", organisation)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-o", filepath.Join(dir, "jwt.wasm"), ".")
	cmd.Dir = filepath.Join(l.root, "plugins", "jwt")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build plugins/jwt: %w\n%s", err, out)
	}
	key := []byte(rand.Text() + rand.Text())
	if err := os.WriteFile(filepath.Join(dir, "hs256.key"), key, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "jwt.yaml"), []byte(jwtSettings), 0o600); err != nil {
		return nil, err
	}
	expires := time.Now().Add(12 * time.Hour).Unix()
	return func(i int) load.Identity {
		return load.Identity{
			ClientID: fmt.Sprintf("d:%s:sensor:d%d", organisation, i), Username: "use-plugin:jwt",
			Password: token(key, map[string]any{"iss": "bench", "sub": fmt.Sprintf("d%d", i), "exp": expires}),
		}
	}, nil
}

// token is a JSON Web Token signed with HS256.
func token(key []byte, claims map[string]any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v) // of maps of text and numbers: cannot fail
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]any{"alg": "HS256", "typ": "JWT"}) + "." + part(claims)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Plugged is who device i connects as with a token that a plugin checks; ok says
// whether the peer has one.
func (p *Peer) Plugged(i int) (who load.Identity, ok bool) {
	if p.plugged == nil {
		return who, false
	}
	return p.plugged(i), true
}
