package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"muster/broker"
	"muster/broker/api"
	"muster/broker/repo"
	"muster/broker/repo/disc"
)

// repoImport is what muster repo import was asked for.
type repoImport struct {
	object broker.Repo // what was said of it; the rest is recognized
	sum    string      // that the file must have
}

func repoImportCommand(o *options) *cobra.Command {
	i := &repoImport{}
	c := &cobra.Command{
		Use: "import NAME ISO|DIR|IMAGE|URL", Short: "give the server an install tree, a disk image or a mirror, and name it",
		Long: "import makes NAME a repo that policies may name:\n\n" +
			"  ISO    a disc image (ISO 9660 with Rock Ridge or Joliet, UDF): its files are read here, without mounting and without\n" +
			"         root, and those that the server has not are sent\n" +
			"  DIR    a directory with an install tree\n" +
			"  IMAGE  a raw disk image, plain or in zstd or gzip, which task image writes to disks\n" +
			"  URL    a mirror, which stays where it is; or an ISO or image there, which is fetched first\n\n" +
			"What is installed is recognized (os, version, arch, kernel, initrds); flags win. NAME is switched when all is there: an\n" +
			"import that was cut short leaves the old tree in service, and the same command goes on with it. With --sha256, or where\n" +
			"SHA256SUMS, CHECKSUM or FILE.sha256 lies beside the file and tells of it, its bytes must be those.",
		Example: "  muster repo import rocky-9 Rocky-9.4-x86_64-dvd.iso\n  muster repo import win2022 win2022.iso --task windows\n" +
			"  muster repo import debian-12 https://deb.debian.org/debian --os debian --version 12 --arch amd64\n" +
			"  muster repo import debian-12-image debian-12.img.zst",
		Args: exactly(2, "NAME and ISO, DIR, IMAGE or URL"),
		RunE: func(cmd *cobra.Command, args []string) error { return i.run(cmd, o, args[0], args[1]) },
	}
	f := c.Flags()
	f.StringVar(&i.sum, "sha256", "", "what the file must have, in hexadecimal")
	f.StringVar(&i.object.OS, "os", "", "what it installs: debian, rocky, windows, ... (default: as recognized)")
	f.StringVar(&i.object.Version, "version", "", "of the os")
	f.StringVar(&i.object.Arch, "arch", "", "amd64, arm64, ...")
	f.StringVar(&i.object.Kernel, "kernel", "", "path of the kernel in the tree")
	f.StringArrayVar(&i.object.Initrds, "initrd", nil, "path of an initrd in the tree; may be repeated")
	f.StringVar(&i.object.Task, "task", "", "task that installs it")
	return c
}

// remoteFile are the URLs that are a file to fetch, not a mirror.
var remoteFile = regexp.MustCompile(`(?i)^https?://.*\.(iso|img|raw|gz|zst|zstd)$`)

