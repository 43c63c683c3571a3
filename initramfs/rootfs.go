package initramfs

import (
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// A rootfs is the tree that a kernel makes of entries one after the other (do_name, do_symlink and clean_path of
// init/initramfs.c, Linux 6.1; TestKernelAgrees asks a booted one). What surprises:
//
//   - A directory takes the place of a symbolic link, even of one to a directory: "lib" as a directory, laid over
//     "lib -> usr/lib", hides all of usr/lib from who looks for lib.
//   - Nothing takes the place of a directory that is not empty.
//   - A file over a file writes into it: other names of the same file change with it.
//   - A device node over a device node of its type changes owner and permissions, not the device.
//   - Files with more than one link are one when type, device and inode number are equal, up to the next trailer. Each
//     of them that has content overwrites the content of all.
//   - The first time of a directory wins, and stays with what takes its place. It is given at the very end, by name: a
//     directory to which none of its names leads any more has the time of the boot.
//   - No directory is made that nobody named.
type rootfs struct {
	m       *Manifest
	entries []Entry // of m
	root    *inode
	archive int                // of the entry before
	first   map[linkKey]string // first name of each file with several, in this archive
	places  []place            // of each entry; dir is nil when lost
	lost    []string           // why a kernel makes nothing of an entry; "" when it does
	steps   int                // parts of names looked at
	clash   map[int]int        // entries whose content differs from that of another entry of the same file
	strays  []string           // how an entry's name leaves the tree; "" when it does not
}

// A linkKey tells files apart, as a kernel does.
type linkKey struct{ major, minor, ino, kind uint32 }

// An inode is a file of any type. Of which entries it has what, is told by their numbers; -1 is of none.
type inode struct {
	kind  uint32
	node  int // made it, and named the device or the target
	meta  int // permissions
	owner int
	when  int // time; clock when it is that of the boot
	data  int // content
	links int

	names  map[string]*name // of a directory
	parent *inode           // of a directory; nil of the root
	called string           // of a directory: its name there
	depth  int              // of a directory
}

// clock in the place of an entry's number is the machine's: nobody has set a directory's time since it was made, or
// since something came into it or went.
const clock = -1

// A name is what a directory has.
type name struct {
	*inode
	by int // entry that spoke of it last
}

// A place is a name in a directory, there or not; base is "" for the directory itself.
type place struct {
	dir  *inode
	base string
}

// maxFollow is how many symbolic links a kernel follows in one name (MAXSYMLINKS).
const maxFollow = 40

// maxPart is how long a name in a directory can be (NAME_MAX).
const maxPart = 255

// maxSteps bounds all names together: 64 Ki names that each lead through 40 links of 2,048 parts would take minutes.
const maxSteps = 1 << 24

// unpack gives what a kernel makes of the entries.
func (m *Manifest) unpack() *rootfs {
	n := len(m.Entries)
	fs := &rootfs{m: m, entries: m.Entries, root: newDir(nil, ""), first: make(map[linkKey]string),
		clash: make(map[int]int), places: make([]place, n), lost: make([]string, n), strays: make([]string, n)}
	for _, builtin := range []string{"dev", "root"} { // usr/default_cpio_list, which is unpacked before
		fs.root.names[builtin] = &name{newDir(fs.root, builtin), -1}
	}
	for i := range fs.entries {
		fs.lost[i] = fs.apply(i)
	}
	fs.setTimes()
	return fs
}

func newDir(parent *inode, called string) *inode {
	d := &inode{kind: typeDir, node: -1, meta: -1, owner: -1, when: clock, data: -1, links: 1, names: make(map[string]*name), parent: parent,
		called: called}
	if parent != nil {
		d.depth = parent.depth + 1
	}
	return d
}

// setTimes gives directories their times, after all is unpacked and from the last entry to the first, so that the first of
// a name wins; whatever has come in the place of a directory gets its time too (dir_utime).
func (fs *rootfs) setTimes() {
	for i := len(fs.entries) - 1; i >= 0; i-- {
		e := &fs.entries[i]
		if e.kind() != typeDir || e.Size > 0 {
			continue
		}
		if p, why := fs.find(-1, e.Name); why == "" && p.inode() != nil {
			p.inode().when = i
		}
	}
}

// apply does what a kernel does with one entry and tells why that is nothing.
func (fs *rootfs) apply(i int) string {
	e := &fs.entries[i]
	if e.Archive != fs.archive {
		fs.archive = e.Archive
		clear(fs.first)
	}
	if e.kind() != typeRegular && e.kind() != typeLink && e.Size > 0 {
		return "has content, and is no file; with it a kernel may lose the rest of a compressed archive"
	}
	p, why := fs.find(i, e.Name)
	if why != "" {
		fs.firstOf(e) // a kernel remembers it before it fails
		return why
	}
	if old := p.inode(); old != nil && (old.kind != e.kind() || e.kind() == typeLink) {
		p.remove()
	}
	why = fs.make(i, e, p)
	if why == "" {
		fs.places[i] = p
		p.setBy(fs, i)
	}
	return why
}

// make puts e at p.
func (fs *rootfs) make(i int, e *Entry, p place) string {
	switch e.kind() {
	case typeDir:
		return fs.makeDir(i, p)
	case typeLink:
		if e.Target == "" {
			return "is a link without a target"
		}
		return fs.makeNode(i, p)
	case typeRegular:
		return fs.makeFile(i, e, p)
	case typeChar, typeBlock, typePipe, typeSocket:
		linked, why := fs.link(e, p)
		if linked || why != "" {
			return why
		}
		return fs.makeNode(i, p)
	}
	return fmt.Sprintf("file type %#o is none", e.kind())
}

func (fs *rootfs) makeDir(i int, p place) string {
	d := p.inode()
	if d == nil && p.dir.depth >= maxName/2 {
		return fmt.Sprintf("lies in more than %d directories", p.dir.depth)
	}
	if d == nil {
		d = newDir(p.dir, p.base)
		d.node = i
		p.put(d)
	}
	if d.node < 0 {
		d.node = i
	}
	d.meta, d.owner = i, i
	return ""
}

// makeNode makes what has no content.
func (fs *rootfs) makeNode(i int, p place) string {
	e := &fs.entries[i]
	old := p.inode()
	switch {
	case old == nil:
		p.put(&inode{kind: e.kind(), node: i, meta: i, owner: i, when: i, data: -1, links: 1})
	case old.kind == e.kind():
		old.meta, old.owner, old.when = i, i, i
	default:
		if old.owner, old.when = i, i; e.kind() != typeLink {
			old.meta = i
		}
		return fmt.Sprintf("%q is a directory that is not empty", p.String())
	}
	return ""
}

func (fs *rootfs) makeFile(i int, e *Entry, p place) string {
	linked, why := fs.link(e, p)
	if why != "" {
		return why
	}
	f := p.inode()
	switch {
	case f == nil:
		f = &inode{kind: typeRegular, node: i, links: 1}
		p.put(f)
	case f.kind != typeRegular:
		return fmt.Sprintf("%q is a directory that is not empty", p.String())
	}
	if linked && e.Size > 0 && fs.entries[f.data].Size > 0 && fs.entries[f.data].SHA256 != e.SHA256 {
		fs.clash[i] = f.data
	}
	f.meta, f.owner, f.when = i, i, i
	if !linked || e.Size > 0 {
		f.data = i
	}
	return ""
}

// link makes p one more name of the file that e belongs to, if it is not the first of its names.
func (fs *rootfs) link(e *Entry, p place) (linked bool, why string) {
	first, ok := fs.firstOf(e)
	if !ok {
		return false, ""
	}
	p.remove()
	q, _ := fs.find(-1, first)
	old := q.inode()
	if old == nil || old.kind != e.kind() {
		return false, fmt.Sprintf("%q, which it is a link to, is no more", first)
	}
	if p.inode() != nil {
		return false, fmt.Sprintf("%q is a directory that is not empty", p.String())
	}
	old.links++
	p.put(old)
	return true, ""
}

// firstOf gives the first name of the file that e belongs to; if that is e's, it is remembered, and ok is false.
func (fs *rootfs) firstOf(e *Entry) (first string, ok bool) {
	if e.Links < 2 || e.kind() == typeDir || e.kind() == typeLink {
		return "", false
	}
	key := linkKey{e.DevMajor, e.DevMinor, e.Ino, e.kind()}
	if first, ok = fs.first[key]; !ok {
		fs.first[key] = e.Name
	}
	return first, ok
}

// find follows a name up to its last part, and tells why it cannot. That a name leaves the tree is noted for entry i,
// unless that is -1; a kernel takes it all the same, because nothing is outside.
func (fs *rootfs) find(i int, of string) (place, string) {
	if of == "" {
		return place{}, "has no name"
	}
	if path.IsAbs(of) {
		fs.stray(i, "is absolute")
	}
	f := finder{fs: fs, i: i, at: fs.root}
	parts := split(of)
	for n, part := range parts {
		switch {
		case len(part) > maxPart:
			return place{}, fmt.Sprintf("has a part of more than %d bytes", maxPart)
		case part == "..":
			fs.stray(i, `has ".." in it`)
			f.up()
		case n == len(parts)-1 && !strings.HasSuffix(of, "/."):
			return place{f.at, part}, ""
		default:
			if why := f.down(part); why != "" {
				return place{}, why
			}
		}
	}
	return place{f.at, ""}, ""
}

// split gives the parts of a name that count.
func split(of string) []string {
	return slices.DeleteFunc(strings.Split(of, "/"), func(part string) bool { return part == "" || part == "." })
}

func (fs *rootfs) stray(i int, how string) {
	if i >= 0 && fs.strays[i] == "" {
		fs.strays[i] = how
	}
}

// A finder goes from directory to directory.
type finder struct {
	fs       *rootfs
	i        int
	at       *inode
	followed int
}

func (f *finder) up() {
	if f.at.parent != nil {
		f.at = f.at.parent
	}
}

// down enters a directory, through as many symbolic links as it takes.
func (f *finder) down(part string) string {
	here := place{f.at, part}
	next := here.inode()
	if f.fs.steps++; f.fs.steps > maxSteps {
		return "is not looked for: names and links of this ramdisk have too many parts"
	}
	switch {
	case next == nil:
		return fmt.Sprintf("there is no directory %q", here.String())
	case next.kind == typeDir:
		f.at = next
		return ""
	case next.kind != typeLink:
		return fmt.Sprintf("%q is not a directory", here.String())
	}
	target := f.fs.entries[next.node].Target
	if f.followed++; f.followed > maxFollow || target == "" {
		return fmt.Sprintf("%q is a link that leads nowhere", here.String())
	}
	if path.IsAbs(target) {
		f.at = f.fs.root
	}
	for _, part := range split(target) {
		if part == ".." {
			if f.at.parent == nil {
				f.fs.stray(f.i, fmt.Sprintf("goes through %q, a link to %q", here.String(), target))
			}
			f.up()
			continue
		}
		if why := f.down(part); why != "" {
			if path.IsAbs(target) {
				f.fs.stray(f.i, fmt.Sprintf("goes through %q, a link to %q, which is not in the tree", here.String(), target))
			}
			return why
		}
	}
	return ""
}

// inode is what is at p; nil is nothing.
func (p place) inode() *inode {
	switch {
	case p.dir == nil:
		return nil
	case p.base == "":
		return p.dir
	case p.dir.names[p.base] == nil:
		return nil
	}
	return p.dir.names[p.base].inode
}

// remove takes away what is at p, unless that is a directory with something in it.
func (p place) remove() {
	old := p.inode()
	if old == nil || p.base == "" || len(old.names) > 0 {
		return
	}
	old.links--
	delete(p.dir.names, p.base)
	p.dir.when = clock
}

// put gives p, where nothing is, to a file. Who spoke of it is for setBy.
func (p place) put(f *inode) {
	p.dir.names[p.base] = &name{inode: f}
	p.dir.when = clock
}

// setBy notes who spoke of p last.
func (p place) setBy(fs *rootfs, i int) {
	if p.base != "" {
		p.dir.names[p.base].by = i
	}
}

// String is the name from the root, without links in it.
func (p place) String() string { return path.Join(p.dir.String(), p.base) }

func (d *inode) String() string {
	if d == nil || d.parent == nil {
		return ""
	}
	return path.Join(d.parent.String(), d.called)
}

// lives tells whether entry i is the last that spoke of its name.
func (fs *rootfs) lives(i int) bool {
	p := fs.places[i]
	if p.dir == nil || p.dir.links == 0 {
		return false
	}
	if p.base == "" {
		return p.dir.meta == i
	}
	n := p.dir.names[p.base]
	return n != nil && n.by == i
}

// files are all names of the tree, a directory before what is in it, sorted.
func (fs *rootfs) files() iter.Seq2[string, *name] {
	return func(yield func(string, *name) bool) { fs.root.walk("", yield) }
}

func (d *inode) walk(at string, yield func(string, *name) bool) bool {
	for _, called := range slices.Sorted(maps.Keys(d.names)) {
		n := d.names[called]
		full := path.Join(at, called)
		if n.node >= 0 && !yield(full, n) || !n.walk(full, yield) {
			return false
		}
	}
	return true
}

// contents says where the content of an entry is to be found in the tree: at the first of its file's names.
func (fs *rootfs) contents() map[int]string {
	at := make(map[int]string)
	for called, n := range fs.files() {
		if _, ok := at[n.data]; !ok && n.kind == typeRegular {
			at[n.data] = called
		}
	}
	return at
}

// entry says all of a file in one: what a kernel's stat would tell, and its content. The time of the boot is 0.
func (fs *rootfs) entry(called string, n *name) Entry {
	node, owner := fs.entries[n.node], fs.entries[n.owner]
	e := Entry{Name: called, Mode: n.kind | fs.entries[n.meta].Mode&^typeMask, UID: owner.UID, GID: owner.GID,
		Links: uint32(n.links), Target: node.Target, Archive: node.Archive}
	if n.when != clock {
		e.Time = fs.entries[n.when].Time
	}
	if n.kind == typeLink {
		e.Mode = typeLink | 0o777 // whatever the header says
	}
	if n.kind == typeChar || n.kind == typeBlock {
		e.Major, e.Minor = node.Major, node.Minor
	}
	if n.kind == typeRegular {
		e.Size, e.SHA256 = fs.entries[n.data].Size, fs.entries[n.data].SHA256
	}
	return e
}
