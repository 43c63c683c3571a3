package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"muster/agent/facts"
)

// Bounds of a kexec order; what is fetched lies in memory.
const (
	maxBootFile = 2 << 30 // bytes of one kernel or initrd
	maxInitrds  = 16
)

// loadKernel fetches a kernel and its initrds and loads them. Nothing is started unless every step worked (F39).
func (a *Agent) loadKernel(ctx context.Context, o facts.Order) (facts.Report, error) {
	k := o.Kexec
	if k == nil || k.Kernel == "" {
		return facts.Report{}, errors.New("the kexec order names no kernel")
	}
	if len(k.Initrds) > maxInitrds {
		return facts.Report{}, fmt.Errorf("the kexec order names %d initrds; at most %d are taken", len(k.Initrds), maxInitrds)
	}
	dir, err := os.MkdirTemp("", "kexec")
	if err != nil {
		return facts.Report{}, err
	}
	defer os.RemoveAll(dir)
	kernel, initrd := filepath.Join(dir, "kernel"), ""
	if err := a.fetch(ctx, kernel, k.Kernel); err != nil {
		return facts.Report{}, err
	}
	if len(k.Initrds) > 0 {
		initrd = filepath.Join(dir, "initrd")
		if err := a.fetch(ctx, initrd, k.Initrds...); err != nil {
			return facts.Report{}, err
		}
	}
	if err := a.Load(kernel, initrd, k.Cmdline); err != nil {
		return facts.Report{}, fmt.Errorf("load kernel %q: %w", k.Kernel, err)
	}
	return facts.Report{}, nil
}

// fetch puts the named files of the broker one after the other into one local file, each padded to four bytes, as
// the kernel wants cpio archives in a row.
func (a *Agent) fetch(ctx context.Context, local string, paths ...string) error {
	f, err := os.OpenFile(local, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, path := range paths {
		n, err := a.fetchInto(ctx, f, path)
		if err != nil {
			return fmt.Errorf("fetch %q: %w", path, err)
		}
		if _, err := f.Write(make([]byte, -n&3)); err != nil {
			return err
		}
		a.Console.Printf("fetched %s, %s", path, size(n))
	}
	return f.Close()
}

func (a *Agent) fetchInto(ctx context.Context, w io.Writer, path string) (int64, error) {
	s := a.newStream(ctx, path, -1)
	s.most = maxBootFile
	defer s.Close()
	return io.Copy(w, s)
}
