package initramfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/u-root/mkuimage/cpio"
)

// standIn is a module whose agent is small, but has what ours has: packages of a module path without a dot, and files
// embedded in them.
var standIn = map[string]string{
	"agent/cmd/muster-agent/main.go": `package main

import (
	"fmt"
	"runtime/debug"

	"muster/agent/facts"
)

func main() {
	info, _ := debug.ReadBuildInfo()
	fmt.Print(facts.Text, info.Main.Path)
	for _, s := range info.Settings {
		if s.Key == "DefaultGODEBUG" || s.Key == "-tags" {
			fmt.Print(" ", s.Key, "=", s.Value)
		}
	}
}
`,
	"agent/facts/facts.go": `// Package facts is not the real one.
package facts

import _ "embed"

//go:embed text/facts.txt
var Text string
`,
	"agent/facts/text/facts.txt": "embedded ",
}

// smallCommands are what no ramdisk can do without.
var smallCommands = []string{
	"github.com/u-root/u-root/cmds/core/gosh",
	"github.com/u-root/u-root/cmds/core/init",
}

// standInModule writes the module to a directory of its own.
func standInModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{}
	for name, content := range standIn {
		files[name] = content
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(content)
	}
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// standInConfig is a ramdisk of the stand-in, from a source and in a scratch directory that nobody else uses.
func standInConfig(t *testing.T) Config {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	if os.Getenv("COLD_CACHE") != "" { // compile all of Go again: two minutes
		t.Setenv("GOCACHE", t.TempDir())
	}
	overlay := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(overlay, []byte("hello\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	return Config{
		Source:   standInModule(t),
		Commands: smallCommands,
		Kernel:   []string{testDeb(t, packXZ)},
		Modules:  []string{"virtio_net", "ext4"},
		Files:    []File{{Name: "/etc/greeting", Source: overlay}},
	}
}

func mustBuild(t *testing.T, c Config) (*Manifest, []byte) {
	t.Helper()
	var out bytes.Buffer
	m, err := Build(t.Context(), c, &out)
	if err != nil {
		t.Fatal(err)
	}
	return m, out.Bytes()
}

func TestTwoBuildsAreIdentical(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles a userland twice")
	}
	m, first := mustBuild(t, standInConfig(t))
	time.Sleep(1100 * time.Millisecond) // so that a time of day, in seconds, would show
	t.Setenv("GOFLAGS", "-tags=other")
	t.Setenv("GOAMD64", "v3")
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "de_DE.UTF-8")
	t.Setenv("HOSTNAME", "other")
	defer syscall.Umask(syscall.Umask(0o077))
	second := standInConfig(t)
	t.Chdir(t.TempDir())
	if _, got := mustBuild(t, second); !bytes.Equal(first, got) {
		t.Errorf("two builds of %d and %d bytes differ", len(first), len(got))
	}
	t.Run("the agent runs out of it", func(t *testing.T) { testAgentRuns(t, first) })
	t.Run("all is of root and of one time", func(t *testing.T) { testReproducibleHeaders(t, m) })
	t.Run("the links are u-root's", func(t *testing.T) { testLinks(t, m) })
	t.Run("a prebuilt userland gives the same", func(t *testing.T) { testPrebuilt(t, second, first) })
}

