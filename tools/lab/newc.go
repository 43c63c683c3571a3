package lab

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// A newc writes the cpio format of Documentation/driver-api/early-userspace/buffer-format.rst. Its inodes only count up.
type newc struct {
	w     io.Writer
	inode uint32
}

// addTar adds one entry of a tar archive. A hard link becomes a symbolic one: no program here tells them apart.
func (n *newc) addTar(h *tar.Header, r io.Reader) error {
	name := strings.TrimPrefix(path.Clean(h.Name), "/")
	mode := uint32(h.Mode & 0o7777)
	switch h.Typeflag {
	case tar.TypeReg:
		return n.add(name, mode|0o100000, h.Size, r)
	case tar.TypeDir:
		return n.add(name, mode|0o040000, 0, nil)
	case tar.TypeSymlink:
		return n.add(name, 0o120777, int64(len(h.Linkname)), strings.NewReader(h.Linkname))
	case tar.TypeLink:
		target := "/" + strings.TrimPrefix(path.Clean(h.Linkname), "/")
		return n.add(name, 0o120777, int64(len(target)), strings.NewReader(target))
	}
	return nil // device nodes: devtmpfs has them
}

// addText adds a program that is a text.
func (n *newc) addText(name, text string) error {
	return n.add(name, 0o100755, int64(len(text)), strings.NewReader(text))
}

// addFile adds a program of this host.
func (n *newc) addFile(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return n.add(name, 0o100755, st.Size(), f)
}

// add writes one entry: 13 fields of eight hexadecimal digits, the name and the content, both filled up to four bytes.
// Everything is root's.
func (n *newc) add(name string, mode uint32, size int64, content io.Reader) error {
	n.inode++
	fields := [13]uint32{0: n.inode, 1: mode, 4: 1, 6: uint32(size), 11: uint32(len(name) + 1)}
	head := "070701"
	for _, f := range fields {
		head += fmt.Sprintf("%08X", f)
	}
	head += name + "\x00"
	if _, err := io.WriteString(n.w, head+padding(int64(len(head)))); err != nil {
		return err
	}
	if size == 0 {
		return nil
	}
	if _, err := io.CopyN(n.w, content, size); err != nil {
		return err
	}
	_, err := io.WriteString(n.w, padding(size))
	return err
}

func padding(size int64) string { return "\x00\x00\x00"[:-size&3] }

func (n *newc) close() error { return n.add("TRAILER!!!", 0, 0, nil) }
