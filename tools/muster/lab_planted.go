package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"muster/agent/facts"
	"muster/tools/lab"
)

func plantedCommand(o *labOptions) *cobra.Command {
	var file, save string
	c := &cobra.Command{
		Use: "planted", Short: "boot a machine whose hardware is known, and say which of it the agent found",
		Long: "planted boots a machine with one of everything (DIMMs, NUMA nodes, disks of each transport, NICs, switch ports, BMC, TPM),\n" +
			"each with values that were planted, and compares what the broker then knows with each of them. Exit status 0 only if\n" +
			"every value was found. With --facts it compares facts of an earlier boot and starts no machine.",
		Example: "  muster lab planted --firmware uefi --save facts.json\n  muster lab planted --firmware uefi --facts facts.json",
		Args:    exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := lab.ParseFirmware(o.firmware)
			if err == nil && f == lab.SecureBoot {
				err = errors.New("firmware secureboot: the planted NIC starts from its own ROM, which nobody signed; want bios or uefi")
			}
			if err != nil {
				return usageError{err}
			}
			found, err := plantedFacts(cmd.Context(), o, f, file, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			if err := saveFacts(save, found); err != nil {
				return err
			}
			return judgePlanted(cmd.OutOrStdout(), found, f)
		},
	}
	c.Flags().StringVar(&o.firmware, "firmware", "bios", "bios or uefi")
	c.Flags().StringVar(&file, "facts", "", "read the facts, as JSON, from a file")
	c.Flags().StringVar(&save, "save", "", "write the facts, as JSON, to a file")
	c.Flags().DurationVar(&o.limit, "limit", 20*time.Minute, "give up after that long")
	return c
}

// plantedFacts are those of a file, or of a machine that is booted for them.
func plantedFacts(ctx context.Context, o *labOptions, f lab.Firmware, file string, out io.Writer) (*facts.Facts, error) {
	if file == "" {
		return bootPlanted(ctx, o, f, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the facts: %w", err)
	}
	found := &facts.Facts{}
	if err := json.Unmarshal(text, found); err != nil {
		return nil, fmt.Errorf("read the facts in %q: %w", file, err)
	}
	return found, nil
}

func bootPlanted(ctx context.Context, o *labOptions, f lab.Firmware, out io.Writer) (found *facts.Facts, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("not done within %s", o.limit))
	defer cancel()
	cache, err := filepath.Abs(o.cache)
	if err != nil {
		return nil, fmt.Errorf("find the cache: %w", err)
	}
	rack, err := lab.Up(ctx, lab.Config{Name: "muster-pl", Dir: filepath.Join(cache, "planted"), Prefix: labPrefix})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rack.Down()) }()
	start := time.Now()
	if err := buildRamdisk(ctx, o.source, cache, filepath.Join(cache, "ramdisk")); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "%7.1fs  discovery ramdisk\n", time.Since(start).Seconds())
	server, err := emptyServer(rack, filepath.Join(cache, "ramdisk"), rack.PlantedServeArgs(f))
	if err != nil {
		return nil, err
	}
	defer server.Kill()
	look, err := rack.LookAtPlanted(ctx, server, f, out)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	n, err := look.Node(ctx)
	if err != nil {
		return nil, err
	}
	return n.Facts, nil
}

// saveFacts writes what --facts reads.
func saveFacts(file string, found *facts.Facts) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(found, "", " ")
	if err != nil {
		return fmt.Errorf("save the facts: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("save the facts: %w", err)
	}
	return nil
}

// judgePlanted prints each value and whether it is in the facts.
func judgePlanted(out io.Writer, found *facts.Facts, f lab.Firmware) error {
	tree, err := lab.Tree(found)
	if err != nil {
		return err
	}
	values, missing := lab.PlantedValues(f), 0
	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row(t, "", "PLANTED", "VALUE")
	for _, v := range values {
		if err := v.Judge(tree); err != nil {
			missing++
			row(t, "MISSING", v.Item, err)
		} else {
			row(t, "found", v.Item, v.Wanted())
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("compare the planted machine: %d of %d planted values are not found; the table names them", missing, len(values))
	}
	_, err = fmt.Fprintf(out, "all %d planted values were found\n", len(values))
	return err
}
