package badgerstore_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
)

// victimEnv names the folder in the environment of a process that is to be
// killed.
const victimEnv = "STORE_TEST_VICTIM"

const victimWriters = 4

func victimKey(writer, n int) store.Key {
	return store.In("org001", 1).Key(store.KindQueue, fmt.Sprint(writer), store.Uint64(uint64(n)))
}

// victim commits without end and writes down each answer, until it is killed.
func victim(dir string) int {
	s, err := badgerstore.Open(dir, badgerstore.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for n := 0; ; n++ {
		for writer := range victimWriters {
			ops := []store.Op{
				store.Put(victimKey(writer, n), fmt.Append(nil, n)),
				store.Put(store.In("org001", 1).Key(store.KindSession, fmt.Sprint(writer)), fmt.Append(nil, n)),
			}
			s.Commit(ops, func(err error) {
				if err == nil {
					fmt.Println(writer, n)
				}
			})
		}
	}
}

// A process that is killed loses nothing that it acknowledged, and leaves a
// folder that opens at once.
func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), victimEnv+"="+dir)
	process.Stderr = os.Stderr
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}

	acknowledged := make(map[int]int) // writer → number of its last answer
	lines := bufio.NewScanner(output)
	for count := 0; lines.Scan(); count++ {
		var writer, n int
		if _, err := fmt.Sscan(lines.Text(), &writer, &n); err == nil {
			acknowledged[writer] = n
		}
		if count == 5000 {
			if err := process.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			// What it said before it died is read on to the end.
		}
	}
	if err := process.Wait(); err == nil {
		t.Fatal("the process ended by itself")
	}
	if len(acknowledged) != victimWriters {
		t.Fatalf("%d writers acknowledged something, want %d", len(acknowledged), victimWriters)
	}

	s := open(t, dir, badgerstore.Options{})
	for writer, last := range acknowledged {
		for n := range last + 1 {
			if got, err := s.Get(victimKey(writer, n)); err != nil || string(got) != fmt.Sprint(n) {
				t.Fatalf("writer %d acknowledged %d, but %d reads %q, %v", writer, last, n, got, err)
			}
		}
		// Each commit wrote both keys or none.
		session, err := s.Get(store.In("org001", 1).Key(store.KindSession, fmt.Sprint(writer)))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(session))
		if err != nil || n < last {
			t.Errorf("writer %d: session at %q, %v; acknowledged %d", writer, session, err, last)
		}
		if _, err := s.Get(victimKey(writer, n)); err != nil {
			t.Errorf("writer %d: session at %d whose message is missing: %v", writer, n, err)
		}
		if _, err := s.Get(victimKey(writer, n+1)); err == nil {
			t.Errorf("writer %d: message %d without its session", writer, n+1)
		}
	}
}
