package initramfs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxManifest bounds ramdisk.json: 64 Ki entries with long names take 40 MB.
const maxManifest = 256 << 20

// A Packing says how a ramdisk is written. The zero value keeps what was there.
type Packing struct {
	Compress string    // gzip, zstd, xz or none; if "", each segment as it was
	Epoch    time.Time // time of files that are new or changed; if zero, 1980-01-01 UTC

	// Progress is told that more bytes have been packed, of how many in all, and ends it with an error; if nil, nobody is.
	Progress func(more, total int64) error
}

func (p Packing) epoch() (uint32, error) {
	if p.Epoch.IsZero() {
		p.Epoch = defaultEpoch
	}
	return archiveTime(p.Epoch)
}

// Repack writes the ramdisk that Unpack made dir of, with what has been changed in dir/tree since, and says what that is,
// one line each. What was not touched keeps its place, owner, time and links. A changed file keeps its owner; a new one
// belongs to root, has the permissions it has on disk, and stands at the end of the last archive. Both get the time of
// Packing.Epoch. Device nodes, pipes and sockets are not on disk: they stay while their directory does.
func Repack(dir string, out io.Writer, c Packing) ([]string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m, err := readManifest(root)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", filepath.Join(dir, manifestFile), err)
	}
	left, err := m.sound()
	if err != nil {
		return nil, err
	}
	epoch, err := c.epoch()
	if err != nil {
		return nil, err
	}
	r := &repacker{root: root, m: m, left: left, epoch: epoch, gone: make(map[string]bool), of: make(map[string]*diskFile), at: left.contents()}
	if err := r.plan(); err != nil {
		return nil, err
	}
	notes, err := m.compressWith(c.Compress)
	if err != nil {
		return nil, err
	}
	if err := r.write(out, c.Progress); err != nil {
		return nil, err
	}
	return append(notes, r.notes...), nil
}

// readManifest reads ramdisk.json, which a person may have edited.
func readManifest(root *os.Root) (*Manifest, error) {
	f, err := root.Open(manifestFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var m Manifest
	d := json.NewDecoder(io.LimitReader(f, maxManifest))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, err
	}
	return &m, m.valid()
}

// valid tells whether archives can be written that m says.
func (m *Manifest) valid() error {
	archives := 0
	for _, s := range m.Segments {
		archives += len(s.Archives)
	}
	if archives == 0 || archives != m.Archives || archives > maxArchive {
		return fmt.Errorf("%d archives in segments, %d in all", archives, m.Archives)
	}
	before := 0
	for i, e := range m.Entries {
		switch {
		case e.Archive < before || e.Archive >= archives:
			return fmt.Errorf("entry %d %q: archive %d, after %d of %d", i, e.Name, e.Archive, before, archives)
		case len(e.Name) >= maxName || strings.ContainsRune(e.Name+e.Target, 0) || e.NameSize > maxName:
			return fmt.Errorf("entry %d %q: not a name", i, e.Name)
		}
		before = e.Archive
	}
	return nil
}

// A diskFile is what an unpacked tree has of a name.
type diskFile struct {
	mode   fs.FileMode
	size   int64
	sum    string // of a regular file
	target string // of a symbolic link
}

// A planned entry is to be written. from is where its content is; "" is nowhere.
type planned struct {
	Entry
	from string
}

// A repacker compares a tree with its manifest.
type repacker struct {
	root  *os.Root
	m     *Manifest
	left  *rootfs
	epoch uint32
	of    map[string]*diskFile // on disk, by name in the tree
	gone  map[string]bool      // names of the tree that are no more
	at    map[int]string       // where in the tree the content of an entry is
	plans []planned
	notes []string
}

func (r *repacker) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// plan makes the list of entries.
func (r *repacker) plan() error {
	if err := r.scan(); err != nil {
		return err
	}
	r.findGone()
	changed := r.findChanged()
	for i := range r.m.Entries {
		if p := r.left.places[i]; p.dir != nil && r.gone[p.String()] {
			continue
		}
		e, ok := changed[i]
		if !ok {
			e = r.untouched(i)
		}
		r.plans = append(r.plans, e)
	}
	return r.addNew()
}

// scan looks at all of the tree. What is neither file, directory nor link has no place there.
func (r *repacker) scan() error {
	return fs.WalkDir(r.root.FS(), treeDir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || at == treeDir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		f := &diskFile{mode: info.Mode(), size: info.Size()}
		switch f.mode.Type() {
		case 0:
			f.sum, err = r.sum(at)
		case fs.ModeSymlink:
			f.target, err = r.root.Readlink(at)
		case fs.ModeDir:
		default:
			return fmt.Errorf("%q is a %s: those are told in %s only", at, f.mode.Type(), manifestFile)
		}
		if f.size > math.MaxUint32 {
			return fmt.Errorf("%q: %d bytes are more than a newc archive can say", at, f.size)
		}
		r.of[strings.TrimPrefix(at, treeDir+"/")] = f
		return err
	})
}

