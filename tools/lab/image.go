package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// The two files a build leaves in its cache directory.
const (
	debianImageName = "debian-12.img.zst"
	debianInfoName  = "debian-12.json"
)

// imageWindow bounds the memory a reader of the image needs: zstd decoders refuse windows above 8 MiB unless told otherwise
// (RFC 8878 section 3.1.1.1.2), and the installer runs in a small ramdisk.
const imageWindow = 8 << 20

// DebianImageConfig says where the Debian disk image is kept. Dir is required; the rest may be left zero.
type DebianImageConfig struct {
	Dir      string            // cache directory, made if missing; holds debian-12.img.zst and debian-12.json
	Epoch    time.Time         // no time stamp in the image is later than this; zero means 2025-01-01
	Progress func(what string) // told once per stage; nil means silence
}

// ImageInfo describes a finished image. All sums are SHA-256 in lower-case hexadecimal.
type ImageInfo struct {
	Path          string `json:"-"`              // of the compressed image
	SizeBytes     int64  `json:"size_bytes"`     // compressed
	SHA256        string `json:"sha256"`         // of the compressed file
	RawBytes      int64  `json:"raw_bytes"`      // as written to a disk
	RawSHA256     string `json:"raw_sha256"`     // of the raw bytes
	Key           string `json:"key"`            // of the recipe: an image with another key is built again
	RootPartition int    `json:"root_partition"` // GPT number of the root file system, the last partition
	Kernel        string `json:"kernel"`         // release of the Debian kernel, such as 6.1.0-1-cloud-amd64
}

// BuildDebianImage makes a Debian 12 disk image that starts on BIOS, UEFI, and UEFI with Secure Boot enforced, from Debian's
// own packages: nothing in it is compiled or signed here. A cached image of the same recipe is returned at once. The build
// needs root (device nodes and owners in the tree), a Debian mirror, and the packages that its errors name. Two builds in
// one directory wait for each other; an interrupted one leaves the earlier image in place.
func BuildDebianImage(ctx context.Context, c DebianImageConfig) (*ImageInfo, error) {
	if c.Dir == "" {
		return nil, errors.New("build Debian image: no cache directory given")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("build Debian image: %w", err)
	}
	b := debianBuild{dir: c.Dir, epoch: debianEpoch(c.Epoch), say: c.Progress}
	if b.say == nil {
		b.say = func(string) {}
	}
	unlock, err := lockImageDir(ctx, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("build Debian image: %w", err)
	}
	defer unlock()
	key := debianKey(b.epoch)
	if info, err := cachedDebianImage(c.Dir, key); err == nil {
		return info, nil
	}
	info, err := b.build(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("build Debian image: %w", err)
	}
	return info, nil
}

// cachedDebianImage returns the image in dir when it was made by the recipe with this key and is whole.
func cachedDebianImage(dir, key string) (*ImageInfo, error) {
	text, err := os.ReadFile(filepath.Join(dir, debianInfoName))
	if err != nil {
		return nil, err
	}
	var info ImageInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return nil, fmt.Errorf("read %q: %w", debianInfoName, err)
	}
	info.Path = filepath.Join(dir, debianImageName)
	st, err := os.Stat(info.Path)
	switch {
	case err != nil:
		return nil, err
	case info.Key != key:
		return nil, fmt.Errorf("image has key %q, the recipe %q", info.Key, key)
	case st.Size() != info.SizeBytes:
		return nil, fmt.Errorf("image has %d bytes, its description %d", st.Size(), info.SizeBytes)
	}
	return &info, nil
}

// A debianBuild is one build: where it works, the newest time stamp it may leave, and whom it tells.
type debianBuild struct {
	dir   string
	epoch time.Time
	say   func(string)
}

// build runs the stages in a scratch directory beside the result, so that the last step is a rename on one file system.
func (b *debianBuild) build(ctx context.Context, key string) (info *ImageInfo, err error) {
	if err := checkDebianTools(os.Geteuid()); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(b.dir, ".debian-12-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, removeTree(work)) }()
	root, raw := filepath.Join(work, "root"), filepath.Join(work, "disk.img")

	if err := b.installDebian(ctx, root); err != nil {
		return nil, err
	}
	if err := b.configureDebian(root); err != nil {
		return nil, err
	}
	kernel, err := debianKernel(root)
	if err != nil {
		return nil, err
	}
	if err := b.writeDisk(ctx, raw, root, work); err != nil {
		return nil, err
	}
	b.say("compress the image")
	packed := filepath.Join(work, debianImageName)
	info, err = compressImage(ctx, raw, packed)
	if err != nil {
		return nil, err
	}
	info.Key, info.Kernel, info.RootPartition = key, kernel, debianRoot.number
	return info, b.publish(info, packed)
}

// publish puts the image in place first and its description last: a crash between the two leaves a description whose size
// or key does not fit, which is built again. The old description goes first so that it never describes the new image.
func (b *debianBuild) publish(info *ImageInfo, packed string) error {
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	description := filepath.Join(filepath.Dir(packed), debianInfoName)
	if err := os.WriteFile(description, append(text, '\n'), 0o644); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(b.dir, debianInfoName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info.Path = filepath.Join(b.dir, debianImageName)
	if err := os.Rename(packed, info.Path); err != nil {
		return err
	}
	return os.Rename(description, filepath.Join(b.dir, debianInfoName))
}

// compressImage packs raw into one zstd frame that carries its content size, and takes both sums on the way.
func compressImage(ctx context.Context, raw, packed string) (*ImageInfo, error) {
	in, err := os.Open(raw)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return nil, err
	}
	out, err := os.Create(packed)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	rawSum, packedSum := sha256.New(), sha256.New()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(imageWindow))
	if err != nil {
		return nil, err
	}
	enc.ResetContentSize(io.MultiWriter(out, packedSum), st.Size())
	if _, err := io.Copy(io.MultiWriter(enc, rawSum), contextReader{ctx, in}); err != nil {
		enc.Close()
		return nil, fmt.Errorf("compress image: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("compress image: %w", err)
	}
	size, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, err
	}
	info := &ImageInfo{SizeBytes: size, SHA256: hexSum(packedSum), RawBytes: st.Size(), RawSHA256: hexSum(rawSum)}
	return info, errors.Join(out.Sync(), out.Close())
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// A contextReader stops a long copy when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// lockImageDir waits until no other process builds in dir. The kernel drops the lock when its holder dies.
func lockImageDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %q: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another build in %q: %w", dir, ctx.Err())
		case <-tick.C:
		}
	}
}

// removeTree removes a scratch tree, but not while something is mounted in it: that would remove from this host's /dev or
// /sys. Builds mount in a namespace of their own, so nothing should be.
func removeTree(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("keep scratch tree %q: %w", dir, err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if point := mountBelow(string(mounts), abs); point != "" {
		return fmt.Errorf("keep scratch tree %q: %q is still mounted", dir, point)
	}
	return os.RemoveAll(dir)
}

// mountBelow returns the first mount point at or below dir, from the text of /proc/PID/mountinfo (proc(5): the fifth field,
// with blanks written as \040).
func mountBelow(mountinfo, dir string) string {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := strings.ReplaceAll(fields[4], `\040`, " ")
		if point == dir || strings.HasPrefix(point, dir+"/") {
			return point
		}
	}
	return ""
}
