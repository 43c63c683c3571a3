package broker

import (
	"fmt"
	"slices"
	"time"

	"muster/boot"
	"muster/boot/kargs"
)

// A MenuConfig offers the person at the machine a choice, before what was decided happens. A choice is of one boot and
// changes nothing in the store: an install is asked for by a fact, which tags and policies judge as they do any other.
type MenuConfig struct {
	Timeout time.Duration `yaml:"timeout"` // until what was decided happens; 0: no menu
	Hidden  bool          `yaml:"hidden"`  // shown only to who presses a key
	Memtest bool          `yaml:"memtest"` // memtest.lkrn (BIOS) and memtest.efi are in the loader directory
	Install []MenuInstall `yaml:"install"`
}

// A MenuInstall is a line that starts the ramdisk with the fact custom.choice, for a tag such as
// facts.custom.choice == "debian-12".
type MenuInstall struct {
	Choice string `yaml:"choice"`
	Key    string `yaml:"key"`
	Text   string `yaml:"text"`
}

// checkMenu renders the menu once, so that what no loader can show is said at start.
func (b *Broker) checkMenu() error {
	if b.cfg.Menu.Timeout <= 0 {
		return nil
	}
	n := &Node{ID: "node1", Keys: Keys{MACs: []string{"02:00:00:00:00:01"}}}
	any := boot.Step{Kind: boot.StepRamdisk, Kernel: "vmlinuz", Initrds: []string{"ramdisk.cpio.gz"}}
	s := b.menu(n, any, any)
	for _, e := range s.Menu.Entries {
		for _, step := range []boot.Step{s, e.Step} {
			if _, err := boot.Render(boot.IPXE, b.cfg.BaseURL, boot.Client{}, step); err != nil {
				return fmt.Errorf("the boot menu: %w", err)
			}
		}
	}
	return nil
}

// offer puts the menu before a step. A node that is being installed, on hold or in conflict has no choice, and neither
// has one that is refused.
func (b *Broker) offer(n *Node, c boot.Client, decided boot.Step) boot.Step {
	busy := n.State == Deploying || n.State == WaitCallBack || n.State == Cleaning || n.Hold != "" || n.Conflict != ""
	if b.cfg.Menu.Timeout <= 0 || busy || decided.Kind != boot.StepLocal && decided.Kind != boot.StepRamdisk {
		return decided
	}
	return b.menu(n, decided, b.ramdisk(n, c))
}

// menu holds what was decided first. Without a ramdisk for the machine, what would start one is left out.
func (b *Broker) menu(n *Node, decided, ramdisk boot.Step) boot.Step {
	entries := []boot.Entry{{Label: "decided", Key: "c", Text: map[boot.StepKind]string{
		boot.StepLocal: "Go on: boot the local disk", boot.StepRamdisk: "Go on: the ramdisk of muster"}[decided.Kind], Step: decided}}
	if decided.Kind != boot.StepLocal {
		entries = append(entries, boot.Entry{Label: "local", Key: "l", Text: "Boot the local disk", Step: boot.Step{Kind: boot.StepLocal}})
	}
	if ramdisk.Kind == boot.StepRamdisk {
		for _, i := range b.cfg.Menu.Install {
			s := ramdisk
			s.Args = append(slices.Clone(s.Args), kargs.Set("muster.fact.choice", i.Choice))
			entries = append(entries, boot.Entry{Label: i.Choice, Key: i.Key, Text: i.Text, Step: s})
		}
		entries = append(entries, boot.Entry{Label: "rescue", Key: "r", Text: "Rescue: the ramdisk with a shell, without muster", Step: b.rescue(ramdisk)})
	}
	if b.cfg.Menu.Memtest {
		entries = append(entries, boot.Entry{Label: "memtest", Key: "m", Text: "Memory test", Step: boot.Step{Kind: boot.StepChain, Chain: memtest(n)}})
	}
	return boot.Step{Kind: boot.StepMenu, Because: decided.Because,
		Menu: &boot.Menu{Title: n.Title(), Hidden: b.cfg.Menu.Hidden, Timeout: b.cfg.Menu.Timeout, Entries: entries}}
}

// ramdisk is the step to the discovery ramdisk, whatever was decided: that of a node of which nothing is known.
func (b *Broker) ramdisk(n *Node, c boot.Client) boot.Step {
	return b.step(&Node{ID: n.ID, Hostname: n.Hostname, Keys: n.Keys, Boot: n.Boot}, c)
}

// rescue is the ramdisk without a broker to ask and without a token: nothing is ordered, and nothing of the node's is
// in the hands of who sits there.
func (b *Broker) rescue(s boot.Step) boot.Step {
	s.Args = append(kargs.Line{kargs.Flag("muster.shell")}, b.cfg.Args...)
	return s
}

func memtest(n *Node) string {
	if n.Boot.EFI {
		return "memtest.efi"
	}
	return "memtest.lkrn"
}
