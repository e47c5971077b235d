package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Unmonitored is a Cordon of this tree that tells nobody which clients come and go,
// as no release is: what monitoring costs is the difference. Nil for any other
// peer. It is built at the first call.
func (p *Peer) Unmonitored(ctx context.Context) (*Peer, error) {
	if p.Name != Cordon {
		return nil, nil //nolint:nilnil // as said
	}
	binary := filepath.Join(p.lab.dir, "cordon-unmonitored")
	if _, err := os.Stat(binary); errors.Is(err, os.ErrNotExist) {
		if err := p.lab.buildUnmonitored(ctx, binary); err != nil {
			return nil, err
		}
	}
	other := *p
	other.launch = func(e endpoints, keep bool) (string, []string, error) {
		_, args, err := p.launch(e, keep)
		return binary, args, err
	}
	return &other, nil
}

// buildUnmonitored compiles the program with another node.go.
func (l *Lab) buildUnmonitored(ctx context.Context, binary string) error {
	const wiring = ", Monitor: n.monitor,"
	original := filepath.Join(l.root, "node.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return err
	}
	if strings.Count(string(source), wiring) != 1 {
		return fmt.Errorf("%s does not say %q once", original, wiring)
	}
	changed, overlay := filepath.Join(l.dir, "node.go"), filepath.Join(l.dir, "overlay.json")
	replaced, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(changed, []byte(strings.Replace(string(source), wiring, ",", 1)), 0o600), //nolint:gosec // a folder of its own
		os.WriteFile(overlay, replaced, 0o600),
	)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", binary, ".")
	cmd.Dir = l.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build without monitoring: %w\n%s", err, out)
	}
	return nil
}