// testPrebuilt builds from a userland that was built before, where there is no Go and no source.
func testPrebuilt(t *testing.T, c Config, want []byte) {
	alone := c
	alone.Kernel, alone.Files, alone.Compress = nil, nil, "zstd"
	_, userland := mustBuild(t, alone)
	t.Setenv("PATH", t.TempDir())
	c.Source, c.Prebuilt = "", userland
	if _, got := mustBuild(t, c); !bytes.Equal(want, got) {
		t.Errorf("from source it has %d bytes, from a prebuilt userland %d others", len(want), len(got))
	}
	if _, err := c.Key(t.Context()); err != nil {
		t.Errorf("key without Go: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"for another machine": func(c *Config) { c.Arch, c.Kernel = "arm64", nil },
		"cut short":           func(c *Config) { c.Prebuilt = userland[:len(userland)/2] },
		"with modules in it":  func(c *Config) { c.Prebuilt = want },
		"no ramdisk":          func(c *Config) { c.Prebuilt = []byte("hello") },
	} {
		bad := c
		change(&bad)
		if _, err := Build(t.Context(), bad, io.Discard); err == nil {
			t.Errorf("a userland %s was taken", name)
		}
	}
}

// testAgentRuns unpacks the busybox with u-root's reader and runs it as the agent.
func testAgentRuns(t *testing.T, ramdisk []byte) {
	z, err := gzip.NewReader(bytes.NewReader(ramdisk))
	if err != nil {
		t.Fatal(err)
	}
	if z.Name != "" || z.ModTime.Unix() > 0 {
		t.Errorf("the gzip header tells name %q, time %v", z.Name, z.ModTime)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := cpio.ArchiveFromReader(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	record, ok := archive.Get("bbin/bb")
	if !ok {
		t.Fatal("no bbin/bb")
	}
	content, err := io.ReadAll(io.NewSectionReader(record.ReaderAt, 0, int64(record.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "muster-agent")
	if err := os.WriteFile(program, content, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program).CombinedOutput()
	if err != nil || string(out) != "embedded  -tags="+strings.Join(buildTags, ",") {
		t.Errorf("the agent says %q, %v; its settings should be those of the toolchain and the userland's tags", out, err)
	}
}

func testReproducibleHeaders(t *testing.T, m *Manifest) {
	for i, e := range m.Entries {
		if e.UID != 0 || e.GID != 0 || e.Time != 315532800 || e.Ino != uint32(i+1) {
			t.Errorf("%s is of %d:%d, time %d, inode %d", e.Name, e.UID, e.GID, e.Time, e.Ino)
		}
	}
}

func testLinks(t *testing.T, m *Manifest) {
	want := map[string]string{"init": "bbin/init", "bin/uinit": "../bbin/muster-agent", "bin/sh": "../bbin/gosh",
		"bbin/init": "bb", "bbin/muster-agent": "bb", "etc/greeting": "", "dev/console": "",
		"lib/modules/6.1.0-1-test/virtio_net.ko.zst": "", "lib/modules/6.1.0-1-test/modules.dep": ""}
	for name, target := range want {
		if e, ok := m.Lookup(name); !ok || e.Target != target {
			t.Errorf("%s leads to %q, %v; want %q", name, e.Target, ok, target)
		}
	}
}

func TestBuildStopsWhenTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, Config{Source: standInModule(t)}, io.Discard); err == nil {
		t.Error("a build went on after it was cancelled")
	}
}

func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, step := range []error{
		os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o700),
		os.WriteFile(filepath.Join(dir, "tree", "sub", "script"), []byte("#!/bin/sh\n"), 0o700),
		os.WriteFile(filepath.Join(dir, "tree", "text"), []byte("text"), 0o600),
		os.Symlink("sub/script", filepath.Join(dir, "tree", "link")),
		os.Symlink("tree", filepath.Join(dir, "entry")),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	packed := make(tree)
	packed.addSkeleton()
	err := packed.addFiles([]File{
		{Name: "/opt/a", Source: filepath.Join(dir, "entry")},
		{Name: "opt/a/text", Source: filepath.Join(dir, "tree", "sub", "script")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := packed.writeTo(context.Background(), time.Unix(1e9, 0), &archive); err != nil {
		t.Fatal(err)
	}
	m, err := List(&archive)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range namesIn(m) {
		if strings.Contains(line, "opt") {
			got = append(got, line)
		}
	}
	want := []string{"drwxr-xr-x 0 opt", "drwxr-xr-x 0 opt/a", "lrwxrwxrwx 10 opt/a/link -> sub/script",
		"drwxr-xr-x 0 opt/a/sub", "-rwxr-xr-x 10 opt/a/sub/script", "-rwxr-xr-x 10 opt/a/text"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// T36: nothing is packed under a name that leaves the ramdisk or ends it.
func TestOverlayRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../etc/passwd", "a/../../b", "a/..", "", "/", "TRAILER!!!", "a\x00b", strings.Repeat("x", 5000)} {
		if err := make(tree).addFiles([]File{{Name: name, Source: file}}); err == nil {
			t.Errorf("%.40q was packed", name)
		}
	}
	if err := make(tree).addFiles([]File{{Name: "x/../..", Source: file}}); !errors.Is(err, errEscape) {
		t.Errorf("error is %v; want that the name leaves the ramdisk", err)
	}
	if err := make(tree).addFiles([]File{{Name: "null", Source: "/dev/null"}}); err == nil {
		t.Error("a device node was packed")
	}
	below := make(tree)
	if err := below.addFiles([]File{{Name: "a", Source: file}, {Name: "a/b", Source: file}}); err != nil {
		t.Fatal(err)
	}
	if err := below.writeTo(context.Background(), time.Unix(0, 0), io.Discard); err == nil {
		t.Error("a file was packed below a file")
	}
}

func TestKeyFollowsItsInputs(t *testing.T) {
	source, kernel := standInModule(t), []string{testDeb(t, packGzip)}
	overlay := filepath.Join(t.TempDir(), "x")
	write := func(name, content string) {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(overlay, "one")
	c := Config{Source: source, Kernel: kernel, Files: []File{{Name: "x", Source: overlay}}}
	key := func(c Config) string {
		k, err := c.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key(c)
	if key(c) != first {
		t.Error("the same gave two keys")
	}
	write(filepath.Join(source, "agent", "facts", "facts_test.go"), "package facts")
	if key(c) != first {
		t.Error("a test changed the key")
	}
	changes := []struct {
		name   string
		change func()
	}{
		{"another module", func() { c.Modules = []string{"vm"} }},
		{"another time", func() { c.Epoch = time.Unix(5, 0) }},
		{"a changed overlay", func() { write(overlay, "two") }},
		{"a changed source", func() { write(filepath.Join(source, "agent/facts/facts.go"), "package facts\n") }},
		{"a changed embedded file", func() { write(filepath.Join(source, "agent/facts/text/facts.txt"), "new") }},
		{"a changed go.sum", func() { write(filepath.Join(source, "go.sum"), "") }},
		{"another kernel", func() { c.Kernel = []string{testDeb(t, packXZ)} }},
	}
	seen := map[string]string{first: "the start"}
	for _, step := range changes {
		step.change()
		k := key(c)
		if before, ok := seen[k]; ok {
			t.Errorf("%s gives the key of %s", step.name, before)
		}
		seen[k] = step.name
	}
}
