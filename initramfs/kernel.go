package initramfs

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A kernel is what the origins of a Config hold of one: all its modules, and what is known of the image.
type kernel struct {
	release string
	machine elf.Machine
	image   string // release that the kernel image names; "" when it is not known
	modules map[string]*module
	builtin map[string]bool
	named   map[string][]string // alias without pattern to the modules that have it, sorted
	inside  map[string]bool     // aliases, without pattern, of what is built in
	unpacks map[string]bool     // compressions of a ramdisk (CONFIG_RD_*); nil when the configuration is not known
	digest  string              // of the signatures of modules (CONFIG_MODULE_SIG_HASH), as in sha256; "" when it is not known
}

// imageName takes the release out of the names that kernels have: boot/vmlinuz-RELEASE, or lib/modules/RELEASE/vmlinuz
// in RPMs. A kernel image that stands alone may have none.
func imageName(name string) (release string, ok bool) {
	if name == "boot/vmlinuz" {
		return "", true
	}
	release, ok = strings.CutPrefix(name, "boot/vmlinuz-")
	if !ok {
		if release, ok = strings.CutPrefix(name, "lib/modules/"); ok {
			release, ok = strings.CutSuffix(release, "/vmlinuz")
		}
	}
	return release, ok && release != "" && release == path.Base(release)
}

// ExtractKernel copies the kernel image that kernel (Config.Kernel) names into dir and says where it lies and what its
// release is, if that is known.
func ExtractKernel(ctx context.Context, kernel []string, dir string) (vmlinuz, release string, err error) {
	err = walkOrigins(ctx, kernel, "lib/modules", func(f found) error {
		r, ok := imageName(f.name)
		if !ok || f.link != "" {
			return nil
		}
		release, vmlinuz = r, filepath.Join(dir, strings.TrimSuffix("vmlinuz-"+r, "-"))
		if err := writeFile(vmlinuz, f); err != nil {
			return err
		}
		return errStop
	})
	if err == nil && vmlinuz == "" {
		err = fmt.Errorf("no kernel image in %s: name the package or the file that holds it, too", strings.Join(kernel, ", "))
	}
	if err != nil {
		return "", "", fmt.Errorf("extract kernel: %w", err)
	}
	return vmlinuz, release, nil
}

// walkOrigins visits the files of several origins in a row. bare is as openOrigin has it.
func walkOrigins(ctx context.Context, words []string, bare string, visit func(found) error) error {
	stopped := false
	for _, word := range words {
		o, err := openOrigin(word, bare)
		if err == nil {
			err = o.walk(ctx, func(f found) error {
				err := visit(f)
				stopped = stopped || errors.Is(err, errStop)
				return err
			})
		}
		if err != nil && !errors.Is(err, errStop) {
			return fmt.Errorf("%q: %w", word, err)
		}
		if stopped {
			return nil
		}
	}
	return nil
}

// readKernel reads every module of a kernel into the spool, unpacked, to read what it needs; the signature at the end of a
// module is part of it either way.
func readKernel(ctx context.Context, words []string, s *spool) (*kernel, error) {
	k := &kernel{modules: make(map[string]*module), builtin: make(map[string]bool), named: make(map[string][]string),
		inside: make(map[string]bool)}
	err := walkOrigins(ctx, words, "lib/modules", func(f found) error {
		if f.link != "" {
			return nil
		}
		return k.read(ctx, f, s)
	})
	if err != nil {
		return nil, err
	}
	if len(k.modules) == 0 {
		return nil, errors.New("no modules in it: name the package or directory that holds them, too")
	}
	if k.image != "" && k.image != k.release {
		return nil, fmt.Errorf("the kernel image is %s, the modules are of %s: it would load none of them", k.image, k.release)
	}
	k.indexAliases()
	return k, nil
}

// kernelFiles are the files of lib/modules/RELEASE that are read beside modules.
var kernelFiles = map[string]func(*kernel, io.Reader) error{
	"modules.builtin":         (*kernel).readBuiltin,
	"modules.builtin.modinfo": (*kernel).readBuiltinInfo,
}

// read takes what matters of one file.
func (k *kernel) read(ctx context.Context, f found, s *spool) error {
	if release, ok := imageName(f.name); ok {
		k.image = release
		return nil
	}
	if isConfig(f.name) {
		return k.readConfig(f)
	}
	rest, ok := strings.CutPrefix(f.name, "lib/modules/")
	if !ok {
		return nil
	}
	release, file, _ := strings.Cut(rest, "/")
	if read := kernelFiles[file]; read != nil {
		return read(k, f)
	}
	base, compressed, ok := cutModuleSuffix(path.Base(file))
	if !ok {
		return nil
	}
	m, err := readModule(ctx, f, compressed, s)
	if err != nil {
		return err
	}
	m.name, m.file = moduleName(base), base+packedSuffix
	k.modules[m.name] = m
	return k.isOf(release, m)
}

