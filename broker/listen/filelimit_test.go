package listen_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/listen"
)

// fileLimitChild in the environment makes the test binary a server that runs
// out of file descriptors. A process of its own, since the limit holds for all
// of it.
const fileLimitChild = "CORDON_TEST_FILE_LIMIT"

const childFiles = 32 // descriptors the server may open

// serveWithFewFiles prints its address, then its log, and ends with its input.
func serveWithFewFiles() {
	limit := syscall.Rlimit{Cur: childFiles, Max: childFiles}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		fmt.Println("setrlimit:", err)
		os.Exit(1)
	}
	l, err := listen.Listen(listen.Config{
		Name: "mqtt", Address: "127.0.0.1:0", SetupTimeout: time.Minute,
		Log: slog.New(slog.NewTextHandler(os.Stdout, nil)),
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	stop := serve(l, echo)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := stop(); err != nil {
		os.Exit(1)
	}
}

func TestRunningOutOfFilesDoesNotEndTheListener(t *testing.T) {
	t.Parallel()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), binary, "-test.run=^$")
	child.Env = append(os.Environ(), fileLimitChild+"=1")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(output)
	lines.Scan()
	address := lines.Text()

	// The kernel completes every connection; the server can take only some.
	var clients []net.Conn
	for range 2 * childFiles {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("dial %q: %v", address, err)
		}
		clients = append(clients, c)
	}
	for lines.Scan() && !strings.Contains(lines.Text(), "too many open files") {
	}
	if !strings.Contains(lines.Text(), "too many open files") {
		t.Fatalf("the server never ran out of files; its last line: %q", lines.Text())
	}
	mustEcho(t, clients[0]) // one that was accepted still works
	for _, c := range clients {
		_ = c.Close()
	}

	again, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.SetDeadline(time.Now().Add(time.Minute))
	mustEcho(t, again)
	_ = again.Close()

	_ = input.Close()
	for lines.Scan() { // let the server write, until it ends
	}
	if err := child.Wait(); err != nil {
		t.Errorf("server: %v", err)
	}
}
