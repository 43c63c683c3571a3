package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster/initramfs"
)

// ramdiskPaths is where the parts of a build go.
type ramdiskPaths struct {
	ramdisk, manifest string
	vmlinuz           string // "" when it is not wanted
	alone             bool   // ramdisks of other compressions beside this one are of an earlier build, and go
}

// fileCompression tells a file from a directory by its name: a file ends in what its compression does, or in .cpio.
func fileCompression(out string) (compress string, isFile bool) {
	for _, name := range initramfs.Compressions() {
		if suffix := cmp.Or(initramfs.Suffix(name), ".cpio"); strings.HasSuffix(out, suffix) {
			return name, true
		}
	}
	return "", false
}

// ramdiskPathsOf is one file, or the three of a directory.
func ramdiskPathsOf(out, compress string, kernel bool) ramdiskPaths {
	if _, isFile := fileCompression(out); isFile {
		return ramdiskPaths{ramdisk: out, manifest: out + ".manifest.json"}
	}
	p := ramdiskPaths{ramdisk: filepath.Join(out, "ramdisk.cpio"+initramfs.Suffix(compress)),
		manifest: filepath.Join(out, "manifest.json"), alone: true}
	if kernel {
		p.vmlinuz = filepath.Join(out, "vmlinuz")
	}
	return p
}

// current finds the manifest of an earlier build with this key whose files are still there and whole.
func (p ramdiskPaths) current(key string) (*initramfs.Manifest, bool) {
	content, err := os.ReadFile(p.manifest)
	if err != nil {
		return nil, false
	}
	var m initramfs.Manifest
	if json.Unmarshal(content, &m) != nil || m.Key != key {
		return nil, false
	}
	ramdisk, err := os.ReadFile(p.ramdisk)
	if err != nil {
		return nil, false
	}
	if sum := sha256.Sum256(ramdisk); hex.EncodeToString(sum[:]) != m.SHA256 {
		return nil, false
	}
	if p.vmlinuz != "" {
		if info, err := os.Stat(p.vmlinuz); err != nil || info.Size() == 0 {
			return nil, false
		}
	}
	return &m, true
}

// build writes everything beside its place and then moves it there, the manifest last: a server that hands these files
// out never sees half of one, and a build that was cut short is done again.
func (p ramdiskPaths) build(ctx context.Context, c initramfs.Config, key string) (*initramfs.Manifest, error) {
	dir := filepath.Dir(p.ramdisk)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(dir, ".ramdisk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	var m *initramfs.Manifest
	err = writeNew(filepath.Join(scratch, "ramdisk"), func(w io.Writer) (err error) {
		m, err = initramfs.Build(ctx, c, w)
		return err
	})
	if err != nil {
		return nil, err
	}
	m.Key = key
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	err = writeNew(filepath.Join(scratch, "manifest"), func(w io.Writer) error {
		_, err := w.Write(append(manifest, '\n'))
		return err
	})
	if err != nil {
		return nil, err
	}
	moves := [][2]string{{"ramdisk", p.ramdisk}, {"manifest", p.manifest}}
	if p.vmlinuz != "" {
		vmlinuz, _, err := initramfs.ExtractKernel(ctx, c.Kernel, scratch)
		if err != nil {
			return nil, err
		}
		moves = append([][2]string{{filepath.Base(vmlinuz), p.vmlinuz}}, moves...)
	}
	if err := os.Remove(p.manifest); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, move := range moves {
		if err := os.Rename(filepath.Join(scratch, move[0]), move[1]); err != nil {
			return nil, err
		}
	}
	return m, p.removeOthers()
}

// removeOthers removes what an earlier build left that had another compression: whoever serves the directory is to find
// one ramdisk.
func (p ramdiskPaths) removeOthers() error {
	if !p.alone {
		return nil
	}
	for _, name := range ramdiskNames(filepath.Dir(p.ramdisk)) {
		if name == filepath.Base(p.ramdisk) {
			continue
		}
		if err := os.Remove(filepath.Join(filepath.Dir(p.ramdisk), name)); err != nil {
			return err
		}
	}
	return nil
}

// ramdiskNames are the ramdisks of a directory that muster ramdisk build wrote.
func ramdiskNames(dir string) []string {
	var names []string
	for _, compress := range initramfs.Compressions() {
		name := "ramdisk.cpio" + initramfs.Suffix(compress)
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// writeNew writes a file to disk, not only to the cache: a rename must not outrun its content.
func writeNew(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