func (r *repacker) sum(at string) (string, error) {
	f, err := r.root.Open(at)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return hex.EncodeToString(sum.Sum(nil)), err
}

// kind is the file type as in struct stat.
func (f *diskFile) kind() uint32 {
	switch f.mode.Type() {
	case fs.ModeDir:
		return typeDir
	case fs.ModeSymlink:
		return typeLink
	}
	return typeRegular
}

// findGone compares names and types.
func (r *repacker) findGone() {
	for called, n := range r.left.files() {
		f := r.of[called]
		onDisk := n.kind == typeDir || n.kind == typeLink || n.kind == typeRegular
		switch {
		case f != nil && f.kind() == n.kind, f == nil && !onDisk && !r.gone[path.Dir(called)]:
			continue
		case f == nil && r.gone[path.Dir(called)]:
		default:
			r.note("removed %s", called)
		}
		r.gone[called] = true
	}
}

// untouched plans entry i as it was. Content of a file that had more than one name may have been changed under another;
// then the entry of that name has it.
func (r *repacker) untouched(i int) planned {
	e := planned{Entry: r.m.Entries[i]}
	if e.kind() != typeRegular || e.Size == 0 {
		return e
	}
	at, ok := r.at[i]
	if p := r.left.places[i]; r.left.lives(i) && p.inode().data == i {
		at = p.String()
	}
	if !ok {
		e.from = inReplaced(i)
		return e
	}
	if f := r.of[at]; f == nil || f.sum != e.SHA256 {
		e.Size, e.Check = 0, 0
		return e
	}
	e.from = inTree(at)
	return e
}

// addNew plans what is on disk and was not in the ramdisk.
func (r *repacker) addNew() error {
	ino := uint32(0)
	for _, e := range r.m.Entries {
		ino = max(ino, e.Ino)
	}
	known := make(map[string]bool)
	for called := range r.left.files() {
		known[called] = !r.gone[called]
	}
	for _, builtin := range []string{"dev", "root"} {
		n := r.left.root.names[builtin]
		known[builtin] = known[builtin] || n != nil && n.node < 0 && len(n.names) > 0
	}
	var names []string
	for called := range r.of {
		if !known[called] {
			names = append(names, called)
		}
	}
	slices.Sort(names)
	for _, called := range names {
		ino++
		e, err := r.newEntry(called, r.of[called], ino)
		if err != nil {
			return err
		}
		r.note("added %s", called)
		r.plans = append(r.plans, e)
	}
	return nil
}

func (r *repacker) newEntry(called string, f *diskFile, ino uint32) (planned, error) {
	e := planned{Entry: Entry{Name: called, Mode: f.kind() | uint32(f.mode.Perm()), Links: 1, Ino: ino, Time: r.epoch,
		Archive: r.m.Archives - 1, SHA256: f.sum, Target: f.target}}
	if _, err := safeName(called); err != nil {
		return e, err
	}
	switch e.kind() {
	case typeDir:
		e.Links = 2
	case typeLink:
		e.Size = uint32(len(f.target))
	case typeRegular:
		e.Size, e.from = uint32(f.size), inTree(called)
	}
	return e, nil
}

// write writes what is planned.
func (r *repacker) write(out io.Writer, progress func(more, total int64) error) error {
	p := newPacker(out, r.m)
	total := int64(0)
	for _, e := range r.plans {
		total += int64(e.Size)
	}
	for _, e := range r.plans {
		if err := r.put(p, e); err != nil {
			return err
		}
		if progress == nil {
			continue
		}
		if err := progress(int64(e.Size), total); err != nil {
			return err
		}
	}
	return p.close()
}

func (r *repacker) put(p *packer, e planned) error {
	if e.from == "" {
		return p.entry(e.Archive, e.Entry, strings.NewReader(""))
	}
	f, err := r.root.Open(e.from)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Checked {
		var crc checksum
		if _, err := io.Copy(&crc, f); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		e.Check = uint32(crc)
	}
	sum := sha256.New()
	if err := p.entry(e.Archive, e.Entry, io.TeeReader(f, sum)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != e.SHA256 {
		return fmt.Errorf("%q changed while it was read", filepath.Join(r.root.Name(), e.from))
	}
	return nil
}
