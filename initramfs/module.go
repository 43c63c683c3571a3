package initramfs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// maxModinfo bounds the section that describes a module; the largest of Debian 6.1 is 130 kB (hid and pci tables).
const maxModinfo = 4 << 20

// A module is a kernel module of a package and what it says of itself in its .modinfo section.
type module struct {
	name     string // as the kernel spells it: underscores
	file     string // base name as packed, e.g. virtio-rng.ko
	depends  []string
	pre      []string // softdeps to be loaded before, as written: names or aliases
	post     []string // softdeps to be loaded after
	aliases  []string
	firmware []string
	offset   int64 // of its bytes in the spool
	size     int64
}

// A kernel is what a linux-image package holds of modules.
type kernel struct {
	release string
	modules map[string]*module
	builtin map[string]bool
	named   map[string][]string // alias without pattern to the modules that have it, sorted
}

// A spool keeps module files on disk while it is not known which of them are wanted: all together are 390 MB.
type spool struct {
	*os.File
	end int64
}

// newSpool opens a spool that is gone when it is closed.
func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "muster-modules-*")
	if err != nil {
		return nil, err
	}
	return &spool{File: f}, os.Remove(f.Name())
}

// append copies r and tells where it went.
func (s *spool) append(r io.Reader) (offset, size int64, err error) {
	offset = s.end
	size, err = io.Copy(s.File, io.LimitReader(r, maxFile))
	s.end += size
	return offset, size, err
}

// readKernel reads every module of a linux-image package. Modules that the package holds compressed are unpacked, for a
// kernel may be unable to; the signature at the end of a module is part of it either way.
func readKernel(ctx context.Context, deb string, s *spool) (*kernel, error) {
	k := &kernel{modules: make(map[string]*module), builtin: make(map[string]bool), named: make(map[string][]string)}
	err := walkPackage(ctx, deb, func(h *tar.Header, r io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		name := strings.TrimPrefix(cleanName(h.Name), "usr/")
		rest, ok := strings.CutPrefix(name, "lib/modules/")
		if !ok {
			return nil
		}
		release, file, _ := strings.Cut(rest, "/")
		if file == "modules.builtin" {
			return k.readBuiltin(r)
		}
		base, compressed, ok := cutModuleSuffix(path.Base(file))
		if !ok {
			return nil
		}
		k.release = release
		return k.readModule(ctx, base, compressed, r, s)
	})
	if err != nil {
		return nil, err
	}
	if len(k.modules) == 0 {
		return nil, errors.New("no modules in it: not a linux-image package")
	}
	k.indexAliases()
	return k, nil
}

// cutModuleSuffix cuts .ko, and whether .xz, .zst or .gz stood behind it.
func cutModuleSuffix(file string) (base string, compressed, ok bool) {
	for _, suffix := range []string{".xz", ".zst", ".gz"} {
		if before, found := strings.CutSuffix(file, ".ko"+suffix); found {
			return before, true, true
		}
	}
	base, ok = strings.CutSuffix(file, ".ko")
	return base, false, ok
}

// moduleName spells a name as the kernel does.
func moduleName(s string) string { return strings.ReplaceAll(s, "-", "_") }

// readModule spools one module file and reads its description.
func (k *kernel) readModule(ctx context.Context, base string, compressed bool, r io.Reader, s *spool) error {
	if compressed {
		plain, err := unpack(ctx, r)
		if err != nil {
			return err
		}
		defer plain.Close()
		r = plain
	}
	offset, size, err := s.append(r)
	if err != nil {
		return err
	}
	m, err := readModinfo(io.NewSectionReader(s, offset, size))
	if err != nil {
		return err
	}
	m.name, m.file, m.offset, m.size = moduleName(base), base+".ko", offset, size
	k.modules[m.name] = m
	return nil
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

// readModinfo reads the .modinfo section of an ELF object: "key=value" strings, each ended by a zero
// (include/linux/module.h). A module without it is an error.
func readModinfo(r io.ReaderAt) (*module, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type == elf.SHT_NOBITS || section.Flags&elf.SHF_COMPRESSED != 0 {
		return nil, errors.New("read module: no .modinfo section")
	}
	if section.Size > maxModinfo {
		return nil, fmt.Errorf("read module: %w of %d bytes of .modinfo", errLimit, maxModinfo)
	}
	text, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read module: %w", err)
	}
	m := &module{}
	for line := range bytes.SplitSeq(text, []byte{0}) {
		key, value, _ := strings.Cut(string(line), "=")
		m.set(key, value)
	}
	return m, nil
}

// set takes one line of a description; most keys do not matter here.
func (m *module) set(key, value string) {
	switch key {
	case "depends":
		for name := range strings.SplitSeq(value, ",") {
			if name != "" {
				m.depends = append(m.depends, moduleName(name))
			}
		}
	case "alias":
		m.aliases = append(m.aliases, value)
	case "firmware":
		m.firmware = append(m.firmware, value)
	case "softdep":
		m.addSoftdep(value)
	}
}

// addSoftdep reads "pre: a b post: c" (modprobe.d(5)). Words before the first of the two mean nothing to modprobe.
func (m *module) addSoftdep(value string) {
	var list *[]string
	for word := range strings.FieldsSeq(value) {
		switch {
		case word == "pre:":
			list = &m.pre
		case word == "post:":
			list = &m.post
		case list != nil:
			*list = append(*list, moduleName(word))
		}
	}
}
