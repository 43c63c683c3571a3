package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// cacheImage leaves an image in dir as a build does.
func cacheImage(t *testing.T, dir, key string) *ImageInfo {
	t.Helper()
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	raw := filepath.Join(work, "disk.img")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("muster"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	packed := filepath.Join(work, debianImageName)
	info, err := compressImage(t.Context(), raw, packed)
	if err != nil {
		t.Fatal(err)
	}
	info.Key, info.RootPartition, info.Kernel = key, 3, "6.1.0-1-cloud-amd64"
	b := debianBuild{dir: dir}
	if err := b.publish(info, packed); err != nil {
		t.Fatal(err)
	}
	return info
}

func TestBuildDebianImageReturnsTheCachedImage(t *testing.T) {
	dir := t.TempDir()
	want := cacheImage(t, dir, debianKey(debianEpoch(time.Time{})))
	t.Setenv("PATH", "") // a build would fail at its first program
	got, err := BuildDebianImage(t.Context(), DebianImageConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cached image (-want +got):\n%s", diff)
	}
}

func TestCachedDebianImageIsNotTrustedBlindly(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"another recipe made it", func(t *testing.T, dir string) {}, `image has key "old", the recipe "new"`},
		{"the image is cut off", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, debianImageName), 7); err != nil {
				t.Fatal(err)
			}
		}, "image has 7 bytes, its description"},
		{"the image is gone", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, debianImageName)); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		{"the description is cut off", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, debianInfoName), 9); err != nil {
				t.Fatal(err)
			}
		}, `read "debian-12.json"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, made := t.TempDir(), "new"
			if strings.Contains(tt.want, `"old"`) {
				made = "old"
			}
			cacheImage(t, dir, made)
			tt.spoil(t, dir)
			if _, err := cachedDebianImage(dir, "new"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("cachedDebianImage() = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestBuildDebianImageNamesTheMissingPackage(t *testing.T) {
	t.Setenv("PATH", "")
	for _, tt := range []struct {
		name string
		euid int
		want string
	}{
		{"an ordinary user", 1000, "the tree has device nodes and owners: run as root, not as user 1000"},
		{"a fresh machine", 0, "mmdebstrap is missing: apt-get install mmdebstrap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := checkDebianTools(tt.euid); err == nil || err.Error() != tt.want {
				t.Errorf("checkDebianTools() = %v; want %q", err, tt.want)
			}
		})
	}
}

func TestDebianKeyFollowsTheRecipe(t *testing.T) {
	epoch := debianEpoch(time.Time{})
	key := debianKey(epoch)
	if debianKey(epoch) != key {
		t.Fatal("two sums of one recipe differ")
	}
	if debianKey(epoch.Add(time.Second)) == key {
		t.Error("another epoch has the same key")
	}
	kept := slices.Clone(debianFiles)
	defer func() { debianFiles = kept }()
	debianFiles = append(slices.Clone(kept), treeFile{path: "etc/motd", mode: 0o644, text: "hello\n"})
	if debianKey(epoch) == key {
		t.Error("another file in the tree has the same key")
	}
}

func TestCompressImageIsOneFrameThatSaysItsSize(t *testing.T) {
	dir := t.TempDir()
	raw, packed := filepath.Join(dir, "raw"), filepath.Join(dir, "packed")
	content := append(make([]byte, 20<<20), bytes.Repeat([]byte("debian"), 1<<16)...)
	if err := os.WriteFile(raw, content, 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := compressImage(t.Context(), raw, packed)
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	var header zstd.Header
	if err := header.Decode(image); err != nil {
		t.Fatal(err)
	}
	if header.FrameContentSize != uint64(len(content)) || header.WindowSize > imageWindow {
		t.Errorf("frame has content size %d, window %d; want %d and at most %d",
			header.FrameContentSize, header.WindowSize, len(content), imageWindow)
	}
	dec, err := zstd.NewReader(bytes.NewReader(image), zstd.WithDecoderMaxWindow(imageWindow), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	unpacked, err := io.ReadAll(dec)
	if err != nil || !bytes.Equal(unpacked, content) {
		t.Errorf("unpacked %d bytes (%v); want the %d that went in", len(unpacked), err, len(content))
	}
	want := &ImageInfo{SizeBytes: int64(len(image)), SHA256: sumOf(image), RawBytes: int64(len(content)), RawSHA256: sumOf(content)}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
}

func sumOf(content []byte) string {
	sum := sha256.New()
	sum.Write(content)
	return hexSum(sum)
}

func TestCompressImageStopsWithItsContext(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := compressImage(ctx, raw, raw+".zst"); !errors.Is(err, context.Canceled) {
		t.Errorf("compressImage() = %v; want %v", err, context.Canceled)
	}
}

func TestOneBuildPerDirectory(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockImageDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := lockImageDir(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v; want %v", err, context.DeadlineExceeded)
	}
	unlock()
	again, err := lockImageDir(t.Context(), dir)
	if err != nil {
		t.Fatalf("lock after the first build: %v", err)
	}
	again()
}

func TestMountBelowKeepsAScratchTree(t *testing.T) {
	const mounts = `22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:5 / /var/cache/lab/work/root/dev rw - devtmpfs udev rw
31 22 0:6 / /srv/two\040words rw - tmpfs tmpfs rw
`
	for _, tt := range []struct{ name, dir, want string }{
		{"a device folder left by a killed bootstrap", "/var/cache/lab/work", "/var/cache/lab/work/root/dev"},
		{"the tree itself is a mount", "/var/cache/lab/work/root/dev", "/var/cache/lab/work/root/dev"},
		{"a name with a blank", "/srv/two words", "/srv/two words"},
		{"a folder whose name only begins alike", "/var/cache/lab/wor", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mountBelow(mounts, tt.dir); got != tt.want {
				t.Errorf("mountBelow(%q) = %q; want %q", tt.dir, got, tt.want)
			}
		})
	}
}

func TestImageInfoKeepsItsPlaceToItself(t *testing.T) {
	text, err := json.Marshal(ImageInfo{Path: "/somewhere/debian-12.img.zst", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "somewhere") {
		t.Errorf("description names a path, so the cache could not be moved: %s", text)
	}
}
