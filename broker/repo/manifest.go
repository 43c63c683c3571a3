package repo

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a tree. Media of distributions have some 10,000 files, a whole mirror 100,000.
const (
	MaxTreeEntries = 1 << 18
	MaxManifest    = 128 << 20
	MaxTreeFile    = 64 << 30
	maxPath        = 4096
)

// A Manifest says what an install tree is made of. Written out, it has one form only, so that its sha256 names the tree:
// a line for the tree and one for each file and link in the order of their paths. Directories are those that paths go
// through.
type Manifest struct {
	Fold    bool // names are found whatever the case of their letters
	Entries []TreeEntry
}

// A TreeEntry is a file or symbolic link of a tree.
type TreeEntry struct {
	Path   string      `json:"path"`
	Mode   fs.FileMode `json:"mode,omitempty"` // permissions
	Size   int64       `json:"size,omitempty"`
	SHA256 string      `json:"sha256,omitempty"` // of a file
	Link   string      `json:"link,omitempty"`   // of a link, from where it lies
}

// treeHead is the first line.
type treeHead struct {
	Version int  `json:"tree"`
	Fold    bool `json:"fold,omitempty"`
}

func (m *Manifest) sort() {
	slices.SortFunc(m.Entries, func(a, z TreeEntry) int { return cmp.Compare(a.Path, z.Path) })
}

// Encode sorts the entries and writes them out.
func (m *Manifest) Encode() ([]byte, error) {
	m.sort()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	err := e.Encode(treeHead{1, m.Fold})
	for _, x := range m.Entries {
		err = errors.Join(err, e.Encode(x))
	}
	if err == nil {
		_, err = ReadManifest(bytes.NewReader(out.Bytes()))
	}
	return out.Bytes(), err
}

// ReadManifest reads what Encode writes, and refuses every other form of it.
func ReadManifest(r io.Reader) (*Manifest, error) {
	lines := bufio.NewScanner(io.LimitReader(r, MaxManifest+1))
	lines.Buffer(nil, 64<<10)
	m, n, dirs := &Manifest{}, 0, map[string]bool{}
	for ; lines.Scan(); n++ {
		err := m.readLine(n, lines.Bytes(), dirs)
		if err != nil {
			return nil, fmt.Errorf("manifest line %d: %w", n+1, err)
		}
	}
	switch {
	case lines.Err() != nil:
		return nil, fmt.Errorf("manifest line %d: %w", n+1, lines.Err())
	case len(m.Entries) == 0:
		return nil, errors.New("manifest: the tree is empty")
	}
	return m, nil
}

// readLine takes a line, if it comes after the last and nothing lies below a file. dirs are the directories so far.
func (m *Manifest) readLine(n int, line []byte, dirs map[string]bool) error {
	if n == 0 {
		var h treeHead
		err := decodeLine(line, &h)
		if m.Fold = h.Fold; err == nil && h.Version != 1 {
			err = fmt.Errorf("version %d: this muster knows 1", h.Version)
		}
		return err
	}
	var e TreeEntry
	if err := decodeLine(line, &e); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	if len(m.Entries) == MaxTreeEntries {
		return fmt.Errorf("more than %d files", MaxTreeEntries)
	}
	if len(m.Entries) > 0 && m.Entries[len(m.Entries)-1].Path >= e.Path {
		return fmt.Errorf("%q is there twice, or out of order", e.Path)
	}
	for dir := path.Dir(e.Path); dir != "." && !dirs[dir]; dir = path.Dir(dir) {
		if _, file := m.find(dir); file {
			return fmt.Errorf("%q lies below %q, which is no directory", e.Path, dir)
		}
		dirs[dir] = true
	}
	m.Entries = append(m.Entries, e)
	return nil
}

// decodeLine reads one JSON object and holds it against how it would be written.
func decodeLine(line []byte, v any) error {
	if err := json.Unmarshal(line, v); err != nil {
		return err
	}
	var again bytes.Buffer
	e := json.NewEncoder(&again)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(again.Bytes(), []byte("\n")), line) {
		return errors.New("it is not written as muster writes it")
	}
	return nil
}

func (e TreeEntry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	switch {
	case e.Mode&^fs.ModePerm != 0:
		return fmt.Errorf("mode %o: want permissions only", e.Mode)
	case e.Link != "":
		return e.checkLink()
	case !sumForm.MatchString(e.SHA256):
		return errors.New("sha256: want 64 lower-case hexadecimal digits")
	case e.Size < 0 || e.Size > MaxTreeFile:
		return fmt.Errorf("it has %d bytes: at most %d are taken", e.Size, int64(MaxTreeFile))
	}
	return nil
}

// checkLink refuses a link that leads out of the tree, wherever it would lead there (T36).
func (e TreeEntry) checkLink() error {
	to := path.Join(path.Dir(e.Path), e.Link)
	switch {
	case e.SHA256 != "" || e.Size != 0:
		return errors.New("it is a file and a link")
	case path.IsAbs(e.Link) || to == ".." || strings.HasPrefix(to, "../"):
		return fmt.Errorf("the link to %q leads out of the tree", e.Link)
	case len(e.Link) > maxPath || !printable(e.Link):
		return errors.New("its link holds what cannot be printed")
	}
	return nil
}

// checkPath takes clean relative paths of printable text.
func checkPath(p string) error {
	switch {
	case !fs.ValidPath(p) || p == "." || len(p) > maxPath:
		return fmt.Errorf("want a clean path of at most %d bytes within the tree", maxPath)
	case !printable(p):
		return errors.New("it holds what cannot be printed")
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// find gives the place of a path, or where it would be.
func (m *Manifest) find(p string) (int, bool) {
	return slices.BinarySearchFunc(m.Entries, p, func(e TreeEntry, p string) int { return strings.Compare(e.Path, p) })
}
