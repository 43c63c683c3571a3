package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestDebianImageBoots switches machines on that have nothing but the image on a blank disk twice its size, and waits for the
// login prompt. It builds the image where none is cached. What whole lives show too is left to them, but for MUSTER_LAB=all.
func TestDebianImageBoots(t *testing.T) {
	if os.Getenv("MUSTER_LAB") == "" || os.Geteuid() != 0 {
		t.Skip("starts machines for minutes: run as root with MUSTER_LAB=1")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("no qemu-system-x86_64")
	}
	start := time.Now()
	info, err := BuildDebianImage(t.Context(), DebianImageConfig{Dir: filepath.Join(labCache(), "image"),
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
	}{
		{name: "SeaBIOS with a virtio disk", disk: "virtio-blk-pci", shows: []string{"resized filesystem to"}},
		{name: "SeaBIOS with an NVMe disk", disk: "nvme,serial=lab0"},
		{name: "UEFI", code: "OVMF_CODE_4M.fd", vars: "OVMF_VARS_4M.fd", disk: "virtio-blk-pci"},
		{name: "UEFI with Secure Boot enforced", code: "OVMF_CODE_4M.ms.fd", vars: "OVMF_VARS_4M.ms.fd", args: secure,
			disk: "virtio-blk-pci", shows: []string{"secureboot: Secure boot enabled", "Kernel is locked down from EFI Secure Boot"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			if !strings.HasPrefix(m.disk, "nvme") && os.Getenv("MUSTER_LAB") != "all" {
				t.Skip("TestLabLife shows it; MUSTER_LAB=all for it alone")
			}
			dir := t.TempDir()
			disk := filepath.Join(dir, "disk.img")
			unpackImage(t, info.Path, disk, 2*info.RawBytes)
			online := firstBootServer(t)
			addFirstBoot(t, disk, online.url)
			args := []string{"-M", "q35", "-m", "1024", "-smp", "1", "-nographic", "-no-reboot",
				"-drive", "if=none,id=d0,format=raw,cache=unsafe,file=" + disk, "-device", m.disk + ",drive=d0,bootindex=1",
				"-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="}
			if m.code != "" {
				vars := filepath.Join(dir, "vars.fd")
				copyFile(t, "/usr/share/OVMF/"+m.vars, vars)
				args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/"+m.code,
					"-drive", "if=pflash,format=raw,unit=1,file="+vars)
			}
			prompt, cpu := bootUntil(t, append(args, m.args...), append(m.shows, firstBootLine), "debian login:")
			t.Logf("%.1f s from power-on to the login prompt; %.1f s of processor time until the first-boot unit was done",
				prompt.Seconds(), cpu.Seconds())
			if got := online.asked(); got != "/online?debian" {
				t.Errorf("first boot asked for %q; want /online and the host name", got)
			}
		})
	}
}

// bootUntil runs a machine until the prompt and all of shows have been on its console. It returns the time to the prompt, and
// the processor time that the whole run took, which says more on a busy host.
func bootUntil(t *testing.T, args, shows []string, prompt string) (atPrompt, cpu time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	var out consoleText
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is killed takes its machine with it
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if atPrompt == 0 && out.lacks([]string{prompt}) == "" {
			atPrompt = time.Since(start)
		}
		missing := out.lacks(append(shows, prompt))
		if missing == "" {
			cancel()
			<-ended
			return atPrompt, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
		if out.lacks([]string{"Kernel panic"}) == "" {
			cancel()
		}
		select {
		case err := <-ended:
			t.Fatalf("machine ended (%v) without %q; its console:\n%s", err, missing, out.bytes())
		case <-tick.C:
		}
	}
}

// firstBootLine is what the unit of addFirstBoot leaves on the console.
const firstBootLine = "lab: the first boot was online"

// addFirstBoot puts a unit into the image the way an installer does: it wants the network, asks url with its host name, and
// prints the answer. debugfs writes into the file system without mounting it.
func addFirstBoot(t *testing.T, disk, url string) {
	t.Helper()
	unit := filepath.Join(t.TempDir(), "lab-first-boot.service")
	text := "[Unit]\nWants=network-online.target\nAfter=network-online.target\n[Service]\nType=oneshot\nStandardOutput=tty\n" +
		"TTYPath=/dev/ttyS0\nExecStart=/bin/sh -c 'curl -fsS " + url + "/online?$(hostname)'\n"
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("debugfs", "-w", "-f", "-", fmt.Sprintf("%s?offset=%d", disk, debianRoot.first*sectorBytes))
	cmd.Stdin = strings.NewReader("write " + unit + " /etc/systemd/system/lab-first-boot.service\n" +
		"symlink /etc/systemd/system/multi-user.target.wants/lab-first-boot.service ../lab-first-boot.service\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v\n%s", err, out)
	}
}

// A bootWitness is the server that a first boot asks. QEMU's user network shows the host's loopback as 10.0.2.2.
type bootWitness struct {
	url string
	mu  sync.Mutex
	uri string
}

func (w *bootWitness) asked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.uri
}

func firstBootServer(t *testing.T) *bootWitness {
	t.Helper()
	w := new(bootWitness)
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.uri = r.URL.RequestURI()
		w.mu.Unlock()
		fmt.Fprintln(rw, firstBootLine)
	}))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://10.0.2.2:" + port
	return w
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
