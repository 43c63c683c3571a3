package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"muster/initramfs"
)

// A statusError ends the program with a status of its own. Without an error in it nothing more is to be said.
type statusError struct {
	code int
	error
}

// Error implements error.
func (s statusError) Error() string {
	if s.error == nil {
		return fmt.Sprintf("exit status %d", s.code)
	}
	return s.error.Error()
}

func (s statusError) Unwrap() error { return s.error }

func ramdiskDiffCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "diff A B",
		Short: "say in words what is different in two ramdisks",
		Long: "Diff compares what a kernel would find: names, types, contents, permissions, owners, links, devices and times. For\n" +
			"kernel modules and Go programs it tells the versions; modules of two kernels are compared by their place below\n" +
			"lib/modules/RELEASE. How the ramdisks are packed does not matter.\n\n" +
			"Exit status: 0 the same, 1 different, 2 a ramdisk cannot be read.",
		Example: "  muster ramdisk diff old.cpio.gz new.cpio.gz",
		Args:    exactly(2, "A and B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := tableOrJSON(output); err != nil {
				return err
			}
			found, err := diffFiles(cmd, args[0], args[1])
			if err != nil {
				return statusError{2, fmt.Errorf("compare ramdisks %q and %q: %w", args[0], args[1], err)}
			}
			if err := showDifferences(cmd.OutOrStdout(), found, output); err != nil {
				return statusError{2, err}
			}
			if len(found) > 0 {
				return statusError{code: 1}
			}
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return c
}

func diffFiles(cmd *cobra.Command, a, b string) ([]initramfs.Difference, error) {
	shown := newBars(cmd, "diff")
	defer shown.end()
	left, err := openRamdisk(cmd.Context(), shown, a, 2)
	if err != nil {
		return nil, err
	}
	defer left.Close()
	right, err := openRamdisk(cmd.Context(), shown, b, 2)
	if err != nil {
		return nil, err
	}
	defer right.Close()
	return initramfs.DiffImages(left, right)
}

// showDifferences prints one on a line, and those in nothing but time as a number.
func showDifferences(w io.Writer, found []initramfs.Difference, output string) error {
	if output == "json" {
		if found == nil {
			found = []initramfs.Difference{}
		}
		return writeJSON(w, found)
	}
	times, example := 0, ""
	for _, d := range found {
		if d.Time {
			times, example = times+1, d.Name
			continue
		}
		if _, err := fmt.Fprintln(w, plain(d.String())); err != nil {
			return err
		}
	}
	if times == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "changed in nothing but time: %d, as %s\n", times, plain(example))
	return err
}

// ramdiskCheck is what muster ramdisk check was asked for.
type ramdiskCheck struct {
	manifest, output string
}

// checked is what it found.
type checked struct {
	Problems    []initramfs.Problem    `json:"problems"`
	Differences []initramfs.Difference `json:"differences"` // from the manifest it is held against
}

func ramdiskCheckCommand() *cobra.Command {
	r := &ramdiskCheck{}
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "say what is wrong with a ramdisk",
		Long: "Check reads a ramdisk to its end. Errors, with the entry and its place: what is no archive, is cut short, has no\n" +
			"trailer or something behind it; sums that do not fit; names that leave the tree; links of one file that differ.\n" +
			"Warnings: entries that a kernel makes nothing of or that others take the place of, no init, modules that others need.\n\n" +
			"--manifest holds the ramdisk against what \"ramdisk build\" or \"ramdisk list -o json\" wrote; every difference is an\n" +
			"error. Exit status: 0 no errors, 1 errors.",
		Example: "  muster ramdisk check initrd.img\n" +
			"  muster ramdisk check ramdisk.cpio.gz --manifest manifest.json",
		Args: exactly(1, "one IMAGE"),
		RunE: func(cmd *cobra.Command, args []string) error { return r.run(cmd, args[0]) },
	}
	c.Flags().StringVar(&r.manifest, "manifest", "", "file with the manifest it should have")
	c.Flags().StringVarP(&r.output, "output", "o", "table", "table or json")
	return c
}

func (r *ramdiskCheck) run(cmd *cobra.Command, image string) error {
	if err := tableOrJSON(r.output); err != nil {
		return err
	}
	b := newBars(cmd, "check")
	defer b.end()
	f, err := openRamdisk(cmd.Context(), b, image, 1)
	if err != nil {
		return err
	}
	defer f.Close()
	found := checked{Problems: []initramfs.Problem{}, Differences: []initramfs.Difference{}}
	m, problems := initramfs.Check(f)
	b.end()
	found.Problems = append(found.Problems, problems...)
	if r.manifest != "" && m != nil {
		if found.Differences, err = against(r.manifest, m); err != nil {
			return err
		}
	}
	return found.show(cmd.OutOrStdout(), image, r.output)
}

// against compares a ramdisk with a manifest that was saved.
func against(saved string, m *initramfs.Manifest) ([]initramfs.Difference, error) {
	b, err := os.ReadFile(saved)
	if err != nil {
		return nil, err
	}
	var want initramfs.Manifest
	if err := json.Unmarshal(b, &want); err != nil {
		return nil, fmt.Errorf("read manifest %q: %w", saved, err)
	}
	if want.SHA256 == m.SHA256 {
		return []initramfs.Difference{}, nil
	}
	whole := initramfs.Difference{What: "changed", How: []string{fmt.Sprintf("sha256 of the file is %s, should be %s", m.SHA256, want.SHA256)}}
	return append([]initramfs.Difference{whole}, initramfs.Diff(&want, m)...), nil
}

func (c checked) show(w io.Writer, image, output string) error {
	errs := len(c.Differences)
	for _, p := range c.Problems {
		if p.Error {
			errs++
		}
	}
	if output == "json" {
		if err := writeJSON(w, c); err != nil {
			return err
		}
	} else {
		for _, p := range c.Problems {
			fmt.Fprintln(w, plain(p.String()))
		}
		for _, d := range c.Differences {
			fmt.Fprintln(w, plain("error: not as the manifest: "+d.String()))
		}
		fmt.Fprintf(w, "%s: %d errors, %d warnings\n", image, errs, len(c.Problems)+len(c.Differences)-errs)
	}
	if errs > 0 {
		return statusError{code: 1}
	}
	return nil
}
