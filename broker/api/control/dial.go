package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// BaseURL is what the paths of the operator API are appended to, such as
// BaseURL + "/organisations", in a request made with the client of [Dial].
const BaseURL = "http://control/api/operator/v1"

// callTimeout bounds one command-line call from end to end.
const callTimeout = time.Minute

// ErrNotRunning says that no broker answers on the data folder, so that its
// store can be opened instead.
var ErrNotRunning = errors.New("no broker is running on this data folder")

// Dial returns a client whose requests go to the broker that runs on dataDir,
// whatever host their URL names. The caller closes its idle connections.
func Dial(dataDir string) (*http.Client, error) {
	path, err := find(dataDir)
	if err != nil {
		return nil, fmt.Errorf("reach the broker of %q: %w", dataDir, err)
	}
	return &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// find returns the path of a socket that answers and can be trusted.
func find(dataDir string) (string, error) {
	pointed, err := readPointer(dataDir)
	if err != nil {
		return "", err
	}
	for _, path := range []string{filepath.Join(dataDir, socketName), pointed} {
		if path == "" {
			continue
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSocket {
			return "", fmt.Errorf("%s is not a socket", path)
		}
		if err := checkOwner(dataDir, filepath.Dir(path), path); err != nil {
			return "", err
		}
		answers, err := probe(path)
		if err != nil {
			return "", err
		}
		if answers {
			return path, nil
		}
	}
	return "", ErrNotRunning
}

// checkOwner refuses paths that belong to anybody but the owner of dataDir, the
// caller and root.
func checkOwner(dataDir string, paths ...string) error {
	trusted, err := ownerOf(dataDir)
	if err != nil {
		return err
	}
	for _, path := range paths {
		owner, err := ownerOf(path)
		if err != nil {
			return err
		}
		if owner != trusted && owner != 0 && int(owner) != os.Getuid() {
			return fmt.Errorf("%s belongs to another user", path)
		}
	}
	return nil
}

func ownerOf(path string) (uint32, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return 0, err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if info, err = os.Stat(path); err != nil {
			return 0, err
		}
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fmt.Errorf("the owner of %s cannot be told", path)
	}
	return stat.Uid, nil
}

// readSmall reads a file that must be regular and at most limit bytes long.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, limit)
	}
	return b, nil
}