// isOf notes the release of a module: what the module says, for a directory may be called anything.
func (k *kernel) isOf(release string, m *module) error {
	if m.release != "" {
		release = m.release
	}
	if k.release != "" && k.release != release {
		return fmt.Errorf("modules of two kernels, %s and %s: say which", k.release, release)
	}
	k.release, k.machine = release, m.machine
	return nil
}

// readModule spools one module file and reads its description.
func readModule(ctx context.Context, r io.Reader, compressed bool, s *spool) (*module, error) {
	if compressed {
		plain, err := unpackHere(r)
		if err != nil {
			return nil, err
		}
		defer plain.Close()
		r = plain
	}
	offset, size, err := s.append(r)
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, err
	}
	m, err := readModinfo(io.NewSectionReader(s, offset, size))
	if err != nil {
		return nil, err
	}
	m.offset, m.size = offset, size
	return m, nil
}

// unpackHere is unpack without another program: for the thousand small files of a package starting one takes longer.
func unpackHere(r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	c, ok := detect(in)
	if !ok {
		return io.NopCloser(in), nil
	}
	return c.decompressor(in)
}

// readBuiltin reads modules.builtin: paths of modules that are part of the kernel image.
func (k *kernel) readBuiltin(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if base, _, ok := cutModuleSuffix(path.Base(lines.Text())); ok {
			k.builtin[moduleName(base)] = true
		}
	}
	return lines.Err()
}

// readBuiltinInfo reads modules.builtin.modinfo: "module.key=value" strings, each ended by a zero, of what is part of the
// kernel image (Documentation/kbuild/kbuild.rst). Their aliases tell that a softdep is met already.
func (k *kernel) readBuiltinInfo(r io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(r, maxModinfo))
	if err != nil {
		return err
	}
	for line := range bytes.SplitSeq(text, []byte{0}) {
		key, value, _ := strings.Cut(string(line), "=")
		if name, key, ok := strings.Cut(key, "."); ok && key == "alias" {
			k.builtin[moduleName(name)] = true
			k.inside[moduleName(value)] = true
		}
	}
	return nil
}

// readConfig reads which compressions of a ramdisk a kernel was built to unpack, and by what its modules are signed.
func (k *kernel) readConfig(r io.Reader) error {
	k.unpacks = make(map[string]bool)
	lines := bufio.NewScanner(io.LimitReader(r, maxModinfo))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		if format, ok := strings.CutPrefix(name, "CONFIG_RD_"); ok {
			k.unpacks[strings.ToLower(format)] = value == "y"
		}
		if name == "CONFIG_MODULE_SIG_HASH" {
			k.digest = strings.Trim(value, `"`)
		}
	}
	return lines.Err()
}

// DefaultCompression is what a ramdisk for a kernel (Config.Kernel) is best compressed with: zstd where the kernel's
// configuration says that it unpacks it, which takes half the time of gzip and a tenth fewer bytes; else gzip, which every
// kernel does.
func DefaultCompression(ctx context.Context, words []string) (string, error) {
	var k kernel
	err := walkOrigins(ctx, words, "lib/modules", func(f found) error {
		if f.link != "" || !isConfig(f.name) {
			return nil
		}
		return errors.Join(k.readConfig(f), errStop)
	})
	if err != nil {
		return "", fmt.Errorf("see what the kernel unpacks: %w", err)
	}
	if k.unpacks["zstd"] {
		return "zstd", nil
	}
	return "gzip", nil
}

// isConfig tells a kernel's configuration by its name: Debian has it in /boot, RPMs among the modules.
func isConfig(name string) bool {
	rest, isModules := strings.CutPrefix(name, "lib/modules/")
	_, file, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(name, "boot/config-") || isModules && file == "config"
}

// machines are what GOARCH calls architectures, as ELF files have them.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV, "ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390,
}

// fits says why a ramdisk of this architecture and compression could not work with the kernel.
func (k *kernel) fits(arch, compress string) error {
	if want := machines[arch]; k.machine != want {
		return fmt.Errorf("kernel %s is for %v, the userland for %v: choose it with --arch", k.release, k.machine, want)
	}
	if compress == "none" || k.unpacks == nil || k.unpacks[compress] {
		return nil
	}
	var can []string
	for name, ok := range k.unpacks {
		if ok && compressor(name) != nil {
			can = append(can, name)
		}
	}
	slices.Sort(can)
	return fmt.Errorf("kernel %s was built without CONFIG_RD_%s and cannot unpack such a ramdisk; it can %s, and none",
		k.release, strings.ToUpper(compress), strings.Join(can, ", "))
}

// indexAliases finds modules by what they are also called; patterns for hardware are not names.
func (k *kernel) indexAliases() {
	for name, m := range k.modules {
		for _, a := range m.aliases {
			if !strings.ContainsAny(a, ":*?[ ") {
				k.named[moduleName(a)] = append(k.named[moduleName(a)], name)
			}
		}
	}
	for _, names := range k.named {
		slices.Sort(names)
	}
}
