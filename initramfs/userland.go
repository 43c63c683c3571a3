package initramfs

import (
	"bytes"
	"context"
	"fmt"
	"go/version"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/gobusybox/src/pkg/bb"
	"github.com/u-root/gobusybox/src/pkg/bb/findpkg"
	"github.com/u-root/gobusybox/src/pkg/golang"
	"github.com/u-root/mkuimage/cpio"
	"github.com/u-root/mkuimage/uimage"
	"github.com/u-root/mkuimage/uimage/builder"
	"github.com/u-root/mkuimage/uimage/initramfs"
	"github.com/u-root/uio/llog"
	"golang.org/x/tools/go/packages"
)

// compileUserland compiles the agent and the commands into one busybox, /bbin/bb, and adds it with its links: /init to
// u-root's init, /bin/uinit to the agent (init starts it), /bin/sh and /bin/defaultsh to gosh.
func compileUserland(ctx context.Context, c Config, t tree) error {
	root, err := goroot(ctx, c.Source)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "muster-ramdisk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	var log bytes.Buffer
	err = uimage.Create(&llog.Logger{Sink: llog.SinkFor(llog.WritePrintf(&log)), Level: slog.LevelWarn},
		uimage.WithReplaceEnv(goEnv(c, root)),
		uimage.WithTempDir(scratch),
		uimage.WithSkipLDD(),
		uimage.WithCommands(nil, busybox{ctx: ctx, progress: c.Progress}, commandsOf(c)...),
		uimage.WithInit("init"),
		uimage.WithUinit(path.Base(c.Agent)),
		uimage.WithShell("gosh"),
		uimage.WithOutput(collector{t}),
	)
	if err != nil {
		return fmt.Errorf("%w%s", err, logOf(&log))
	}
	return nil
}

// commandsOf lists what to compile, each once.
func commandsOf(c Config) []string {
	all := append([]string{c.Agent}, c.Commands...)
	slices.Sort(all)
	return slices.Compact(all)
}

// logOf is what u-root's packages said before they failed.
func logOf(b *bytes.Buffer) string {
	if b.Len() == 0 {
		return ""
	}
	return "\n" + strings.TrimSpace(b.String())
}

