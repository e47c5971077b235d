package control

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// serve answers every request on l with the host and path it was asked for.
func serve(t *testing.T, l net.Listener) {
	t.Helper()
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host+r.URL.Path)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

// dataDir is a data folder whose socket path is short enough, or too long.
func dataDir(t *testing.T, long bool) string {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "ct-") //nolint:usetesting // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	if !long {
		return base
	}
	dir := filepath.Join(base, strings.Repeat("a-long-name/", 9))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// socketOf is where the socket of dir lies.
func socketOf(t *testing.T, dir string, long bool) string {
	t.Helper()
	if !long {
		return filepath.Join(dir, socketName)
	}
	path, err := readPointer(dir)
	if err != nil || path == "" {
		t.Fatalf("pointer = %q, %v", path, err)
	}
	return path
}

func eachLength(t *testing.T, f func(t *testing.T, long bool)) {
	t.Run("short path", func(t *testing.T) { f(t, false) })
	t.Run("long path", func(t *testing.T) { f(t, true) })
}

func TestListenAndDial(t *testing.T) {
	eachLength(t, func(t *testing.T, long bool) {
		runtime := dataDir(t, false)
		t.Setenv("XDG_RUNTIME_DIR", runtime)
		dir := dataDir(t, long)
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l)

		path := socketOf(t, dir, long)
		if got, want := mode(t, path), fs.ModeSocket|0o600; got != want {
			t.Errorf("socket mode = %v, want %v", got, want)
		}
		if long {
			if !strings.HasPrefix(path, runtime+"/") {
				t.Errorf("socket at %s, want it under %s", path, runtime)
			}
			if got, want := mode(t, filepath.Dir(path)), fs.ModeDir|0o700; got != want {
				t.Errorf("folder mode = %v, want %v", got, want)
			}
			if got, want := mode(t, filepath.Join(dir, pointerName)), fs.FileMode(0o600); got != want {
				t.Errorf("pointer mode = %v, want %v", got, want)
			}
		}

		client, err := Dial(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer client.CloseIdleConnections()
		resp, err := client.Get(BaseURL + "/status")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got, want := string(body), "control/api/operator/v1/status"; err != nil || got != want {
			t.Errorf("answer = %q, %v, want %q", got, err, want)
		}
		if _, err := Listen(dir); !errors.Is(err, ErrRunning) {
			t.Errorf("a second Listen = %v, want ErrRunning", err)
		}
		if _, err := Dial(dir); err != nil {
			t.Errorf("Dial after a second Listen = %v", err)
		}
	})
}

func TestCloseRemovesWhatListenMade(t *testing.T) {
	eachLength(t, func(t *testing.T, long bool) {
		t.Setenv("XDG_RUNTIME_DIR", dataDir(t, false))
		dir := dataDir(t, long)
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := socketOf(t, dir, long)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		gone := []string{path, filepath.Join(dir, pointerName)}
		if long {
			gone = append(gone, filepath.Dir(path))
		}
		for _, path := range gone {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closing again = %v, want net.ErrClosed", err)
		}
		if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Dial = %v, want ErrNotRunning", err)
		}
	})
}

// A broker that died leaves its socket behind, and the next one takes over.
func TestStaleSocket(t *testing.T) {
	eachLength(t, func(t *testing.T, long bool) {
		t.Setenv("XDG_RUNTIME_DIR", dataDir(t, false))
		dir := dataDir(t, long)
		dead, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		path := socketOf(t, dir, long)
		abandon(t, dead)

		if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
			t.Errorf("Dial = %v, want ErrNotRunning", err)
		}
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l)
		if long {
			if _, err := os.Lstat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the old folder is still there: %v", err)
			}
		}
		if _, err := Dial(dir); err != nil {
			t.Errorf("Dial = %v", err)
		}
	})
}

