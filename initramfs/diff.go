package initramfs

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// A Difference is what a kernel would find different in two ramdisks.
type Difference struct {
	Name string   `json:"name"`           // in the second, or in the first when it is not in the second; "" of the whole
	What string   `json:"what"`           // added, removed or changed
	How  []string `json:"how,omitempty"`  // in words: what it is, or what is different
	Time bool     `json:"time,omitempty"` // nothing but the time is different
}

// String says it on a line.
func (d Difference) String() string {
	s := d.What + " " + d.Name
	if d.Name == "" {
		s = d.What
	}
	if len(d.How) > 0 {
		s += ": " + strings.Join(d.How, "; ")
	}
	return s
}

// Diff compares the trees that a kernel makes of two ramdisks. When they are of different kernels, modules are compared
// by their place below lib/modules/RELEASE. How the ramdisks are packed does not matter.
func Diff(a, b *Manifest) []Difference { return diffVersions(a, b, nil, nil) }

// DiffImages is Diff that also tells the versions of kernel modules and Go programs that differ.
func DiffImages(a, b Image) ([]Difference, error) {
	left, err := readImage(a)
	if err != nil {
		return nil, fmt.Errorf("read the first: %w", err)
	}
	right, err := readImage(b)
	if err != nil {
		return nil, fmt.Errorf("read the second: %w", err)
	}
	changed := make(map[string]bool)
	for _, d := range Diff(left, right) {
		changed[d.Name], changed[renamed(d.Name, right.Kernel, left.Kernel)] = true, true
	}
	was, err := versionsIn(a, left, changed)
	if err != nil {
		return nil, err
	}
	is, err := versionsIn(b, right, changed)
	if err != nil {
		return nil, err
	}
	return diffVersions(left, right, was, is), nil
}

// finals are the entries that are left, by name.
func (m *Manifest) finals() map[string]Entry {
	left := m.unpack()
	finals := make(map[string]Entry)
	for called, n := range left.files() {
		finals[called] = left.entry(called, n)
	}
	return finals
}

// renamed is the name that a file has under another kernel.
func renamed(called, from, to string) string {
	dir, rest, ok := strings.Cut(called+"/", "lib/modules/"+from+"/")
	if from == "" || !ok || dir != "" && dir != "usr/" {
		return called
	}
	return path.Join(dir, "lib/modules", to, rest)
}

