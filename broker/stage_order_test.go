package broker_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

const orderMAC = "52:54:00:dd:00:07"

// shelf is a machine with two disks of its own, one that holds data, and a stick that somebody left in it.
func shelf() *facts.Facts {
	disk := func(name string, size int64) facts.Disk {
		return facts.Disk{ID: "serial." + name, Name: name, Serial: strings.ToUpper(name), SizeBytes: size}
	}
	full, stick, dock := disk("sdb", 2<<30), disk("sdc", 1<<30), disk("sdd", 1<<30)
	full.Content, stick.Removable, dock.Transport = &facts.Content{Type: "ext4"}, true, "usb"
	return &facts.Facts{Schema: 1, NICs: []facts.NIC{{Name: "eth0", MAC: orderMAC, Bus: "pci"}}, Disks: []facts.Disk{disk("sda", 1<<30), full, stick, dock}}
}

// ordered is a broker with one policy of these lines, and a machine that has just come to its ramdisk.
func ordered(t *testing.T, f *facts.Facts, lines string) (*broker.Broker, *time.Time, *facts.CheckInReply) {
	t.Helper()
	now := time.Date(2026, 11, 27, 8, 0, 0, 0, time.UTC)
	b := bareBroker(t, broker.Config{Now: func() time.Time { return now }})
	mustApply(t, b, ramdiskDoc("default", "amd64", "")+"---\nkind: Policy\nname: p\nmatch: all\napproval: automatic\n"+lines)
	return b, &now, arrives(t, b, "first", f)
}

// arrives is a boot of the machine's ramdisk.
func arrives(t *testing.T, b *broker.Broker, key string, f *facts.Facts) *facts.CheckInReply {
	t.Helper()
	reply, err := report(t.Context(), b, key, token(t, b, boot.Client{MAC: mac(t, orderMAC)}), f)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// saysOf is what the agent of that boot says of its order.
func saysOf(t *testing.T, b *broker.Broker, key string, r facts.Report) {
	t.Helper()
	if err := b.Report(t.Context(), fmt.Sprintf("%-32s", key), &r); err != nil {
		t.Fatal(err)
	}
}

func diskIDs(disks []facts.Target) (list []string) {
	for _, d := range disks {
		list = append(list, d.ID)
	}
	return list
}

// TestT54AWipeNamesItsDisks: without wipe: true no machine is taken, and what is plugged in is named only when its guard
// is lifted.
func TestT54AWipeNamesItsDisks(t *testing.T) {
	for _, tt := range []struct {
		name, lines string
		method      string
		disks       []string
	}{
		{"the policy does not say wipe", "task: wipe\n", "", nil},
		{"the machine's own disks", "task: wipe\nwipe: true\n", "auto", []string{"serial.sda", "serial.sdb"}},
		{"those that fit", "task: wipe\nwipe: true\ndisk: {min_bytes: 2000000000}\nparams: {method: overwrite}\n", "overwrite", []string{"serial.sdb"}},
		{"sticks too", "task: wipe\nwipe: true\nparams: {lift: [removable, usb]}\n", "auto", []string{"serial.sda", "serial.sdb", "serial.sdc", "serial.sdd"}},
		{"none fits", "task: wipe\nwipe: true\ndisk: {serial: x}\n", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, _, reply := ordered(t, shelf(), tt.lines)
			if tt.disks == nil {
				if reply.Order.Wipe != nil || node(t, b, reply.Node).Policy != "" {
					t.Errorf("the order is %+v", reply.Order)
				}
				return
			}
			w := reply.Order.Wipe
			if reply.Order.Kind != facts.OrderWipe || w == nil || w.Method != tt.method || !cmp.Equal(diskIDs(w.Disks), tt.disks) || w.Disks[0].SizeBytes == 0 {
				t.Fatalf("the order is %+v, %+v", reply.Order, w)
			}
		})
	}
}

// TestAWipeThatWasCutGoesOn with the disks that it was given, and not with one that came meanwhile; when it has ended the
// machine stays where it is.
func TestAWipeThatWasCutGoesOn(t *testing.T) {
	b, _, reply := ordered(t, shelf(), "task: wipe\nwipe: true\n")
	saysOf(t, b, "first", facts.Report{Order: reply.Order.ID, Status: facts.StatusStarted})
	more := shelf()
	more.Disks = append(more.Disks, facts.Disk{ID: "serial.sde", Name: "sde", SizeBytes: 1 << 30})
	again := arrives(t, b, "second", more)
	if again.Order.ID <= reply.Order.ID || again.Order.Wipe == nil || !cmp.Equal(diskIDs(again.Order.Wipe.Disks), []string{"serial.sda", "serial.sdb"}) {
		t.Fatalf("the second order is %+v, %+v", again.Order, again.Order.Wipe)
	}
	saysOf(t, b, "second", facts.Report{Order: again.Order.ID, Status: facts.StatusDone})
	n := node(t, b, again.Node)
	if n.State != broker.Active || n.Order.Kind != facts.OrderWait {
		t.Errorf("in the end the node is %s with the order %s", n.State, n.Order.Kind)
	}
	if last := lastText(t, b, n.ID, broker.EventActive); !strings.HasSuffix(last, ": task wipe is done") {
		t.Errorf("the journal says %q", last)
	}
}

func lastText(t *testing.T, b *broker.Broker, node, kind string) (text string) {
	t.Helper()
	events, err := b.Events(t.Context(), broker.EventFilter{Node: node}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == kind {
			text = e.Text + e.Data["output"]
		}
	}
	return text
}

