package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	socketName  = "control.sock"
	pointerName = "control"

	// maxSocketPath is what every system takes: sun_path has 104 bytes on some,
	// 108 on Linux, with the final zero.
	maxSocketPath = 100
	// maxPointer bounds what is read of the pointer file, in bytes.
	maxPointer = 4096
	// probeTimeout is how long a socket has to accept before it counts as one
	// that answers slowly, which is still one that answers.
	probeTimeout = 2 * time.Second
)

// ErrRunning says that a broker already answers on this data folder.
var ErrRunning = errors.New("a broker is already running on this data folder")

// Listen opens the control socket of dataDir, which must exist. Closing the
// listener removes what Listen made.
func Listen(dataDir string) (net.Listener, error) {
	if err := clearStale(dataDir); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	path := filepath.Join(dataDir, socketName)
	if len(path) <= maxSocketPath {
		l, err := listenPrivate(path)
		if err != nil {
			return nil, fmt.Errorf("open control socket: %w", err)
		}
		return l, nil
	}
	l, err := listenElsewhere(dataDir)
	if err != nil {
		return nil, fmt.Errorf("open control socket outside %q, whose path is too long: %w", dataDir, err)
	}
	return l, nil
}

// listenPrivate opens a socket that only the owner can connect to.
func listenPrivate(path string) (net.Listener, error) {
	// The file appears with the mode of the socket, less the umask, so the mode
	// is set before the address is bound and no moment is left in between. Where
	// a system does not take a mode for a socket, the folder's own mode has to do
	// until the Chmod below.
	before := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
	}}
	l, err := before.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// listenElsewhere opens a socket under a short path and leaves that path in
// dataDir.
func listenElsewhere(dataDir string) (net.Listener, error) {
	dir, err := shortDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, socketName)
	l, err := listenPrivate(path)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	pointer := filepath.Join(dataDir, pointerName)
	if err := replaceFile(pointer, path+"\n"); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(dir))
	}
	return &pointedListener{Listener: l, dir: dir, pointer: pointer}, nil
}

// shortDir makes a fresh folder of mode 0700 whose path leaves room for a
// socket's name.
func shortDir() (string, error) {
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		// MkdirTemp appends up to ten digits.
		if !filepath.IsAbs(base) || len(base)+len("/cordon-0123456789/")+len(socketName) > maxSocketPath {
			continue
		}
		if dir, err := os.MkdirTemp(base, "cordon-"); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no runtime folder with a short path can be written to")
}

// replaceFile writes text to path in one step, with mode 0600.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".control-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// pointedListener is a listener that lies outside the data folder.
type pointedListener struct {
	net.Listener
	dir, pointer string
}

// Close closes the socket, which removes its file, and then the rest.
func (l *pointedListener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return errors.Join(err, os.Remove(l.dir), os.Remove(l.pointer))
}

// clearStale removes what a broker that died left behind.
func clearStale(dataDir string) error {
	if err := clearSocket(filepath.Join(dataDir, socketName)); err != nil {
		return err
	}
	path, err := readPointer(dataDir)
	if err != nil || path == "" {
		return err
	}
	if err := clearSocket(path); err != nil {
		return err
	}
	// The folder goes only if it is empty; it may also be gone already, or belong
	// to somebody else by now.
	_ = os.Remove(filepath.Dir(path))
	return os.Remove(filepath.Join(dataDir, pointerName))
}

// clearSocket removes the socket at path if nobody answers on it.
func clearSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way and is not a socket", path)
	}
	answers, err := probe(path)
	switch {
	case err != nil:
		return err
	case answers:
		return ErrRunning
	default:
		return os.Remove(path)
	}
}

// probe reports whether somebody accepts connections at path. Only a refused
// connection and a missing file are a no; any other failure proves nothing.
func probe(path string) (bool, error) {
	if len(path) > maxSocketPath {
		return false, nil // no socket can be bound under such a path
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		return true, conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return true, nil // its queue is full
	default:
		return false, err
	}
}

// readPointer returns the path that DATA/control holds, empty when there is
// none.
func readPointer(dataDir string) (string, error) {
	b, err := readSmall(filepath.Join(dataDir, pointerName), maxPointer)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	path := strings.TrimSuffix(string(b), "\n")
	if !filepath.IsAbs(path) || filepath.Base(path) != socketName || len(path) > maxSocketPath {
		return "", fmt.Errorf("%s does not hold the path of a control socket", filepath.Join(dataDir, pointerName))
	}
	return path, nil
}