// diffVersions is Diff that knows versions of files, by name.
func diffVersions(a, b *Manifest, was, is map[string]string) []Difference {
	var found []Difference
	if a.Kernel != b.Kernel {
		found = append(found, Difference{What: "changed", How: []string{fmt.Sprintf("kernel of the modules %s, was %s", orNone(b.Kernel), orNone(a.Kernel))}})
	}
	left, right := a.finals(), b.finals()
	for called, e := range left {
		to := renamed(called, a.Kernel, b.Kernel)
		other, ok := right[to]
		if !ok {
			found = append(found, Difference{Name: called, What: "removed", How: e.words(was[called])})
			continue
		}
		delete(right, to)
		how := e.unlike(other)
		if v, w := was[called], is[to]; v != w && len(how) > 0 {
			how = append(how, fmt.Sprintf("%s, was %s", orNone(w), orNone(v)))
		}
		switch {
		case len(how) > 0:
			found = append(found, Difference{Name: to, What: "changed", How: how})
		case e.Time != other.Time:
			found = append(found, Difference{Name: to, What: "changed", How: []string{"time"}, Time: true})
		}
	}
	for called, e := range right {
		found = append(found, Difference{Name: called, What: "added", How: e.words(is[called])})
	}
	slices.SortFunc(found, func(x, y Difference) int { return strings.Compare(x.Name, y.Name) })
	return found
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// kindWords are file types as people call them.
var kindWords = map[uint32]string{typeDir: "directory", typeRegular: "file", typeLink: "symbolic link",
	typeChar: "character device", typeBlock: "block device", typePipe: "pipe", typeSocket: "socket"}

// words says what e is.
func (e Entry) words(version string) []string {
	s := kindWords[e.kind()]
	switch e.kind() {
	case typeRegular:
		s = fmt.Sprintf("%s of %d bytes", s, e.Size)
	case typeLink:
		s = fmt.Sprintf("%s to %q", s, e.Target)
	case typeChar, typeBlock:
		s = fmt.Sprintf("%s %d:%d", s, e.Major, e.Minor)
	}
	if version != "" {
		return []string{s, version}
	}
	return []string{s}
}

// unlike says in what o, which is later, is not as e; the time is left out.
func (e Entry) unlike(o Entry) []string {
	if e.kind() != o.kind() {
		return []string{fmt.Sprintf("%s, was a %s", o.words("")[0], e.words("")[0])}
	}
	var how []string
	say := func(differs bool, format string, args ...any) {
		if differs {
			how = append(how, fmt.Sprintf(format, args...))
		}
	}
	say(e.Size != o.Size && e.kind() == typeRegular, "%d bytes, was %d", o.Size, e.Size)
	say(e.Size == o.Size && e.SHA256 != o.SHA256, "content differs, as many bytes (sha256 %.12s, was %.12s)", o.SHA256, e.SHA256)
	say(e.Target != o.Target, "links to %q, was %q", o.Target, e.Target)
	say(e.Mode != o.Mode, "permissions %04o, was %04o", o.Mode&^typeMask, e.Mode&^typeMask)
	say(e.UID != o.UID || e.GID != o.GID, "owner %d:%d, was %d:%d", o.UID, o.GID, e.UID, e.GID)
	say(e.Major != o.Major || e.Minor != o.Minor, "device %d:%d, was %d:%d", o.Major, o.Minor, e.Major, e.Minor)
	say(e.Links != o.Links && e.kind() == typeRegular, "%d names, was %d", o.Links, e.Links)
	return how
}

// maxProgram bounds what is kept of a file to find its version; a busybox of Go programs has 12 MB.
const maxProgram = 32 << 20

// versionsIn finds versions of modules and Go programs among the named.
func versionsIn(image Image, m *Manifest, named map[string]bool) (map[string]string, error) {
	left := m.unpack()
	at := left.contents()
	found := make(map[string]string)
	err := readAgain(image, m, func(i int, e Entry, content io.Reader) error {
		called, ok := at[i]
		if !ok || !named[called] || e.Size == 0 || e.Size > maxProgram {
			return nil
		}
		b := make([]byte, e.Size)
		if _, err := io.ReadFull(content, b); err != nil {
			return noEOF(err)
		}
		if v := versionOf(b); v != "" {
			found[called] = v
		}
		return nil
	})
	return found, err
}

// versionOf is what an ELF file, compressed or not, says of itself; what is none says nothing.
func versionOf(b []byte) string {
	packed := bufio.NewReader(bytes.NewReader(b))
	if c, ok := detect(packed); ok {
		z, err := c.decompressor(packed)
		if err != nil {
			return ""
		}
		defer z.Close()
		if b, err = io.ReadAll(io.LimitReader(z, maxProgram)); err != nil {
			return ""
		}
	}
	if !bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return ""
	}
	if info, err := buildinfo.Read(bytes.NewReader(b)); err == nil {
		words := []string{"built by " + info.GoVersion}
		if info.Main.Version != "" {
			words = append(words, info.Main.Path+" "+info.Main.Version)
		}
		return strings.Join(words, ", ")
	}
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return ""
	}
	section := f.Section(".modinfo")
	if section == nil || section.Type == elf.SHT_NOBITS || section.Flags&elf.SHF_COMPRESSED != 0 || section.Size > maxModinfo {
		return ""
	}
	text, err := section.Data()
	if err != nil {
		return ""
	}
	return moduleVersion(text)
}

// moduleVersion gives the first of what tells one build of a module from another (modinfo(8)).
func moduleVersion(modinfo []byte) string {
	said := make(map[string]string)
	for line := range bytes.SplitSeq(modinfo, []byte{0}) {
		if key, value, ok := strings.Cut(string(line), "="); ok {
			said[key] = value
		}
	}
	var words []string
	for _, key := range []string{"version", "srcversion", "vermagic"} {
		if said[key] != "" {
			value, _, _ := strings.Cut(said[key], " ")
			words = append(words, key+" "+value)
		}
	}
	return strings.Join(words, ", ")
}