// TestAProgramIsThePolicysRepo: the agent may read it only for its order, and what it said is kept.
func TestAProgramIsThePolicysRepo(t *testing.T) {
	sum := strings.Repeat("5a", 32)
	repo := "task: firmware\nrepo: update\nparams: {args: [--yes, 'a b'], env: [\"A=b=c\"], ok: ['3']}\n---\nkind: Repo\nname: update\ncompression: %s\nsha256: " + sum + "\nsize_bytes: 1000\nraw_bytes: 1000\n"
	b, _, reply := ordered(t, shelf(), fmt.Sprintf(repo, "none"))
	want := &facts.Program{Path: "/node/v1/image/" + sum, SHA256: sum, SizeBytes: 1000, Args: []string{"--yes", "a b"}, Env: map[string]string{"A": "b=c"}, OKStatus: []int{3}, TimeoutSeconds: 3600}
	if diff := cmp.Diff(want, reply.Order.Program); diff != "" || reply.Order.Kind != facts.OrderRun {
		t.Fatalf("the order is %s (-want +got):\n%s", reply.Order.Kind, diff)
	}
	key := fmt.Sprintf("%-32s", "first")
	if err := b.Image(t.Context(), key, sum); err != nil {
		t.Errorf("the program is refused: %v", err)
	}
	three := 3
	saysOf(t, b, "first", facts.Report{Order: reply.Order.ID, Status: facts.StatusDone, ExitStatus: &three, Output: []string{"it was there", "already\x1b[2J"}})
	n := node(t, b, reply.Node)
	if n.State != broker.Active || n.Order.Kind != facts.OrderReboot {
		t.Errorf("in the end the node is %s with the order %s", n.State, n.Order.Kind)
	}
	if err := b.Image(t.Context(), key, sum); !errors.Is(err, broker.ErrDenied) {
		t.Errorf("the program is still given: %v", err)
	}
	if got := lastText(t, b, n.ID, broker.EventReport); !strings.HasSuffix(got, "it was there\nalready?[2J") {
		t.Errorf("the journal says %q", got)
	}
	_, _, packed := ordered(t, shelf(), fmt.Sprintf(repo, "zstd"))
	if packed.Order.Kind != facts.OrderWait || !strings.Contains(packed.Order.Because, "a program is run as it is") {
		t.Errorf("of a packed one the order is %+v", packed.Order)
	}
}

// TestRescueAndAFailure: the machine stays, with the reason.
func TestRescueAndAFailure(t *testing.T) {
	b, _, reply := ordered(t, shelf(), "task: rescue\n")
	if reply.Order.Kind != facts.OrderRescue {
		t.Fatalf("the order is %+v", reply.Order)
	}
	saysOf(t, b, "first", facts.Report{Order: reply.Order.ID, Status: facts.StatusFailed, Message: "this ramdisk has no sshd"})
	if n := node(t, b, reply.Node); n.State != broker.DeployFailed || n.LastError != "this ramdisk has no sshd" {
		t.Errorf("the node is %s: %s", n.State, n.LastError)
	}
}

// TestAStageThatEndsWithItsBoot: a while after the machine fetched it; a loader that asks again gets the same, and one
// that never boots it has failed.
func TestAStageThatEndsWithItsBoot(t *testing.T) {
	script := boot.Sighting{Client: boot.Client{MAC: mac(t, orderMAC), Kind: boot.KindIPXE}, Proto: "http", What: "script", Name: "boot/ipxe"}
	grub := boot.Sighting{Client: boot.Client{MAC: mac(t, orderMAC), Kind: boot.KindGRUB}, Proto: "tftp", What: "read", Name: "muster/grub/01-52-54-00-dd-00-07/x86_64-efi.cfg"}
	dhcp := boot.Sighting{Client: boot.Client{MAC: mac(t, orderMAC), Kind: boot.KindUEFI}, Proto: "dhcp", What: "discover"}
	for _, tt := range []struct {
		name, task string
		seen       *boot.Sighting
		step       boot.StepKind
		state      broker.State
	}{
		{"the memory test, by a script", "memtest", &script, boot.StepChain, broker.Active},
		{"the memory test, by GRUB", "memtest", &grub, boot.StepChain, broker.Active},
		{"firmware that only asks has not started the memory test", "memtest", &dhcp, boot.StepChain, broker.DeployFailed},
		{"the disk, by firmware itself", "local", &dhcp, boot.StepLocal, broker.Active},
		{"the disk of a machine that never came back", "local", nil, boot.StepLocal, broker.DeployFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b, now, reply := ordered(t, shelf(), "task: "+tt.task+"\n")
			if reply.Order.Kind != facts.OrderReboot {
				t.Fatalf("the order is %+v", reply.Order)
			}
			for range 2 {
				if step := bootedStep(t, b, orderMAC); step.Kind != tt.step {
					t.Errorf("the machine boots %+v", step)
				}
				if tt.seen != nil {
					if err := b.Journal(t.Context(), *tt.seen); err != nil {
						t.Fatal(err)
					}
				}
				*now = now.Add(10 * time.Second)
			}
			for _, later := range []time.Duration{9 * time.Second, 2 * time.Second, time.Hour} {
				if n := node(t, b, reply.Node); later != time.Hour && n.State != broker.WaitCallBack && tt.state == broker.DeployFailed {
					t.Errorf("after %s the node is %s", now, n.State)
				}
				if *now = now.Add(later); later == time.Hour && tt.state == broker.Active {
					break
				}
				if err := b.Expire(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := node(t, b, reply.Node); n.State != tt.state {
				t.Fatalf("in the end the node is %s, %s", n.State, n.LastError)
			}
			if tt.state == broker.Active {
				if step := bootedStep(t, b, orderMAC); step.Kind != boot.StepLocal {
					t.Errorf("after that the machine boots %+v", step)
				}
			}
		})
	}
}
