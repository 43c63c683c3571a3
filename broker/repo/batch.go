package repo

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// How much a batch holds before it is made durable.
const (
	batchFiles = 1024
	batchBytes = 1 << 30
)

// A batch is files that are made durable together: to wait for the disk for each of the 10,000 files of a tree would
// take longer than to write them.
type batch struct {
	files *Files
	want  map[string]int64 // the files that are taken, with their sizes
	held  []heldFile
	bytes int64
	kept  int
}

// A heldFile is written and has no name yet.
type heldFile struct{ tmp, sum string }

// add writes the file of a header, whose name is the sum of its bytes.
func (b *batch) add(in io.Reader, h *tar.Header) error {
	if h.Typeflag != tar.TypeReg || !sumForm.MatchString(h.Name) {
		return fmt.Errorf("entry %.80q: want plain files, each named by its sha256", h.Name)
	}
	if size, ok := b.want[h.Name]; !ok || size != h.Size {
		return fmt.Errorf("file %s of %d bytes is none of this tree", h.Name, h.Size)
	}
	tmp, err := os.CreateTemp(b.files.dir, "import-*")
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, hash), in)
	err = errors.Join(err, os.Chtimes(tmp.Name(), b.files.now(), b.files.now()), tmp.Close())
	if sum := hex.EncodeToString(hash.Sum(nil)); err == nil && sum != h.Name {
		err = fmt.Errorf("file %s: its sha256 is %s: it changed on the way or while it was read", h.Name, sum)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	b.held, b.bytes = append(b.held, heldFile{tmp.Name(), h.Name}), b.bytes+h.Size
	if len(b.held) >= batchFiles || b.bytes >= batchBytes {
		return b.flush()
	}
	return nil
}

// flush names what is held, after its bytes are on disk: a name that outlived a power cut with half a file would be
// taken for a whole one.
func (b *batch) flush() error {
	if len(b.held) == 0 {
		return nil
	}
	dir, err := os.Open(b.files.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Syncfs(int(dir.Fd()))
	for _, f := range b.held {
		if err != nil {
			err = errors.Join(err, os.Remove(f.tmp))
			continue
		}
		dst, _ := b.files.path(f.sum)
		if err = os.Rename(f.tmp, dst); err == nil {
			b.kept++
		}
	}
	b.held, b.bytes = nil, 0
	return errors.Join(err, dir.Sync())
}
