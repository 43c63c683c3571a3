package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/initramfs"
)

// tinyRamdisk is two archives in a row, the second over the first, as GNU cpio writes them.
func tinyRamdisk(t *testing.T) string {
	t.Helper()
	entry := func(name, mode, content string) string {
		number := func(n int) string { return strings.ToUpper(leftPad(n)) }
		head := "070701" + number(1) + mode + number(0) + number(0) + number(1) + number(0) + number(len(content)) +
			strings.Repeat(number(0), 2) + number(5) + number(1) + number(len(name)+1) + number(0) + name + "\x00"
		return head + strings.Repeat("\x00", -len(head)&3) + content + strings.Repeat("\x00", -len(content)&3)
	}
	end := entry("TRAILER!!!", "00000000", "")
	var b bytes.Buffer
	for _, archive := range []string{
		entry("dev/console", "00002180", "") + entry("init", "0000A1FF", "bbin/init") + entry("tmp", "000043FF", "") + end,
		entry("init", "000081ED", "#!/bin/sh\n") + entry("lib", "000041ED", "") + entry("lib/modules", "000041ED", "") +
			entry("lib/modules/6.1", "000041ED", "") + entry("lib/modules/6.1/a\nb.ko", "000081A4", "x") + end,
	} {
		z := gzip.NewWriter(&b)
		if _, err := z.Write([]byte(archive)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "ramdisk.cpio.gz")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func leftPad(n int) string {
	const digits = "0123456789abcdef"
	b := []byte("00000000")
	for i := 7; n > 0; i, n = i-1, n>>4 {
		b[i] = digits[n&15]
	}
	return string(b)
}

// ramdiskRun runs muster ramdisk and gives its output.
func ramdiskRun(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := ramdiskCommand(&options{output: "table"})
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	c.SilenceUsage, c.SilenceErrors = true, true
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

func TestRamdiskList(t *testing.T) {
	name := tinyRamdisk(t)
	got, err := ramdiskRun(t, "list", name)
	if err != nil {
		t.Fatal(err)
	}
	want := `  Dcrw------- 0:0        5,1 dev/console
- Lrwxrwxrwx 0:0          9 init -> bbin/init
  dtrwxrwxrwx 0:0          0 tmp
  -rwxr-xr-x 0:0         10 init
  drwxr-xr-x 0:0          0 lib
  drwxr-xr-x 0:0          0 lib/modules
  drwxr-xr-x 0:0          0 lib/modules/6.1
  -rw-r--r-- 0:0          1 lib/modules/6.1/a?b.ko
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
}

func TestRamdiskListJSON(t *testing.T) {
	got, err := ramdiskRun(t, "list", "-o", "json", "--summary", tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	var m initramfs.Manifest
	if err := json.Unmarshal([]byte(got), &m); err != nil {
		t.Fatal(err)
	}
	if m.Archives != 2 || m.Userland.Files != 1 || m.Drivers.Files != 1 || m.Userland.Gzip == 0 || m.Entries != nil {
		t.Errorf("manifest %+v", m)
	}
}

func TestRamdiskListSummary(t *testing.T) {
	got, err := ramdiskRun(t, "list", "--summary", tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"userland", "modules", "ramdisk", "kernel 6.1, 1 modules; gzip, 2 archives, sha256 "} {
		if !strings.Contains(got, word) {
			t.Errorf("summary lacks %q:\n%s", word, got)
		}
	}
}

func TestRamdiskWrongCalls(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"build wants a place to write to", []string{"build"}, "say where to"},
		{"build wants the source", []string{"build", "-o", "out", "--source", t.TempDir()}, "is not the directory of muster's source"},
		{"a file wants a place in the ramdisk", []string{"build", "-o", "out", "--source", "../..", "--file", "x"}, `--file "x": want SRC:DST`},
		{"list reads one file", []string{"list", "a", "b"}, "want one FILE"},
		{"list says what is not a ramdisk", []string{"list", "ramdisk_test.go"}, `list ramdisk "ramdisk_test.go"`},
		{"list prints tables or JSON", []string{"list", "-o", "xml", tinyRamdisk(t)}, "want table or json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ramdiskRun(t, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v; want %q in it", err, tt.want)
			}
		})
	}
}

// What lies there is kept only if it is what its manifest says, and that of this build.
func TestRamdiskCurrent(t *testing.T) {
	dir := t.TempDir()
	p := ramdiskPathsOf(dir, "gzip", true)
	ramdisk, err := os.ReadFile(tinyRamdisk(t))
	if err != nil {
		t.Fatal(err)
	}
	m, err := initramfs.List(bytes.NewReader(ramdisk))
	if err != nil {
		t.Fatal(err)
	}
	m.Key = "key"
	manifest, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name string, content []byte) {
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func()
		key  string
		want bool
	}{
		{"nothing there", func() {}, "key", false},
		{"a manifest alone", func() { put(p.manifest, manifest) }, "key", false},
		{"no kernel", func() { put(p.ramdisk, ramdisk) }, "key", false},
		{"all there", func() { put(p.vmlinuz, []byte("kernel")) }, "key", true},
		{"another build", func() {}, "other", false},
		{"a ramdisk cut short", func() { put(p.ramdisk, ramdisk[:40]) }, "key", false},
	}
	for _, step := range steps {
		step.do()
		if _, ok := p.current(step.key); ok != step.want {
			t.Errorf("%s: current is %v; want %v", step.name, ok, step.want)
		}
	}
}

// certificate is a real one, of nobody.
func certificate(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK0wmN/Cr3JXqmLW7u+g9pTh+wyqDHpSQEIQczXkVx9q who@where\n"

func TestRamdiskOverlay(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, content []byte, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	ca := put("ca", certificate(t), 0o644)
	secret := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	both := put("both", append(certificate(t), secret...), 0o644)
	keys, private := put("key.pub", []byte("# mine\n"+publicKey+publicKey), 0o644), put("key", secret, 0o600)
	empty, odd := put("empty", nil, 0o644), put("odd.pub", []byte(publicKey+"nonsense\n"), 0o644)
	program := put("facts/row", []byte("#!/bin/sh\n"), 0o755)
	put("facts/site.json", []byte("{}"), 0o644)
	hidden, dull := put("bad/.x.json", nil, 0o644), put("bad/notes", nil, 0o644)
	tests := []struct {
		name string
		b    ramdiskBuild
		want string // names in the ramdisk, or the error
	}{
		{"facts of a directory", ramdiskBuild{facts: []string{filepath.Join(dir, "facts")}}, "etc/muster/facts.d/row etc/muster/facts.d/site.json"},
		{"one program", ramdiskBuild{facts: []string{program}}, "etc/muster/facts.d/row"},
		{"what the agent would not read", ramdiskBuild{facts: []string{dull}}, "notes is neither a program"},
		{"what the agent passes over", ramdiskBuild{facts: []string{hidden}}, "begins with a dot"},
		{"certificates", ramdiskBuild{authority: ca}, "etc/muster/ca.pem"},
		{"a certificate with its key", ramdiskBuild{authority: both}, "it holds a PRIVATE KEY, which must not go into a ramdisk"},
		{"no certificate", ramdiskBuild{authority: empty}, "no PEM certificate"},
		{"public keys", ramdiskBuild{sshKey: keys}, "etc/muster/authorized_keys"},
		{"a private key", ramdiskBuild{sshKey: private}, "name the file ending in .pub"},
		{"no key", ramdiskBuild{sshKey: empty}, "key 1: "},
		{"a line that is no key", ramdiskBuild{sshKey: odd}, "key 2: "},
		{"a directory, then a file over it", ramdiskBuild{overlays: []string{dir}, files: []string{ca + ":/etc/x"}}, "/ /etc/x"},
		{"a file is no overlay", ramdiskBuild{overlays: []string{ca}}, "want a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.b.overlay()
			var names []string
			for _, f := range tt.b.config.Files {
				names = append(names, f.Name)
			}
			got := strings.Join(names, " ")
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != tt.want || !strings.Contains(got, tt.want) {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

func TestRamdiskOutput(t *testing.T) {
	for _, tt := range []struct{ out, compress, want string }{
		{"dir", "", "dir/ramdisk.cpio.gz"}, {"dir", "xz", "dir/ramdisk.cpio.xz"}, {"dir", "none", "dir/ramdisk.cpio"},
		{"a.zst", "", "a.zst"}, {"a.cpio", "", "a.cpio"}, {"a.gz", "xz", "a.gz"},
	} {
		b := ramdiskBuild{out: tt.out, userland: tinyRamdisk(t)}
		b.config.Compress, b.config.Arch = tt.compress, "amd64"
		if err := errors.Join(b.complete(), b.chooseCompression(t.Context())); err != nil {
			t.Fatal(err)
		}
		if got := ramdiskPathsOf(tt.out, b.config.Compress, false); got.ramdisk != tt.want {
			t.Errorf("-o %s --compress %q goes to %s; want %s", tt.out, tt.compress, got.ramdisk, tt.want)
		}
	}
}

// A directory that is served holds one ramdisk.
func TestRamdiskOfAnotherCompressionGoes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ramdisk.cpio.gz", "ramdisk.cpio.zst", "own.gz"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := ramdiskPathsOf(dir, "zstd", false)
	if err := p.removeOthers(); err != nil {
		t.Fatal(err)
	}
	if got := ramdiskNames(dir); len(got) != 1 || got[0] != "ramdisk.cpio.zst" {
		t.Errorf("served is %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "own.gz")); err != nil {
		t.Error(err)
	}
}
