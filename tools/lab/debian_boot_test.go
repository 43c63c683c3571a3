package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestDebianImageBoots switches machines on that have nothing but the image on a blank disk twice its size, and waits for the
// login prompt. It builds the image where none is cached.
func TestDebianImageBoots(t *testing.T) {
	if os.Getenv("MUSTER_LAB") != "1" || os.Geteuid() != 0 {
		t.Skip("starts machines for minutes: run as root with MUSTER_LAB=1")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no cache directory: %v", err)
	}
	start := time.Now()
	info, err := BuildDebianImage(t.Context(), DebianImageConfig{Dir: filepath.Join(cache, "muster", "lab"),
		Progress: func(what string) { t.Logf("%6.1f s  %s", time.Since(start).Seconds(), what) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("image after %.1f s: %+v", time.Since(start).Seconds(), *info)

	secure := []string{"-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"}
	for _, m := range []struct {
		name       string
		code, vars string // pflash; empty: SeaBIOS
		args       []string
		disk       string   // device
		shows      []string // beside the prompt
		network    bool     // a unit that wants network-online.target must fetch a file before it
	}{
		{name: "SeaBIOS with a virtio disk", disk: "virtio-blk-pci", network: true},
		{name: "SeaBIOS with an NVMe disk", disk: "nvme,serial=lab0"},
		{name: "UEFI", code: "OVMF_CODE_4M.fd", vars: "OVMF_VARS_4M.fd", disk: "virtio-blk-pci"},
		{name: "UEFI with Secure Boot enforced", code: "OVMF_CODE_4M.ms.fd", vars: "OVMF_VARS_4M.ms.fd", args: secure,
			disk: "virtio-blk-pci", shows: []string{"secureboot: Secure boot enabled", "Kernel is locked down from EFI Secure Boot"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			disk := filepath.Join(dir, "disk.img")
			unpackImage(t, info.Path, disk, 2*info.RawBytes)
			args := []string{"-M", "q35", "-m", "1024", "-smp", "1", "-nographic", "-no-reboot",
				"-drive", "if=none,id=d0,format=raw,cache=unsafe,file=" + disk, "-device", m.disk + ",drive=d0,bootindex=1",
				"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="}
			if m.code != "" {
				vars := filepath.Join(dir, "vars.fd")
				copyFile(t, "/usr/share/OVMF/"+m.vars, vars)
				args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/"+m.code,
					"-drive", "if=pflash,format=raw,unit=1,file="+vars)
			}
			want := append(m.shows, "debian login:")
			console, took := bootUntil(t, append(args, m.args...), want, 4*time.Minute)
			t.Logf("%.1f s from power-on to the login prompt; %d bytes on the console", took.Seconds(), len(console))
			if name := os.Getenv("MUSTER_LAB_CONSOLE"); name != "" {
				os.WriteFile(filepath.Join(name, strings.ReplaceAll(m.name, " ", "-")+".txt"), console, 0o644)
			}
		})
	}
}

// bootUntil runs a machine until all of want has been on its console, and returns what was there.
func bootUntil(t *testing.T, args, want []string, limit time.Duration) ([]byte, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out consoleText
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := out.lacks(want)
		if missing == "" {
			took := time.Since(start)
			cancel()
			<-ended
			return out.bytes(), took
		}
		select {
		case err := <-ended:
			t.Fatalf("machine ended (%v) without %q; its console:\n%s", err, missing, out.bytes())
		case <-tick.C:
		}
	}
}

// consoleText collects a console while another goroutine reads it.
type consoleText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *consoleText) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *consoleText) bytes() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text.Bytes())
}

// lacks returns the first of want that has not been written yet.
func (c *consoleText) lacks(want []string) string {
	text := c.bytes()
	for _, w := range want {
		if !bytes.Contains(text, []byte(w)) {
			return w
		}
	}
	return ""
}

// unpackImage writes the image to a sparse file of the given size, as an installer would to a disk.
func unpackImage(t *testing.T, image, disk string, size int64) {
	t.Helper()
	in, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dec, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(imageWindow))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	out, err := os.Create(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := errors.Join(copySparse(out, dec), out.Truncate(size)); err != nil {
		t.Fatal(err)
	}
}

// copySparse leaves holes where a whole block is zero.
func copySparse(out *os.File, in io.Reader) error {
	block := make([]byte, 64<<10)
	zero := make([]byte, len(block))
	for at := int64(0); ; at += int64(len(block)) {
		n, err := io.ReadFull(in, block)
		if n > 0 && !bytes.Equal(block[:n], zero[:n]) {
			if _, err := out.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o644); err != nil {
		t.Fatal(err)
	}
}