func (i *repoImport) run(cmd *cobra.Command, o *options, name, from string) error {
	i.object.Kind, i.object.Name = broker.KindRepo, name
	if i.sum = strings.ToLower(i.sum); i.sum != "" && !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(i.sum) {
		return usageError{fmt.Errorf("--sha256 %q: want 64 hexadecimal digits", i.sum)}
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	isURL := strings.HasPrefix(from, "http://") || strings.HasPrefix(from, "https://")
	switch {
	case isURL && remoteFile.MatchString(from):
		fetched, err := fetch(cmd, name, from)
		if err != nil {
			return err
		}
		if err := i.path(cmd, o, c, fetched); err != nil {
			return err
		}
		return os.Remove(fetched)
	case isURL:
		return i.mirror(cmd, o, c, from)
	}
	return i.path(cmd, o, c, from)
}

// path imports what lies here.
func (i *repoImport) path(cmd *cobra.Command, o *options, c *api.Client, name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if st.IsDir() {
		return i.directory(cmd, o, c, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	if i.sum == "" {
		if i.sum, err = sumBeside(name); err != nil {
			return err
		}
	}
	isDisc, err := startsAsDisc(f)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if isDisc {
		return i.iso(cmd, o, c, f, st.Size())
	}
	return i.image(cmd, o, c, f, st.Size())
}

// startsAsDisc looks for the first volume descriptor of ISO 9660 or UDF (ECMA-167 section 2/9.1).
func startsAsDisc(f io.ReaderAt) (bool, error) {
	b := make([]byte, 6)
	n, err := f.ReadAt(b, 16*2048)
	if n < len(b) && errors.Is(err, io.EOF) {
		return false, nil // too short for one
	}
	if n < len(b) {
		return false, err
	}
	id := string(b[1:])
	return id == "CD001" || id == "BEA01", nil
}

// iso imports the files of a disc image.
func (i *repoImport) iso(cmd *cobra.Command, o *options, c *api.Client, f *os.File, size int64) error {
	d, err := disc.Open(f, size)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	b := newBars(cmd, "read "+i.object.Name)
	defer b.end()
	b.grow(2 * size)
	var src *repo.Source
	g, ctx := errgroup.WithContext(cmd.Context())
	g.Go(func() (err error) {
		src, err = repo.ReadSource(ctx, repo.ReadDisc(d, size), b.add)
		return err
	})
	g.Go(func() (err error) {
		i.object.ISO, err = i.wholeSum(ctx, io.NewSectionReader(f, 0, size), b)
		return err
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	b.end()
	return i.tree(cmd, o, c, src, d.Format.Fold())
}

// wholeSum sums a file up, and compares the sum with what it must be.
func (i *repoImport) wholeSum(ctx context.Context, f io.Reader, b *bars) (string, error) {
	sum, err := repo.Sum(ctx, f, b.add)
	switch {
	case err != nil:
		return "", err
	case i.sum != "" && i.sum != sum:
		return "", fmt.Errorf("its sha256 is %s, not %s: it is not what it should be, or not whole", sum, i.sum)
	}
	return sum, nil
}

func (i *repoImport) directory(cmd *cobra.Command, o *options, c *api.Client, name string) error {
	if i.sum != "" {
		return usageError{errors.New("--sha256 is of a file, and this is a directory")}
	}
	root, err := os.OpenRoot(name)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer root.Close()
	b := newBars(cmd, "read "+i.object.Name)
	defer b.end()
	src, err := repo.ReadSource(cmd.Context(), repo.ReadDir(root), func(n int64) { b.grow(n); b.add(n) })
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.end()
	return i.tree(cmd, o, c, src, false)
}

// tree sends a tree that was read, and names it. fold: who wrote it may have changed the case of its names.
func (i *repoImport) tree(cmd *cobra.Command, o *options, c *api.Client, src *repo.Source, fold bool) error {
	found, err := repo.Recognize(src)
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", plain(err.Error()))
	}
	if err := src.Name(fold || found.Fold); err != nil {
		return err
	}
	i.describe(cmd, found)
	i.object.Tree, i.object.SizeBytes, i.object.Files = src.Sum, src.Bytes, src.Files()
	doc, err := i.document()
	if err != nil {
		return err
	}
	b := newBars(cmd, "import "+i.object.Name)
	defer b.end()
	if err := c.ImportTree(cmd.Context(), src, b.grow, b.add); err != nil {
		return fmt.Errorf("%w (the same command goes on where it was cut short)", err)
	}
	b.end()
	return i.apply(cmd, o, c, doc)
}

// describe fills in what was recognized and not said.
func (i *repoImport) describe(cmd *cobra.Command, found repo.OS) {
	x := &i.object
	for _, f := range []struct {
		said  *string
		found string
	}{{&x.OS, found.Name}, {&x.Version, found.Version}, {&x.Arch, found.Arch}, {&x.Kernel, found.Kernel}, {&x.Task, found.Task}} {
		if *f.said == "" {
			*f.said = f.found
		}
	}
	if len(x.Initrds) == 0 {
		x.Initrds = found.Initrds
	}
	x.Editions = found.Editions
	switch {
	case x.OS == "":
		fmt.Fprintln(cmd.ErrOrStderr(), "note: what it installs was not recognized: say --os, --version, --arch, --kernel, --initrd")
	case found.Note != "":
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", found.Note)
	}
}

// document is the object, checked before gigabytes are sent.
func (i *repoImport) document() ([]byte, error) {
	doc, err := json.Marshal(i.object)
	if err == nil {
		_, err = broker.ParseObjects(doc)
	}
	return doc, err
}

func (i *repoImport) apply(cmd *cobra.Command, o *options, c *api.Client, doc []byte) error {
	results, err := c.Apply(cmd.Context(), doc)
	if err != nil {
		return err
	}
	r := i.object
	return o.show(cmd.OutOrStdout(), r, func(w io.Writer) {
		what := strings.TrimSpace(r.OS + " " + r.Version + " " + r.Arch)
		if r.URL != "" {
			row(w, "repo/"+r.Name, results[0].Result, orDash(what), "mirror "+r.URL)
			return
		}
		row(w, "repo/"+r.Name, results[0].Result, orDash(what), fmt.Sprintf("%d files", r.Files), bytesText(r.SizeBytes), "tree "+r.Tree)
	})
}

// image sends a disk image, with a progress bar on a terminal.
func (i *repoImport) image(cmd *cobra.Command, o *options, c *api.Client, f *os.File, size int64) error {
	b := newBars(cmd, "import "+i.object.Name)
	defer b.end()
	b.grow(size)
	if i.sum != "" {
		b.grow(size)
		if _, err := i.wholeSum(cmd.Context(), io.NewSectionReader(f, 0, size), b); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
	}
	r, err := c.ImportImage(cmd.Context(), i.object.Name, io.TeeReader(f, b))
	if err != nil {
		return err
	}
	b.end()
	return o.show(cmd.OutOrStdout(), r, func(w io.Writer) {
		row(w, "repo/"+r.Name, r.Compression, bytesText(r.SizeBytes), "unpacked "+bytesText(r.RawBytes), "sha256 "+r.SHA256)
	})
}

// mirror names a mirror, which is asked what it is of, and needs not to be here.
func (i *repoImport) mirror(cmd *cobra.Command, o *options, c *api.Client, url string) error {
	if i.sum != "" {
		return usageError{errors.New("--sha256 is of a file, and this is a mirror")}
	}
	i.object.URL = strings.TrimRight(url, "/")
	found, err := repo.Recognize(mirrorFiles{cmd.Context(), i.object.URL})
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: the mirror does not tell what it is of: %s\n", plain(err.Error()))
	}
	i.describe(cmd, found)
	doc, err := i.document()
	if err != nil {
		return err
	}
	return i.apply(cmd, o, c, doc)
}
