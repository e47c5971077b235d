package wire_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cordon-mq/cordon/broker/wire"
)

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	connect := &wire.Connect{Version: wire.V5, HasPassword: true, Password: []byte("hunter2"), AuthData: []byte("hunter2")}
	auth := &wire.Auth{Method: "m", Data: []byte("hunter2")}
	var out bytes.Buffer
	for _, v := range []any{connect, *connect, auth, *auth, []any{connect, *auth}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "packet", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "packet", v)
	}
	if !strings.Contains(out.String(), "CONNECT 5") || !strings.Contains(out.String(), "AUTH 0x00") {
		t.Error("nothing is printed")
	}
	for _, spelling := range []string{"hunter2", "104 117 110", "0x68, 0x75", "aHVudGVyMg", "68756e7465723"} {
		if strings.Contains(out.String(), spelling) {
			t.Errorf("the secret is printed as %s", spelling)
		}
	}
}
