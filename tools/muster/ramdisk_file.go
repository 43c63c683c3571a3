package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"muster/initramfs"
)

// A ramdiskFile is a ramdisk being read: it moves a progress bar and ends when the command is to end.
type ramdiskFile struct {
	*os.File
	ctx  context.Context
	bars *bars
}

// Read implements io.Reader.
func (f *ramdiskFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := f.File.Read(p)
	f.bars.add(int64(n))
	return n, err
}

// openRamdisk opens a ramdisk that will be read as often as said. It comes from others: memory is bounded from here on.
func openRamdisk(ctx context.Context, b *bars, name string, times int64) (*ramdiskFile, error) {
	debug.SetMemoryLimit(initramfs.SoftMemory)
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%q is not a file", name)
	}
	b.grow(times * info.Size())
	return &ramdiskFile{File: f, ctx: ctx, bars: b}, nil
}

// bars show on a terminal how far a command is, and nothing elsewhere.
type bars struct {
	p     *mpb.Progress
	bar   *mpb.Bar
	total int64
}

func newBars(cmd *cobra.Command, what string) *bars {
	w := cmd.ErrOrStderr()
	if !isTerminal(w) {
		return &bars{}
	}
	p := mpb.NewWithContext(cmd.Context(), mpb.WithOutput(w), mpb.WithWidth(40))
	return &bars{p: p, bar: p.AddBar(0, mpb.BarRemoveOnComplete(), mpb.PrependDecorators(decor.Name(what+" ")),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")))}
}

func (b *bars) grow(n int64) {
	if b.total += n; b.bar != nil {
		b.bar.SetTotal(b.total, false)
	}
}

func (b *bars) add(n int64) {
	if b.bar != nil {
		b.bar.IncrInt64(n)
	}
}

// Write moves the bar along what is copied to it.
func (b *bars) Write(p []byte) (int, error) {
	b.add(int64(len(p)))
	return len(p), nil
}

// follow moves the bar along a file that is opened to be read once.
func (b *bars) follow(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r, err := open()
	if f, ok := r.(*os.File); ok && b.bar != nil {
		if st, err := f.Stat(); err == nil {
			b.grow(st.Size())
		}
		return b.bar.ProxyReader(f), nil
	}
	return r, err
}

// end takes the bar away.
func (b *bars) end() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.p.Wait()
		b.bar = nil
	}
}

// replaceFile writes a file beside its place and moves it there when it is whole. It keeps the permissions of what it
// replaces and follows symbolic links to it.
func replaceFile(name string, write func(io.Writer) error) error {
	if real, err := filepath.EvalSymlinks(name); err == nil {
		name = real
	}
	mode := os.FileMode(0o644)
	if info, err := os.Stat(name); err == nil {
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%q is not a file", name)
		}
		mode = info.Mode().Perm()
	}
	scratch, err := os.MkdirTemp(filepath.Dir(name), ".ramdisk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	beside := filepath.Join(scratch, "ramdisk")
	if err := writeNew(beside, write); err != nil {
		return err
	}
	if err := os.Chmod(beside, mode); err != nil {
		return err
	}
	return os.Rename(beside, name)
}

// sourceDateEpoch reads the time that all of a reproducible build has; zero when nobody set it.
func sourceDateEpoch() (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return time.Time{}, usageError{fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", s)}
	}
	return time.Unix(int64(n), 0), nil
}

// outcome is what a command that writes a ramdisk did.
type outcome struct {
	File  string   `json:"file"`
	Notes []string `json:"notes"` // what is not as it was before, in words
}

// show prints it, one note on a line.
func (o outcome) show(w io.Writer, output string) error {
	if output == "json" {
		return writeJSON(w, o)
	}
	for _, note := range o.Notes {
		fmt.Fprintln(w, plain(note))
	}
	_, err := fmt.Fprintf(w, "%s: written, changes: %d\n", o.File, len(o.Notes))
	return err
}

// tableOrJSON refuses other forms of output before anything is done.
func tableOrJSON(output string) error {
	if output != "table" && output != "json" {
		return usageError{fmt.Errorf("output %q: want table or json", output)}
	}
	return nil
}
