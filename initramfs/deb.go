package initramfs

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Limits of a kernel package. Debian's largest is 70 MB packed, 400 MB and 6,000 files unpacked.
const (
	maxPackage = 4 << 30   // bytes unpacked
	maxFile    = 256 << 20 // bytes of one file
	maxFiles   = 128 << 10
)

// errStop ends a walk early and well.
var errStop = errors.New("seen enough")

// writeFile writes r to a file beside name and then moves it there, so that nobody sees half of it.
func writeFile(name string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// walkDeb visits the files of a Debian package (deb(5)).
func walkDeb(ctx context.Context, deb string, visit func(found) error) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := dataMember(bufio.NewReaderSize(f, 1<<16))
	if err != nil {
		return err
	}
	plain, err := unpack(ctx, data)
	if err != nil {
		return err
	}
	defer plain.Close()
	return walkTar(ctx, plain, visit)
}

// walkTar visits the members of an archive, within the limits of a package.
func walkTar(ctx context.Context, r io.Reader, visit func(found) error) error {
	archive := tar.NewReader(io.LimitReader(r, maxPackage))
	for range maxFiles {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && h.Size > maxFile {
			err = fmt.Errorf("%w of %d bytes for a file", errLimit, maxFile)
		}
		if err != nil {
			return fmt.Errorf("read package: %w", err)
		}
		if err := visitMember(h, archive, visit); errors.Is(err, errStop) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return fmt.Errorf("read package: %w of %d files", errLimit, maxFiles)
}

// visitMember hands on a regular file or link; to a hard link its target is the name of another member.
func visitMember(h *tar.Header, content io.Reader, visit func(found) error) error {
	f := found{name: installedName(h.Name), Reader: content}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		f.link, f.Reader = h.Linkname, nil
	case tar.TypeLink:
		f.link, f.Reader = "/"+cleanName(h.Linkname), nil
	default:
		return nil
	}
	return visit(f)
}

// dataMember finds data.tar.* in an ar archive: "!<arch>\n", then per member 60 bytes of header and its content, padded
// to two bytes.
func dataMember(r *bufio.Reader) (io.Reader, error) {
	magic := make([]byte, 8)
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != "!<arch>\n" {
		return nil, errors.New("not a Debian package")
	}
	for range 16 { // debian-binary, control, data and a few of others
		head := make([]byte, 60)
		if _, err := io.ReadFull(r, head); err != nil {
			return nil, fmt.Errorf("no data.tar in it: %w", noEOF(err))
		}
		name := strings.TrimRight(string(head[:16]), " /")
		size, err := strconv.ParseInt(strings.TrimSpace(string(head[48:58])), 10, 64)
		if err != nil || size < 0 || string(head[58:]) != "`\n" {
			return nil, fmt.Errorf("member %q: broken header", name)
		}
		if strings.HasPrefix(name, "data.tar") {
			return io.LimitReader(r, size), nil
		}
		if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, fmt.Errorf("member %q: %w", name, noEOF(err))
		}
	}
	return nil, errors.New("no data.tar in it")
}

// unpack decompresses r, whatever it is compressed with. For xz it prefers the xz program, which is four times as
// fast as the Go one: a kernel package takes it 5 s, not 20.
func unpack(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	in := bufio.NewReaderSize(r, 1<<16)
	c, ok := detect(in)
	if !ok {
		return io.NopCloser(in), nil
	}
	if c.name == "xz" {
		if program, err := exec.LookPath("xz"); err == nil {
			return startXZ(ctx, program, in)
		}
	}
	return c.decompressor(in)
}

// startXZ runs program as a filter over r.
func startXZ(ctx context.Context, program string, r io.Reader) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, "--decompress", "--stdout", "--threads=0",
		"--memlimit-decompress="+strconv.Itoa(8*maxWindow))
	cmd.Stdin = r
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("run %q: %w", program, err)
	}
	return &filter{out: out, cmd: cmd, cancel: cancel}, nil
}

// A filter is the output of a running program. A program that fails is an error of the read that sees its end.
type filter struct {
	out    io.Reader
	cmd    *exec.Cmd
	cancel context.CancelFunc
	waited bool
}

// Read implements io.Reader.
func (f *filter) Read(p []byte) (int, error) {
	n, err := f.out.Read(p)
	if errors.Is(err, io.EOF) && !f.waited {
		f.waited = true
		if failed := f.cmd.Wait(); failed != nil {
			return n, fmt.Errorf("unpack xz: %w", failed)
		}
	}
	return n, err
}

// Close ends the program if it still runs.
func (f *filter) Close() error {
	f.cancel()
	if !f.waited {
		f.waited = true
		_ = f.cmd.Wait() // killed by cancel: that is no news
	}
	return nil
}
