package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"muster/broker"
	"muster/tools/lab"
)

// labOptions are the flags of muster lab.
type labOptions struct {
	firmware string
	cache    string
	source   string
	keep     bool
	limit    time.Duration
}

func labCommand() *cobra.Command {
	o := &labOptions{}
	c := &cobra.Command{Use: "lab", Short: "a virtual rack: real firmware, packets and disks, emulated"}
	run := &cobra.Command{
		Use: "run", Short: "one machine's whole life, from power-on to its own disk, as it happens",
		Long: "run builds what is missing, starts muster serve in a network of its own, switches a blank machine on and shows\n" +
			"each step with the time since power-on. Exit status 0 only if the machine came up from its own disk.",
		Example: "  muster lab run --firmware uefi\n  muster lab run --firmware secureboot --keep", Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runLab(cmd.Context(), o, cmd.OutOrStdout()) },
	}
	build := &cobra.Command{
		Use: "build", Short: "build what run needs: kernel, ramdisk and disk image", Example: "  muster lab build",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := buildLab(cmd.Context(), o, cmd.OutOrStdout())
			return err
		},
	}
	planted := plantedCommand(o)
	for _, sub := range []*cobra.Command{run, build, planted} {
		sub.Flags().StringVar(&o.cache, "cache", ".cache", "directory for what is built")
		sub.Flags().StringVar(&o.source, "source", ".", "directory of muster's source, which the ramdisk is built from")
	}
	run.Flags().StringVar(&o.firmware, "firmware", "bios", "bios, uefi or secureboot")
	run.Flags().BoolVar(&o.keep, "keep", false, "leave the rack running until Ctrl-C, and say how to talk to it")
	run.Flags().DurationVar(&o.limit, "limit", 20*time.Minute, "give up after that long")
	c.AddCommand(run, build, planted, benchFactsCommand())
	return c
}

// parts are what a rack runs on.
type parts struct {
	ramdisk string
	image   *lab.ImageInfo
}

// buildLab builds what is missing, one line for each thing with the time it took.
func buildLab(ctx context.Context, o *labOptions, out io.Writer) (*parts, error) {
	cache, err := filepath.Abs(o.cache)
	if err != nil {
		return nil, fmt.Errorf("find the cache: %w", err)
	}
	p := &parts{ramdisk: filepath.Join(cache, "ramdisk")}
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"discovery ramdisk", func() error { return buildRamdisk(ctx, o.source, cache, p.ramdisk) }},
		{"Debian 12 image", func() (err error) {
			p.image, err = lab.BuildDebianImage(ctx, lab.DebianImageConfig{Dir: filepath.Join(cache, "image"),
				Progress: func(what string) { fmt.Fprintf(out, "           %s\n", what) }})
			return err
		}},
	} {
		start := time.Now()
		if err := step.do(); err != nil {
			return nil, err
		}
		fmt.Fprintf(out, "%7.1fs  %s\n", time.Since(start).Seconds(), step.name)
	}
	return p, nil
}

func buildRamdisk(ctx context.Context, source, cache, dir string) error {
	kernel, err := lab.FetchKernel(ctx, filepath.Join(cache, "kernel"))
	if err != nil {
		return err
	}
	build := ramdiskCommand(&options{})
	build.SetArgs([]string{"build", "--source", source, "--kernel", kernel, "-o", dir})
	build.SetOut(io.Discard)
	build.SilenceUsage, build.SilenceErrors = true, true
	return build.ExecuteContext(ctx)
}

// labPrefix is the rack's network; it exists only inside the rack's namespace.
var labPrefix = netip.MustParsePrefix("10.77.0.1/24")

// runLab is one machine's whole life.
func runLab(parent context.Context, o *labOptions, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeoutCause(parent, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	firmware, err := lab.ParseFirmware(o.firmware)
	if err != nil {
		return usageError{err}
	}
	rack, err := lab.Up(ctx, lab.Config{Name: "muster-run", Dir: filepath.Join(o.cache, "run"), Prefix: labPrefix})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rack.Down()) }()
	built, err := buildLab(ctx, o, out)
	if err != nil {
		return err
	}
	server, err := startLab(ctx, rack, firmware, built)
	if err != nil {
		return err
	}
	defer server.Kill()
	m, err := rack.Machine(lab.MachineConfig{Name: string(firmware), Firmware: firmware, Manufacturer: "Muster", Product: "Virtual rack",
		Serial: "LAB0001", Disks: []lab.DiskConfig{{SizeBytes: 4 << 30, Serial: "LABDISK1"}}})
	if err != nil {
		return err
	}
	life, err := lab.NewLife(ctx, server, m, out)
	if err != nil {
		return err
	}
	if err := life.On(); err != nil {
		return err
	}
	node, err := life.Installed(ctx)
	if err != nil {
		return err
	}
	if err := life.CheckRoot(node.Hostname); err != nil {
		return err
	}
	if err := summarize(ctx, out, server, life, node); err != nil {
		return err
	}
	if o.keep {
		keepLab(parent, out, rack, server, m)
	}
	return nil
}

// startLab starts muster serve on an empty data directory, with the image and the policies.
func startLab(ctx context.Context, rack *lab.Rack, f lab.Firmware, p *parts) (*lab.Server, error) {
	server, err := emptyServer(rack, p.ramdisk, rack.ServeArgs(f))
	if err != nil {
		return nil, err
	}
	image, err := os.Open(p.image.Path)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	defer image.Close()
	if _, err := server.ImportImage(ctx, "debian-12", image); err != nil {
		return nil, err
	}
	_, err = server.Apply(ctx, []byte(lab.Policies))
	return server, err
}

// emptyServer starts this program as muster serve, on an empty data directory.
func emptyServer(rack *lab.Rack, ramdisk string, args []string) (*lab.Server, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find muster: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(rack.Dir(), "data")); err != nil {
		return nil, fmt.Errorf("empty the rack's data: %w", err)
	}
	return rack.Serve(lab.ServerConfig{Program: program, Ramdisk: ramdisk, Args: args})
}

func summarize(ctx context.Context, out io.Writer, s *lab.Server, l *lab.Life, n *broker.Record) error {
	x, err := s.Explain(ctx, n.ID)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "\nThe node:")
	nodeTable(t, n)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "\nWhy its policy won:")
	explanationTable(t, x)
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t, "\nHow long each part took:")
	for _, p := range l.Parts() {
		fmt.Fprintf(t, "%7.1fs\t%s\n", p.Took.Seconds(), p.Name)
	}
	fmt.Fprintf(t, "%7.1fs\tin all, to the login prompt\n\n", time.Since(l.Start).Seconds())
	return t.Flush()
}

// keepLab says how to talk to the rack and leaves it running until ctx ends.
func keepLab(ctx context.Context, out io.Writer, rack *lab.Rack, s *lab.Server, m *lab.Machine) {
	program, _ := os.Executable()
	fmt.Fprintf(out, "The rack is left running; Ctrl-C ends it.\n  MUSTER_SERVER=unix:%s %s get nodes\n  console of the machine: tail -f %s\n  shell in the rack's network: ip netns exec %s bash\n",
		s.Socket(), program, m.Console(), rack.Name())
	<-ctx.Done()
}
