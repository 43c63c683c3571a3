package broker_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"muster/boot"
	"muster/broker"
	"muster/broker/store"
	"muster/broker/store/storetest"
)

// smallEnv names the directory in which this test's program, run again with mounts of its own, puts a small disk.
const smallEnv = "MUSTER_TEST_SMALL_DISK"

// F6: on a full disk machines that are known boot, what would be written is refused as busy, and all is well again once
// there is space.
func TestF6AFullDisk(t *testing.T) {
	if dir := os.Getenv(smallEnv); dir != "" {
		fullDisk(t, dir)
		return
	}
	again := exec.Command(os.Args[0], "-test.run=^TestF6AFullDisk$", "-test.v")
	again.Env = append(os.Environ(), smallEnv+"="+t.TempDir())
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	out, err := again.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Skipf("no mounts of one's own here: %v", err)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := brokerOn(t, s, broker.Config{})
	mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	_, m, key := arrive(t, b, 1)
	_, f, _ := machine(t, 1)
	tell := func(product string) error {
		f.System.Product = product
		_, err := report(t.Context(), b, key, "", f)
		return err
	}
	filler := fillDisk(t, dir)
	acknowledged := ""
	for i := range 1000 {
		product := fmt.Sprintf("product %d", i)
		if err = tell(product); err != nil {
			break
		}
		acknowledged = product
	}
	if !errors.Is(err, broker.ErrBusy) {
		t.Errorf("a check-in on a full disk: %v; want ErrBusy", err)
	}
	if step, err := b.Next(t.Context(), boot.Client{MAC: m}); err != nil || step.Kind != boot.StepRamdisk {
		t.Errorf("a known machine on a full disk: %v %v; want the ramdisk", step.Kind, err)
	}
	if _, err := b.Next(t.Context(), boot.Client{MAC: mac(t, "52:54:00:01:00:00")}); !errors.Is(err, broker.ErrBusy) {
		t.Errorf("a new machine on a full disk: %v; want ErrBusy", err)
	}
	if acknowledged != "" && node(t, b, m.String()).Facts.System.Product != acknowledged {
		t.Errorf("product %q; want what was acknowledged last, %q", node(t, b, m.String()).Facts.System.Product, acknowledged)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := tell("after"); err != nil {
		t.Errorf("a check-in once there is space: %v", err)
	}
	arrive(t, b, 2)
}

// fillDisk takes what space there is.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return f.Name()
}

// F11: a PostgreSQL that takes no writes, as a standby does, serves who is known.
func TestPostgresTakesNoWrites(t *testing.T) {
	server := storetest.StartPostgres(t)
	list, _ := several(t, server, 1, broker.Config{})
	b := list[0]
	mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	_, m, key := arrive(t, b, 1)
	server.Stop(t)
	server.Start(t, "default_transaction_read_only=on")
	_, f, _ := machine(t, 1)
	if _, err := report(t.Context(), b, key, "", f); !errors.Is(err, broker.ErrBusy) {
		t.Errorf("a check-in: %v; want ErrBusy", err)
	}
	if step, err := b.Next(t.Context(), boot.Client{MAC: m}); err != nil || step.Kind != boot.StepRamdisk {
		t.Errorf("a known machine: %v %v; want the ramdisk", step.Kind, err)
	}
	server.Stop(t)
	server.Start(t)
	if _, err := report(t.Context(), b, key, "", f); err != nil {
		t.Errorf("a check-in once writes are taken: %v", err)
	}
}

// F19: a clock that is set back changes no order, and loses nobody.
func TestTheClockIsSetBack(t *testing.T) {
	now := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	b := bareBroker(t, broker.Config{Now: func() time.Time { return now }})
	mustApply(t, b, ramdiskDoc("default", "amd64", ""))
	_, m, key := arrive(t, b, 1)
	now = now.AddDate(-1, 0, 0)
	_, f, _ := machine(t, 1)
	f.System.Product = "changed"
	if _, err := report(t.Context(), b, key, "", f); err != nil {
		t.Errorf("the check-in of a machine from the future: %v", err)
	}
	if step, err := b.Next(t.Context(), boot.Client{MAC: m}); err != nil || step.Kind != boot.StepRamdisk {
		t.Errorf("its boot: %v %v; want the ramdisk", step.Kind, err)
	}
	arrive(t, b, 2)
	nodes, err := b.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Keys.MACs[0] != m.String() {
		t.Errorf("%d nodes, %v; want two, the first first", len(nodes), err)
	}
	events, err := b.Events(t.Context(), broker.EventFilter{}, false)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range events {
		if e.Kind == broker.EventFacts || e.Kind == broker.EventRegistered {
			kinds = append(kinds, e.Node+" "+e.Kind)
		}
	}
	if got, want := fmt.Sprint(kinds), "[node1 node.registered node1 node.facts node2 node.registered]"; got != want {
		t.Errorf("journal %s; want %s", got, want)
	}
}
