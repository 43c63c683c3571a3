package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// maxModinfo bounds the section that describes a module; the largest of Debian 6.1 is 130 kB (hid and pci tables).
const maxModinfo = 4 << 20

// A module is a kernel module of a package and what it says of itself in its .modinfo section.
type module struct {
	name     string // as the kernel spells it: underscores
	file     string // base name as packed, e.g. virtio-rng.ko.zst
	depends  []string
	pre      []string // softdeps to be loaded before, as written: names or aliases
	post     []string // softdeps to be loaded after
	aliases  []string
	firmware []string
	offset   int64 // of its bytes in the spool
	size     int64
	release  string // of the kernel it was made for: the first word of its vermagic
	machine  elf.Machine
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
	size, err = io.Copy(s.File, io.LimitReader(r, maxFile+1))
	s.end += size
	if err == nil && size > maxFile {
		err = fmt.Errorf("%w of %d bytes for a file", errLimit, maxFile)
	}
	return offset, size, err
}

// packedSuffix is that of modules in a ramdisk: each is compressed by itself, whatever the kernel package had, and the agent
// unpacks those that it loads. Of 14 MB for the network and storage of common servers a machine loads 1 or 2; a kernel
// that unpacks all of them takes 0.3 s longer to its init (README.md has the legs), and their memory.
const packedSuffix = ".ko.zst"

// compress makes a module of the spool what is packed of it. The frame tells its size, so that it can be unpacked into
// memory of that size; sums are left to what is around it and to the module's signature.
func (s *spool) compress(offset, size int64) (member, error) {
	module := make([]byte, size)
	if _, err := s.ReadAt(module, offset); err != nil {
		return member{}, err
	}
	z, err := moduleEncoder()
	if err != nil {
		return member{}, err
	}
	offset, size, err = s.append(bytes.NewReader(z.EncodeAll(module, nil)))
	return member{mode: typeRegular | 0o644, size: size, content: io.NewSectionReader(s, offset, size)}, err
}

// moduleEncoder makes the same bytes of a module on every machine: each frame is made by one thread.
var moduleEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
})

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
	m := &module{machine: f.Machine}
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
	case "vermagic":
		m.release, _, _ = strings.Cut(value, " ")
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