// abandon closes the socket as the death of a process does: its files stay.
func abandon(t *testing.T, l net.Listener) {
	t.Helper()
	if p, ok := l.(*pointedListener); ok {
		l = p.Listener
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	t.Parallel()
	dir := dataDir(t, false)
	path := filepath.Join(dir, socketName)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir); err == nil {
		t.Error("Listen took the place of a file that is no socket")
	}
	if _, err := Dial(dir); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial = %v, want an error that says what is in the way", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestListenNeedsTheFolder(t *testing.T) {
	t.Parallel()
	if _, err := Listen(filepath.Join(dataDir(t, false), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Listen = %v, want fs.ErrNotExist", err)
	}
}

// The mode is right even while the umask gives everything away. The umask
// belongs to the whole process, so this test does not run beside others.
func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		dir := dataDir(t, false)
		old := syscall.Umask(mask)
		l, err := Listen(dir)
		_, tokenErr := Token(dir)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := mode(t, filepath.Join(dir, socketName)), fs.ModeSocket|0o600; got != want {
			t.Errorf("umask %04o: socket mode = %v, want %v", mask, got, want)
		}
		if mask == 0 {
			if got := mode(t, filepath.Join(dir, tokenName)); tokenErr != nil || got != 0o600 {
				t.Errorf("token mode = %v, %v, want 0600", got, tokenErr)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// What is bound is private before anybody can connect, not only afterwards.
func TestModeIsSetBeforeBinding(t *testing.T) {
	dir := dataDir(t, false)
	path := filepath.Join(dir, socketName)
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	if err := syscall.Fchmod(fd, 0o600); err != nil {
		t.Skipf("this system sets no mode on a socket: %v", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if got, want := mode(t, path), fs.ModeSocket|0o600; got != want {
		t.Errorf("mode after bind = %v, want %v", got, want)
	}
}

func TestPointerMustNameASocket(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"relative":     "control.sock\n",
		"other name":   "/tmp/other.sock\n",
		"too long":     "/" + strings.Repeat("x", 120) + "/control.sock\n",
		"empty":        "",
		"far too long": strings.Repeat("/x", maxPointer) + "/control.sock",
	} {
		dir := dataDir(t, false)
		if err := os.WriteFile(filepath.Join(dir, pointerName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Dial(dir); err == nil || errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: Dial = %v, want an error that names the file", name, err)
		}
		if _, err := Listen(dir); err == nil {
			t.Errorf("%s: Listen accepted it", name)
		}
	}
}

// Somebody else made a folder of the right name and listens in it.
func TestDialRefusesAnotherUsersSocket(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file away")
	}
	const somebody = 12345
	runtime := dataDir(t, false)
	t.Setenv("XDG_RUNTIME_DIR", runtime)
	dir := dataDir(t, true)
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
	if err := os.Lchown(socketOf(t, dir, true), somebody, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Dial(dir); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Errorf("Dial = %v, want a refusal", err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	dir := dataDir(t, false)
	first, err := Token(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.Len() != 64 {
		t.Errorf("token has %d characters, want 64", first.Len())
	}
	if got := mode(t, filepath.Join(dir, tokenName)); got != 0o600 {
		t.Errorf("mode = %v, want 0600", got)
	}
	again, err := Token(dir)
	if err != nil || !again.Equal(first.Reveal()) {
		t.Errorf("the token changed between two calls (%v)", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v, want the token alone", entries, err)
	}
}

func TestTokenIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := dataDir(t, false)
	tokens := make([]string, 8)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			token, err := Token(dir)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = string(token.Reveal())
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token != tokens[0] || token == "" {
			t.Fatal("two callers got different tokens")
		}
	}
}

func TestTokenFileIsRefused(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("ab", tokenBytes)
	for name, file := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		"readable by the group": {good, 0o640},
		"readable by everybody": {good, 0o604},
		"empty":                 {"", 0o600},
		"too short":             {good[2:], 0o600},
		"too long":              {good + "abcd", 0o600},
		"not hexadecimal":       {"zz" + good[2:], 0o600},
	} {
		dir := dataDir(t, false)
		path := filepath.Join(dir, tokenName)
		if err := os.WriteFile(path, []byte(file.text), file.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, file.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Token(dir)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(file.text) > 8 && strings.Contains(err.Error(), file.text) {
			t.Errorf("%s: the error tells the token", name)
		}
	}
}

func TestTokenIsNoLink(t *testing.T) {
	t.Parallel()
	dir := dataDir(t, false)
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte(strings.Repeat("ab", tokenBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, filepath.Join(dir, tokenName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Token(dir); err == nil {
		t.Error("a symbolic link was followed")
	}
}
