package lab

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ramdiskKernel gives Debian's kernel package and the kernel in it, for a test that boots ramdisks.
func ramdiskKernel(t *testing.T) (deb, vmlinuz string) {
	t.Helper()
	if os.Getenv("MUSTER_LAB") != "all" {
		t.Skip("takes minutes beside other work: MUSTER_LAB=all")
	}
	for _, program := range []string{"qemu-system-x86_64", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	deb, err := FetchKernel(t.Context(), filepath.Join(labCache(), "kernel"))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	muster(t, "dpkg-deb", "-x", deb, root)
	found, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(found) != 1 {
		t.Fatalf("kernels in %s: %q; want one", deb, found)
	}
	return deb, found[0]
}

// muster runs a program, ours unless another is named by its first word, and gives what it says.
func muster(t *testing.T, words ...string) string {
	t.Helper()
	if words[0] == "ramdisk" {
		words = append([]string{"../../bin/muster"}, words...)
	}
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", words, err, out)
	}
	return string(out)
}

// TestRamdiskBoots boots what muster ramdisk writes, in each form that a kernel must be able to read, on 128 MB of memory
// with the modules of common servers. The judge of a kernel's reading is the facts that the agent tells.
func TestRamdiskBoots(t *testing.T) {
	deb, vmlinuz := ramdiskKernel(t)
	dir := t.TempDir()
	rack := filepath.Join(dir, "rack.txt")
	if err := os.WriteFile(rack, []byte("rack=r12\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		make func(t *testing.T, image string)
		rack string // the fact of the file that was added
	}{
		{name: "gzip, and a segment behind it", rack: "r12", make: func(t *testing.T, image string) {
			muster(t, "ramdisk", "build", "--kernel", deb, "--modules", "net,storage", "--compress", "gzip", "-o", image)
			before, err := os.ReadFile(image)
			if err != nil {
				t.Fatal(err)
			}
			muster(t, "ramdisk", "add", image, "--append", rack+":/etc/muster/facts.d/rack.txt")
			if after, err := os.ReadFile(image); err != nil || !bytes.HasPrefix(after, before) || len(after) == len(before) {
				t.Errorf("add --append made %d bytes of %d, %v; want the same and more behind", len(after), len(before), err)
			}
		}},
		{name: "zstd, unpacked and packed again with a file", rack: "r12", make: func(t *testing.T, image string) {
			muster(t, "ramdisk", "build", "--kernel", deb, "--modules", "net,storage", "--compress", "zstd", "-o", image)
			work := filepath.Join(t.TempDir(), "work")
			muster(t, "ramdisk", "unpack", image, "-C", work)
			facts := filepath.Join(work, "tree/etc/muster/facts.d")
			if err := os.MkdirAll(facts, 0o755); err != nil {
				t.Fatal(err)
			}
			copyFile(t, rack, filepath.Join(facts, "rack.txt"))
			muster(t, "ramdisk", "repack", work, "-o", image)
		}},
		{name: "xz", make: func(t *testing.T, image string) {
			muster(t, "ramdisk", "build", "--kernel", deb, "--modules", "net,storage", "--compress", "xz", "-o", image)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "ramdisk.cpio")
			row.make(t, image)
			s, err := bootAlone(t, emulatesX64, vmlinuz, image, 128, bootLimit)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.1f s from kernel start to facts accepted", s.seconds)
			if s.told.Facts == nil || len(s.told.Facts.NICs) != 1 {
				t.Fatalf("facts told: %+v; want one NIC", s.told.Facts)
			}
			if got := s.told.Facts.Custom["rack"]; got != row.rack {
				t.Errorf("custom.rack = %q; want %q", got, row.rack)
			}
		})
	}
}

