package registry

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-mq/cordon/broker/store"
	"github.com/cordon-mq/cordon/broker/store/badgerstore"
	"github.com/cordon-mq/cordon/plugins"
	"github.com/cordon-mq/cordon/policy"
)

// victimEnv names the folder in the environment of a process that is to be
// killed.
const victimEnv = "REGISTRY_TEST_VICTIM"

// victimCall is how many devices the victim adds in one bulk call.
const victimCall = 3 * bulkStep

// victimParts is how many devices the victim's gateway has at most.
const victimParts = 50

func behindID(n int) policy.ID { return policy.ID(fmt.Sprintf("p%07d", n)) }

// victim adds devices without end, also behind a gateway, and imports and deletes another organisation. It
// says what was answered, until it is killed.
func victim(dir string) int {
	st, err := badgerstore.Open(dir, badgerstore.Options{})
	if err == nil {
		var r *Registry
		if r, err = Open(st, Options{}); err == nil {
			err = work(r)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func work(r *Registry) error {
	ctx := context.Background()
	if _, err := r.CreateOrganisation(ctx, acme, ""); err != nil {
		return err
	}
	if _, err := r.CreateType(ctx, acme, DeviceType{ID: "sensor"}); err != nil {
		return err
	}
	if _, err := r.CreateOrganisation(ctx, other, ""); err != nil {
		return err
	}
	if _, err := r.CreateType(ctx, other, DeviceType{ID: "sensor"}); err != nil {
		return err
	}
	if _, err := r.AddDevices(ctx, other, newDevices(victimCall)); err != nil {
		return err
	}
	var file bytes.Buffer
	if _, err := r.Export(ctx, other, &file, ExportOptions{}); err != nil {
		return err
	}
	if _, err := r.CreateType(ctx, acme, DeviceType{ID: "hub", ClassID: ClassGateway}); err != nil {
		return err
	}
	if _, _, err := r.CreateDevice(ctx, acme, Device{Type: "hub", ID: "g1"}, plugins.Secret{}); err != nil {
		return err
	}
	if _, err := r.CreateType(ctx, acme, DeviceType{ID: "part"}); err != nil {
		return err
	}
	failed := make(chan error, 4)
	if _, err := r.CreateType(ctx, acme, DeviceType{ID: "claimed"}); err != nil {
		return err
	}
	c, token, err := r.CreateClaim(ctx, acme, Claim{Type: "claimed", Count: maxClaimUses, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		return err
	}
	fmt.Println("claim", c.ID)
	go func() {
		for n := 0; n < maxClaimUses; n++ {
			if err := provisionOne(ctx, r, DeviceName{"claimed", behindID(n)}, token); err != nil {
				failed <- err
				return
			}
		}
	}()
	go func() {
		for n := 0; ; n++ {
			if _, err := r.RegisterBehind(ctx, acme, DeviceName{"hub", "g1"}, DeviceName{"part", behindID(n)}); err != nil {
				failed <- err
				return
			}
			fmt.Println("behind", n)
			if n >= victimParts {
				if err := r.DeleteDevice(ctx, acme, "part", behindID(n-victimParts)); err != nil {
					failed <- err
					return
				}
			}
		}
	}()
	go func() {
		for {
			if err := r.DeleteOrganisation(ctx, other); err != nil {
				failed <- err
				return
			}
			if _, err := r.Import(ctx, bytes.NewReader(file.Bytes()), ImportOptions{}); err != nil {
				failed <- err
				return
			}
			fmt.Println("imported 0")
		}
	}()
	go func() {
		for n := 0; ; n++ {
			call := newDevices(victimCall)
			for i := range call {
				call[i].Device.ID = policy.ID(fmt.Sprintf("b%05d-%05d", n, i))
			}
			if results, err := r.AddDevices(ctx, acme, call); err != nil || results[len(results)-1].Err != nil {
				failed <- fmt.Errorf("%w %v", err, results)
				return
			}
			fmt.Println("added", n)
		}
	}()
	return <-failed
}

// provisionOne does all that a device does with a claim.
func provisionOne(ctx context.Context, r *Registry, name DeviceName, token string) error {
	p, err := r.verifyClaim(ctx, acme, name, plugins.NewSecret([]byte(token)))
	if err != nil {
		return err
	}
	if _, err := r.SpendClaim(ctx, &p); err != nil {
		return err
	}
	if p, err = r.Refresh(ctx, &p); err != nil {
		return err
	}
	_, err = r.HandOver(ctx, &p)
	return err
}

// A process that is killed in the middle of bulk calls and imports leaves whole
// devices, those of every call that was answered, and an organisation that is
// either there as a whole or not at all.
func TestKillLeavesWholeRecords(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
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
			kill := sync.OnceFunc(func() { _ = process.Process.Kill() })
			defer kill()
			answered, behind, lines := 0, -1, bufio.NewScanner(output)
			var claim policy.ID
			for count := 1; lines.Scan(); count++ {
				var what string
				var n int
				if id, ok := strings.CutPrefix(lines.Text(), "claim "); ok {
					claim = policy.ID(id)
					count--
				} else if _, err := fmt.Sscan(lines.Text(), &what, &n); err == nil && what == "added" {
					answered = (n + 1) * victimCall
				} else if err == nil && what == "behind" {
					behind = n
					count-- // there are a great many
				}
				if count == 4+3*round {
					kill()
				}
			}
			if err := process.Wait(); err == nil {
				t.Fatal("the process ended by itself")
			}

			st, err := badgerstore.Open(dir, badgerstore.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			r, err := Open(st, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			r.background.Wait()

			last, devices := policy.ID(""), 0
			h, err := r.homeOf(acme)
			if err != nil {
				t.Fatal(err)
			}
			err = st.Scan(h.scope.Prefix(store.KindDevice, "sensor"), store.Key{}, func(key store.Key, _ []byte) bool {
				id := policy.ID(fmt.Sprintf("b%05d-%05d", devices/victimCall, devices%victimCall))
				if last = policy.ID(key.Parts()[1]); last != id {
					t.Errorf("device %s where %s should be", last, id)
				}
				devices++
				return !t.Failed()
			})
			if err != nil || devices < answered {
				t.Errorf("%d devices, answered were %d (%v)", devices, answered, err)
			}
			parts := 0
			err = st.Scan(h.scope.Prefix(store.KindDevice, "part"), store.Key{}, func(store.Key, []byte) bool { parts++; return true })
			if err != nil || parts > victimParts+1 {
				t.Errorf("%d devices behind the gateway, %v", parts, err)
			}
			if _, err := r.Device(t.Context(), acme, "part", behindID(behind)); behind >= 0 && err != nil {
				t.Errorf("what was registered last is not there: %v", err)
			}
			spent := 0
			err = st.Scan(h.scope.Prefix(store.KindDevice, "claimed"), store.Key{}, func(store.Key, []byte) bool { spent++; return true })
			if c, claimErr := r.Claim(t.Context(), acme, claim); err != nil || claimErr != nil || c.Count-c.Left != spent {
				t.Errorf("%d devices by a claim with %d of %d left, %v", spent, c.Left, c.Count, errors.Join(err, claimErr))
			}
			checkWhole(t, r, acme, devices+parts+spent+1)
			if _, err := r.Organisation(t.Context(), other); policy.KindOf(err) != policy.KindNotFound {
				checkWhole(t, r, other, victimCall)
			}
			// Nothing else of it is left, of however many imports.
			keys := 0
			err = st.Scan(store.Global().Prefix(store.KindDirectory, ""), store.Key{}, func(store.Key, []byte) bool { keys++; return true })
			if err != nil || keys != 0 {
				t.Errorf("%d marks are left, %v", keys, err)
			}
			for incarnation := uint64(1); incarnation <= r.writer.last; incarnation++ {
				if scope, _ := r.scopeOf(other); scope != store.In(other.String(), incarnation) && left(t, st, other, incarnation) > 0 {
					t.Errorf("incarnation %d is left", incarnation)
				}
			}
		})
	}
}
