package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"muster/broker"
	"muster/broker/repo"
	"muster/initramfs"
)

// A ramdiskSource is a kernel and its initrds as they lie on this machine, read and checked.
type ramdiskSource struct {
	object broker.Ramdisk
	parts  []ramdiskPart // kernel first
}

// A ramdiskPart is a file of it and the signature that goes with it, if there is one.
type ramdiskPart struct {
	path      string
	signature []byte
}

// bootFiles are the files to read, by their paths.
type bootFiles struct {
	kernel  string
	initrds []string
}

// namesIn finds what muster ramdisk build leaves in a directory.
func filesIn(dir string) (bootFiles, error) {
	files, ramdisks := bootFiles{kernel: filepath.Join(dir, "vmlinuz")}, ramdiskNames(dir)
	if _, err := os.Stat(files.kernel); err != nil {
		return files, fmt.Errorf("%w: build with muster ramdisk build --kernel, or name the files with --kernel and --initrd", err)
	}
	if len(ramdisks) != 1 {
		return files, fmt.Errorf("%s holds %d ramdisks (%s); want one: name it with --initrd", dir, len(ramdisks), orNone(ramdisks))
	}
	files.initrds = []string{filepath.Join(dir, ramdisks[0])}
	return files, nil
}

// manifests are where the manifest of an initrd may lie (ramdiskPathsOf).
func manifests(initrd string) []string {
	names := []string{initrd + ".manifest.json"}
	if strings.HasPrefix(filepath.Base(initrd), "ramdisk.cpio") {
		names = append(names, filepath.Join(filepath.Dir(initrd), "manifest.json"))
	}
	return names
}

// readSource reads and checks all of it. arch is what the operator said, or "". sign, if not nil, signs each file;
// else a signature is what lies beside a file as FILE.sig.
func readSource(ctx context.Context, names bootFiles, arch string, sign *signer, b *bars) (*ramdiskSource, error) {
	image, err := readKernelImage(names.kernel)
	if err != nil {
		return nil, err
	}
	if arch != "" && arch != image.Arch {
		return nil, fmt.Errorf("%s is a kernel for %s, not %s", names.kernel, image.Arch, arch)
	}
	s := &ramdiskSource{object: broker.Ramdisk{Kind: broker.KindRamdisk, Arch: image.Arch, KernelVersion: image.Release}}
	for i, name := range append([]string{names.kernel}, names.initrds...) {
		f, part, err := readPart(ctx, name, sign, b)
		if err != nil {
			return nil, err
		}
		s.parts = append(s.parts, part)
		if i == 0 {
			s.object.Kernel = f
			continue
		}
		s.object.Initrds = append(s.object.Initrds, f)
		if err := s.checkManifest(name, f.SHA256); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func readKernelImage(name string) (initramfs.KernelImage, error) {
	f, err := os.Open(name)
	if err != nil {
		return initramfs.KernelImage{}, fmt.Errorf("read kernel: %w", err)
	}
	defer f.Close()
	image, err := initramfs.ReadKernelImage(f)
	if err != nil {
		return image, fmt.Errorf("kernel %s: %w", name, err)
	}
	return image, nil
}

// readPart sums one file up and finds or makes its signature.
func readPart(ctx context.Context, name string, sign *signer, b *bars) (broker.RamdiskFile, ramdiskPart, error) {
	f := broker.RamdiskFile{Name: filepath.Base(name)}
	part := ramdiskPart{path: name}
	var err error
	if f.SHA256, f.SizeBytes, err = sumFile(ctx, name, b); err != nil {
		return f, part, err
	}
	if part.signature, err = sign.signature(name, f.SHA256); err == nil && part.signature != nil {
		_, err = repo.VerifySignature(part.signature, f.SHA256)
		f.Signature = sumOf(part.signature)
	}
	if err != nil {
		return f, part, fmt.Errorf("%s: %w", name, err)
	}
	return f, part, nil
}

func sumFile(ctx context.Context, name string, b *bars) (sum string, size int64, err error) {
	f, err := openRamdisk(ctx, b, name, 1)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// maxManifest bounds a manifest: one line of some 300 bytes for each of 32 Ki entries.
const maxManifest = 64 << 20

// checkManifest holds an initrd against what its builder says of it, where that was left.
func (s *ramdiskSource) checkManifest(initrd, sum string) error {
	for _, name := range manifests(initrd) {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		defer f.Close()
		var m struct {
			SHA256 string `json:"sha256"`
			Kernel string `json:"kernel"`
		}
		if err := json.NewDecoder(io.LimitReader(f, maxManifest)).Decode(&m); err != nil {
			return fmt.Errorf("read manifest %s: %w", name, err)
		}
		switch has := s.object.KernelVersion; {
		case m.SHA256 != sum:
			return fmt.Errorf("%s is not what %s says of it: build it again, or remove the manifest", initrd, name)
		case has == "":
			s.object.KernelVersion = m.Kernel
		case m.Kernel != "" && m.Kernel != has:
			return fmt.Errorf("%s has modules of kernel %s, and the kernel is %s: it would load none of them", initrd, m.Kernel, has)
		}
	}
	return nil
}

// documents is the object as muster apply reads it.
func (s *ramdiskSource) documents() ([]byte, error) {
	raw, err := json.Marshal(s.object)
	if err != nil {
		return nil, fmt.Errorf("write ramdisk %s: %w", s.object.Name, err)
	}
	return raw, nil
}

// each visits every file and signature with its sum.
func (s *ramdiskSource) each(visit func(sum string, open func() (io.ReadCloser, error)) error) error {
	files := append([]broker.RamdiskFile{s.object.Kernel}, s.object.Initrds...)
	for i, part := range s.parts {
		if err := visit(files[i].SHA256, func() (io.ReadCloser, error) { return os.Open(part.path) }); err != nil {
			return fmt.Errorf("send %s: %w", part.path, err)
		}
		if part.signature == nil {
			continue
		}
		if err := visit(files[i].Signature, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(part.signature))), nil }); err != nil {
			return fmt.Errorf("send the signature of %s: %w", part.path, err)
		}
	}
	return nil
}