// TestArm64RamdiskBoots boots one that was built for another architecture than this one, by UEFI.
func TestArm64RamdiskBoots(t *testing.T) {
	if os.Getenv("MUSTER_LAB") != "all" {
		t.Skip("takes minutes beside other work: MUSTER_LAB=all")
	}
	if _, err := exec.LookPath(emulatesArm64.program); err != nil {
		t.Skip("needs qemu-system-arm and qemu-efi-aarch64")
	}
	image := ramdiskARM64(t)
	s, err := bootAlone(t, emulatesArm64, filepath.Join(image, "vmlinuz"), filepath.Join(image, "ramdisk.cpio.zst"), 512, bootLimit)
	if err != nil {
		t.Fatal(err)
	}
	f := s.told.Facts
	if f == nil || f.Arch != "aarch64" || f.Firmware == nil || f.Firmware.Mode != "uefi" || len(f.NICs) != 1 {
		t.Fatalf("facts told: %+v; want those of an arm64 machine with UEFI and one NIC", f)
	}
	t.Logf("%.1f s from kernel start to facts accepted", s.seconds)
}

// TestRamdiskSSH logs in to a machine in the ramdisk: with a key of the ramdisk, and in vain with another.
func TestRamdiskSSH(t *testing.T) {
	deb, vmlinuz := ramdiskKernel(t)
	for _, program := range []string{"ssh", "ssh-keygen", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	r := upRack(t, "mustert8")
	ours, other := filepath.Join(r.Dir(), "ours"), filepath.Join(r.Dir(), "other")
	for _, key := range []string{ours, other} {
		muster(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	image := filepath.Join(r.Dir(), "ssh")
	muster(t, "ramdisk", "build", "--source", "../..", "--kernel", deb, "--modules", "vm", "--ssh-key", ours+".pub", "-o", image)
	s, err := r.Serve(ServerConfig{Program: "../../bin/muster", Ramdisk: image, Args: r.ServeArgs(BIOS)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	m := addMachine(t, r, MachineConfig{Name: "a", MemoryMiB: 256, Kernel: vmlinuz, Initrd: filepath.Join(image, "ramdisk.cpio.zst"),
		Append: "console=ttyS0 quiet panic=-1 muster.sshd muster.server=http://" + r.Addr().String() + ":8080"})
	if err := m.On(); err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	// Two programs of the machine say these, in any order.
	words := regexp.MustCompile(`muster\.sshd: port 22 is open .* host key (SHA256:\S+)|eth0 has (10\.77\.[0-9.]+)/`)
	var fingerprint, address string
	for fingerprint == "" || address == "" {
		line, err := m.WaitConsole(ctx, words)
		if err != nil {
			t.Fatal(err)
		}
		said := words.FindStringSubmatch(line)
		fingerprint, address = fingerprint+said[1], address+said[2]
	}

	known := filepath.Join(r.Dir(), "known_hosts")
	ssh := func(key string, words ...string) (string, error) {
		cmd := r.Command(ctx, "ssh", append([]string{"-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
			"-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o", "UserKnownHostsFile=" + known,
			"-o", "ConnectTimeout=60", "root@" + address}, words...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const look = "uname -r; cat /etc/muster/authorized_keys"
	out, err := ssh(ours, look)
	for err != nil && strings.Contains(out, "Connection refused") && ctx.Err() == nil { // said is that it opens; the program has yet to start
		pause(ctx, time.Second)
		out, err = ssh(ours, look)
	}
	key, readErr := os.ReadFile(ours + ".pub")
	if err != nil || readErr != nil || !strings.Contains(out, "-amd64") || !strings.Contains(out, strings.TrimSpace(string(key))) {
		t.Errorf("with the key of the ramdisk: %v\n%s\nwant the kernel's release and the key", err, out)
	}
	if shown := muster(t, "ssh-keygen", "-l", "-f", known); !strings.Contains(shown, fingerprint) {
		t.Errorf("the host key is %s; the console said %s", shown, fingerprint)
	}
	var exit *exec.ExitError // u-root's sshd v0.16.0 tells no status but 0: what fails is 255 at the client
	if out, err := ssh(ours, "exit 7"); !errors.As(err, &exit) {
		t.Errorf("a command that ends with 7: %v\n%s\nwant that it failed", err, out)
	}
	if out, err := ssh(other, "uname -r"); !errors.As(err, &exit) || exit.ExitCode() != 255 || !strings.Contains(out, "Permission denied") {
		t.Errorf("with a key of somebody else: %v\n%s\nwant Permission denied", err, out)
	}
}
