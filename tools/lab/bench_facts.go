package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"muster/tools/lab/peers"
)

// A FactsBench measures the field's inventory tools beside muster-agent. Cache and Source are required.
type FactsBench struct {
	Cache    string   // directory for what is built, kept from run to run
	Source   string   // directory of muster's source, which the agent is built from
	Rounds   int      // counted runs of each tool; if 0, 5
	Tools    []string // names of peers.Tools; if empty, all
	Progress func(string)
}

// The machine's name and what it runs: the kernel of the cache and the guest of bench_guest.go.
const benchMachine = "peers"

// What the guest says on its console.
var (
	guestBegan = regexp.MustCompile(`^peers: begin`)
	guestRound = regexp.MustCompile(`^round \d+: `)
	guestDone  = regexp.MustCompile(`^peers: (done|failed)`)
)

func (b FactsBench) say(what string) {
	if b.Progress != nil {
		b.Progress(what)
	}
}

func (b FactsBench) rounds() string {
	if b.Rounds == 0 {
		return "5"
	}
	return strconv.Itoa(b.Rounds)
}

// Build makes the programs and the guest where they are missing, and gives the directory of the programs and the initrd.
func (b FactsBench) Build(ctx context.Context, kernel string) (bin, initrd string, err error) {
	dir, err := filepath.Abs(filepath.Join(b.Cache, "peers"))
	if err != nil {
		return "", "", err
	}
	bin, initrd = filepath.Join(dir, "bin"), filepath.Join(dir, "initrd")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "./agent/cmd/muster-agent", "./tools/lab/peers/measure")
	build.Dir, build.Env = b.Source, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("build muster-agent and measure: %w: %s", err, said)
	}
	tree, err := buildPeersTree(ctx, dir, kernel, b.say)
	if err != nil {
		return "", "", fmt.Errorf("build the guest of the tools: %w", err)
	}
	return bin, initrd, writeGuest(initrd, bin, tree)
}

// writeGuest puts what changes often before the tree: a kernel unpacks one archive after the other.
func writeGuest(initrd, bin, tree string) error {
	out, err := os.Create(initrd)
	if err != nil {
		return err
	}
	defer out.Close()
	n := &newc{w: out}
	for _, dir := range []string{"usr", "usr/local", "usr/local/bin"} {
		if err := n.add(dir, 0o040755, 0, nil); err != nil {
			return err
		}
	}
	for _, name := range []string{"muster-agent", "measure"} {
		if err := n.addFile("usr/local/bin/"+name, filepath.Join(bin, name)); err != nil {
			return err
		}
	}
	if err := n.addText("init", peersInit); err != nil {
		return err
	}
	in, err := os.Open(tree)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := n.close(); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// Guest measures on a planted machine of the rack.
func (b FactsBench) Guest(ctx context.Context, r *Rack, vmlinuz, initrd string) (*peers.Record, error) {
	m, err := r.Planted(ctx, PlantedConfig{
		Name: benchMachine, Kernel: vmlinuz, Initrd: initrd,
		Append: "console=ttyS0 loglevel=3 BOOTIF=01-" + dashed(PlantedMAC) + " rounds=" + b.rounds() + " tools=" + strings.Join(b.Tools, ","),
	})
	if err != nil {
		return nil, err
	}
	if err := m.On(); err != nil {
		return nil, err
	}
	if _, err := m.WaitConsole(ctx, guestBegan); err != nil {
		return nil, err
	}
	either := regexp.MustCompile(guestRound.String() + "|" + guestDone.String())
	for {
		line, err := m.WaitConsole(ctx, either)
		if err != nil {
			return nil, err
		}
		if guestDone.MatchString(line) {
			break
		}
		b.say(line)
	}
	if err := m.Off(); err != nil {
		return nil, err
	}
	console, err := os.ReadFile(m.Console())
	if err != nil {
		return nil, err
	}
	return peers.Decode(console)
}

// Host measures on this machine, whatever tools it has.
func (b FactsBench) Host(ctx context.Context, bin string) (*peers.Record, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "measure"), "--rounds", b.rounds(), "--tools", strings.Join(b.Tools, ","))
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("measure on this machine: %w: %s", err, said.Bytes())
	}
	return peers.Decode(out.Bytes())
}

// dashed is a MAC as BOOTIF has it.
func dashed(mac string) string { return strings.ReplaceAll(mac, ":", "-") }