// goroot asks the go command of PATH which toolchain it uses in dir: it may switch to the one of go.mod.
func goroot(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOROOT")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("find the Go toolchain for %q: %w", dir, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildTags make the userland smaller by 1.3 MB of 12.6: a shell whose line editor does not bring a library of widgets, and
// no HTTP/2, by which a broker would say the same.
var buildTags = []string{"goshliner", "nethttpomithttp2"}

// goEnv is how packages are looked up: in the module of c.Source, which is not changed.
func goEnv(c Config, root string) *golang.Environ {
	return golang.Default(
		golang.DisableCGO(),
		golang.WithGOOS("linux"),
		golang.WithGOARCH(c.Arch),
		golang.WithGOROOT(root),
		golang.WithGO111MODULE("on"),
		golang.WithMod(golang.ModReadonly),
		golang.WithBuildTag(buildTags...),
		golang.WithWorkingDir(c.Source),
	)
}

// busybox is a builder that has gobusybox write the source of one program out of many and then compiles it itself.
// gobusybox could compile too, but not with a deadline, not with the build cache (it rebuilds the standard library each
// time: 40 s instead of 5), and not packages of a module whose path has no dot, such as ours: it takes those for
// standard library and leaves them behind.
type busybox struct {
	ctx      context.Context
	progress func(string)
}

var _ builder.Builder = busybox{}

// DefaultBinaryDir is where u-root's init looks for commands.
func (busybox) DefaultBinaryDir() string { return "bbin" }

// Build adds bbin/bb and one link to it per command.
func (b busybox) Build(l *llog.Logger, af *initramfs.Files, o builder.Opts) error {
	gopath, program := filepath.Join(o.TempDir, "gopath"), filepath.Join(o.TempDir, "bb")
	err := bb.BuildBusybox(l.AtLevel(slog.LevelInfo), &bb.Opts{
		Env:          o.Env,
		LookupEnv:    &findpkg.Env{},
		GenSrcDir:    gopath,
		CommandPaths: o.Packages,
		GenerateOnly: true,
	})
	if err != nil {
		return err
	}
	if err := copyDotless(o.Env, o.Packages, filepath.Join(gopath, "src")); err != nil {
		return err
	}
	b.progress(fmt.Sprintf("compile %d commands into one program", len(o.Packages)))
	if err := compile(b.ctx, o.Env, gopath, program); err != nil {
		return err
	}
	if err := af.AddFile(program, "bbin/bb"); err != nil {
		return err
	}
	for _, p := range o.Packages {
		if err := af.AddRecord(cpio.Symlink(path.Join(o.BinaryDir, path.Base(p)), "bb")); err != nil {
			return err
		}
	}
	return nil
}

// copyDotless copies the packages that the commands need, that are not of the standard library, and whose path has no
// dot in its first element.
func copyDotless(env *golang.Environ, commands []string, src string) error {
	found, err := env.Lookup(packages.NeedName|packages.NeedFiles|packages.NeedEmbedFiles|packages.NeedImports|
		packages.NeedDeps|packages.NeedModule, commands...)
	if err != nil {
		return fmt.Errorf("look up %d commands: %w", len(commands), err)
	}
	packages.Visit(found, nil, func(p *packages.Package) {
		first, _, _ := strings.Cut(p.PkgPath, "/")
		if err != nil || p.Module == nil || p.Name == "main" || strings.Contains(first, ".") {
			return
		}
		err = copyPackage(p, filepath.Join(src, filepath.FromSlash(p.PkgPath)))
	})
	return err
}

// copyPackage copies the files that the compiler sees of one package, embedded ones included.
func copyPackage(p *packages.Package, dir string) error {
	for _, from := range slices.Concat(p.GoFiles, p.OtherFiles, p.EmbedFiles) {
		rel, err := filepath.Rel(p.Dir, from)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("copy package %q: %w", p.PkgPath, err)
		}
		if err := os.WriteFile(to, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compile builds the generated program. Without modules Go would run it with the settings of Go 1.20; the extra file
// asks for those of the toolchain. Whatever of the caller's environment changes code is set, not inherited.
func compile(ctx context.Context, env *golang.Environ, gopath, program string) error {
	dir := filepath.Join(gopath, "src", "bb.u-root.com", "bb")
	toolchain, err := env.Version()
	if err != nil {
		return err
	}
	if lang := version.Lang(toolchain); lang != "" {
		directive := "//go:debug default=" + lang + "\n\npackage main\n"
		if err := os.WriteFile(filepath.Join(dir, "godebug.go"), []byte(directive), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(env.GOROOT, "bin", "go"), "build", "-o", program, "-tags="+strings.Join(buildTags, ","),
		"-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env.Copy(golang.WithGO111MODULE("off"), golang.WithGOPATH(gopath)).Env()...)
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOWORK=off", "GOTOOLCHAIN=local", "GOEXPERIMENT=", "GOAMD64=v1",
		"GOARM64=v8.0", "GODEBUG=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the busybox: %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// collector takes the records that u-root's packages write.
type collector struct{ t tree }

var _ initramfs.WriteOpener = collector{}

// OpenWriter returns c.
func (c collector) OpenWriter() (initramfs.Writer, error) { return c, nil }

// WriteRecord keeps a record's content, because the file behind it is about to be deleted. What the compiler wrote has
// the permissions that the caller's umask left it; a userland has programs only.
func (c collector) WriteRecord(r cpio.Record) error {
	m := member{mode: uint32(r.Mode), major: uint32(r.Rmajor), minor: uint32(r.Rminor)}
	if m.mode&typeMask == typeRegular {
		m.mode = typeRegular | 0o755
	}
	if r.ReaderAt != nil {
		content, err := io.ReadAll(io.NewSectionReader(r.ReaderAt, 0, int64(r.FileSize)))
		if err != nil {
			return fmt.Errorf("read %q: %w", r.Name, err)
		}
		m.content, m.size = bytes.NewReader(content), int64(len(content))
	}
	return c.t.add(r.Name, m)
}

// Finish has nothing to do.
func (collector) Finish() error { return nil }
