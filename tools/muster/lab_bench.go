package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"muster/initramfs"
	"muster/tools/lab"
	"muster/tools/lab/peers"
)

// benchFacts are the flags of muster lab bench-facts.
type benchFacts struct {
	lab.FactsBench
	output string
	items  bool
	again  bool
}

func benchFactsCommand() *cobra.Command {
	o := &benchFacts{}
	c := &cobra.Command{
		Use: "bench-facts", Short: "what each inventory tool finds of what was planted, and how long it takes",
		Long: "bench-facts boots a planted machine with Debian and the inventory tools of the field in it, runs them and\n" +
			"muster-agent facts in turns, and counts what each found; then it times those that this machine has.\n" +
			"A ratio is of two runs of one round. How a find is judged: go doc ./tools/lab/peers.",
		Example: "  muster lab bench-facts\n  muster lab bench-facts --again --items", Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&o.Cache, "cache", ".cache", "directory for what is built and recorded")
	f.StringVar(&o.Source, "source", ".", "directory of muster's source, which the agent is built from")
	f.IntVar(&o.Rounds, "rounds", 5, "counted runs of each tool, after one that is not")
	f.StringSliceVar(&o.Tools, "tools", nil, "measure these tools only, by commas; ratios want "+peers.Ours+" among them")
	f.StringVarP(&o.output, "output", "o", "table", "table or json")
	f.BoolVarP(&o.items, "items", "v", false, "say for each planted item which tools found it")
	f.BoolVar(&o.again, "again", false, "measure nothing, judge the records of the last run")
	return c
}

func (o *benchFacts) run(ctx context.Context, out, progress io.Writer) error {
	if o.output != "table" && o.output != "json" {
		return usageError{fmt.Errorf("output %q: want table or json", o.output)}
	}
	o.Progress = func(what string) { fmt.Fprintln(progress, what) }
	if !o.again {
		if err := o.measure(ctx); err != nil {
			return err
		}
	}
	guest, err := o.record("guest")
	if err != nil {
		return err
	}
	host, err := o.record("host")
	if err != nil {
		return err
	}
	reports := []*peers.Report{
		peers.Judge("planted machine, Linux "+guest.Kernel, guest, peers.Items, peers.Planted),
		peers.Judge("this machine, Linux "+host.Kernel, host, nil, nil),
	}
	return o.print(out, reports)
}

func (o *benchFacts) print(out io.Writer, reports []*peers.Report) error {
	if o.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(reports)
	}
	for _, r := range reports {
		if err := r.Print(out, o.items); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	return nil
}

// measure leaves the records of the planted machine and of this one in the cache.
func (o *benchFacts) measure(ctx context.Context) (err error) {
	deb, err := lab.FetchKernel(ctx, filepath.Join(o.Cache, "kernel"))
	if err != nil {
		return err
	}
	bin, initrd, err := o.Build(ctx, deb)
	if err != nil {
		return err
	}
	vmlinuz, _, err := initramfs.ExtractKernel(ctx, []string{deb}, filepath.Dir(initrd))
	if err != nil {
		return err
	}
	rack, err := lab.Up(ctx, lab.Config{Name: "muster-bch", Dir: filepath.Join(o.Cache, "peers", "rack"), Prefix: labPrefix})
	if err != nil {
		return err
	}
	guest, err := o.Guest(ctx, rack, vmlinuz, initrd)
	if err = errors.Join(err, rack.Down()); err != nil {
		return err
	}
	host, err := o.Host(ctx, bin)
	if err != nil {
		return err
	}
	return errors.Join(o.keep("guest", guest), o.keep("host", host))
}

func (o *benchFacts) recordPath(where string) string {
	return filepath.Join(o.Cache, "peers", where+".record")
}

func (o *benchFacts) keep(where string, r *peers.Record) error {
	f, err := os.Create(o.recordPath(where))
	if err != nil {
		return fmt.Errorf("keep the record: %w", err)
	}
	return errors.Join(r.Encode(f), f.Close())
}

func (o *benchFacts) record(where string) (*peers.Record, error) {
	b, err := os.ReadFile(o.recordPath(where))
	if err != nil {
		return nil, fmt.Errorf("find the record of the last run: %w", err)
	}
	return peers.Decode(b)
}
