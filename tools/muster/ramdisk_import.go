package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muster/broker"
)

// ramdiskImport is what muster ramdisk import was asked for.
type ramdiskImport struct {
	names             bootFiles
	arch, args        string
	tags              []string
	order             int
	certFile, keyFile string
}

func ramdiskImportCommand(o *options) *cobra.Command {
	i := &ramdiskImport{}
	c := &cobra.Command{
		Use:   "import NAME [DIR]",
		Short: "give the server a kernel with its ramdisk, for the machines that its tags choose",
		Long: "Import sends a kernel and its initrds to the server and names them. DIR is what muster ramdisk build wrote; other\n" +
			"files are named with --kernel and --initrd, in the order in memory. What the server has already is not sent again.\n\n" +
			"A machine boots the ramdisk that its policy names (ramdisk: NAME), else the first by --order whose tags it carries,\n" +
			"else the first without tags: that one is for every other machine of its architecture, also for machines never seen.\n" +
			"Machines that are loading the old files of NAME get them whole; the next boot gets the new ones.\n\n" +
			"With --sign-key and --sign-cert the files are signed here, and with FILE.sig beside each of them those are sent.",
		Example: "  muster ramdisk build --kernel linux-image.deb -o out && muster ramdisk import standard out\n" +
			"  muster ramdisk import arm --kernel vmlinuz --initrd microcode.cpio --initrd ramdisk.cpio.zst --arch arm64\n" +
			"  muster ramdisk import gpu out --tag gpu --order 10 --args 'console=ttyS1,115200'\n" +
			"  muster ramdisk import standard out --sign-key code.key --sign-cert code.pem -o json",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd, o, args) },
	}
	f := c.Flags()
	f.StringVar(&i.names.kernel, "kernel", "", "kernel image")
	f.StringArrayVar(&i.names.initrds, "initrd", nil, "ramdisk; may be repeated")
	f.StringVar(&i.arch, "arch", "", "what the kernel must be for: amd64, arm64 (default: what it is for)")
	f.StringSliceVar(&i.tags, "tag", nil, "only for nodes that carry this tag; several, by commas or repeated: all of them")
	f.IntVar(&i.order, "order", 0, "lower is asked first (default 100)")
	f.StringVar(&i.args, "args", "", "more kernel arguments")
	signFlags(c, &i.certFile, &i.keyFile)
	return c
}

// files settles which files are meant.
func (i *ramdiskImport) files(args []string) (bootFiles, error) {
	said := i.names.kernel != "" || len(i.names.initrds) > 0
	switch {
	case len(args) == 2 && said:
		return i.names, usageError{errors.New("DIR, or --kernel and --initrd, not both")}
	case len(args) == 2:
		return filesIn(args[1])
	case i.names.kernel == "" || len(i.names.initrds) == 0:
		return i.names, usageError{errors.New("say what to import: NAME DIR, or NAME --kernel FILE --initrd FILE")}
	}
	return i.names, nil
}

func (i *ramdiskImport) run(cmd *cobra.Command, o *options, args []string) error {
	names, err := i.files(args)
	if err != nil {
		return err
	}
	sign, err := newSigner(i.certFile, i.keyFile)
	if err != nil {
		return err
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	b := newBars(cmd, "import "+args[0])
	defer b.end()
	s, err := readSource(cmd.Context(), names, i.arch, sign, b)
	if err != nil {
		return err
	}
	s.object.Name, s.object.Tags, s.object.Order, s.object.Args = args[0], i.tags, i.order, i.args
	doc, err := s.documents()
	if err != nil {
		return err
	}
	if _, err := broker.ParseObjects(doc); err != nil { // before hundreds of megabytes are sent
		return err
	}
	err = s.each(func(sum string, open func() (io.ReadCloser, error)) error {
		return c.ImportFile(cmd.Context(), sum, func() (io.ReadCloser, error) { return b.follow(open) })
	})
	if err != nil {
		return err
	}
	results, err := c.Apply(cmd.Context(), doc)
	if err != nil {
		return err
	}
	b.end()
	return o.show(cmd.OutOrStdout(), s.object, func(w io.Writer) {
		row(w, "ramdisk/"+args[0], results[0].Result, s.object.Arch, orDash(s.object.KernelVersion), bytesText(ramdiskSize(s.object)), forWhom(s.object))
	})
}

// forWhom says which machines a ramdisk is for.
func forWhom(r broker.Ramdisk) string {
	if len(r.Tags) > 0 {
		return "for nodes with " + strings.Join(r.Tags, ", ")
	}
	return "for every " + r.Arch + " machine that no tag gives another"
}

func ramdiskFiles(r broker.Ramdisk) []broker.RamdiskFile {
	return append([]broker.RamdiskFile{r.Kernel}, r.Initrds...)
}

func ramdiskSize(r broker.Ramdisk) (n int64) {
	for _, f := range ramdiskFiles(r) {
		n += f.SizeBytes
	}
	return n
}

// yesNo is a truth in a table.
func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// describeRamdisk prints all about one, and the policies that name it.
func describeRamdisk(cmd *cobra.Command, o *options, name string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	var all []broker.Ramdisk
	var policies []broker.Policy
	if err := c.Get(cmd.Context(), "/api/v1/objects/"+broker.KindRamdisk, &all); err != nil {
		return err
	}
	if err := c.Get(cmd.Context(), "/api/v1/objects/"+broker.KindPolicy, &policies); err != nil {
		return err
	}
	at := slices.IndexFunc(all, func(r broker.Ramdisk) bool { return r.Name == name })
	if at < 0 {
		return fmt.Errorf("there is no ramdisk %q", name)
	}
	var named []string
	for _, p := range policies {
		if p.Ramdisk == name {
			named = append(named, p.Name)
		}
	}
	return o.show(cmd.OutOrStdout(), all[at], func(w io.Writer) { ramdiskTable(w, all[at], named) })
}

func ramdiskTable(w io.Writer, r broker.Ramdisk, policies []string) {
	row(w, "ramdisk", r.Name)
	row(w, "arch", r.Arch)
	row(w, "kernel", orDash(r.KernelVersion))
	row(w, "for", forWhom(r))
	row(w, "policies", orNone(policies))
	row(w, "order", cmp.Or(r.Order, 100))
	row(w, "arguments", orDash(r.Args))
	row(w, "imported", r.Imported.Format("2006-01-02 15:04:05"))
	for _, f := range ramdiskFiles(r) {
		row(w, f.Name, bytesText(f.SizeBytes), "/boot/f/"+f.SHA256+"/"+f.Name)
		if f.Signature != "" {
			row(w, "", "signed", "/boot/f/"+f.Signature+"/"+f.Name+".sig")
		}
	}
}

// ramdiskRow is one ramdisk in a list.
func ramdiskRow(w io.Writer, d json.RawMessage) bool {
	var r broker.Ramdisk
	if json.Unmarshal(d, &r) != nil {
		return false
	}
	row(w, r.Name, r.Arch, orDash(r.KernelVersion), cmp.Or(r.Order, 100), orDash(strings.Join(r.Tags, ",")), bytesText(ramdiskSize(r)), yesNo(r.Signed()), ago(r.Imported))
	return true
}
