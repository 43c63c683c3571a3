package initramfs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// A Problem is what is wrong with a ramdisk, or may be.
type Problem struct {
	Error   bool   `json:"error"` // no ramdisk that can be worked with; else a warning
	Entry   string `json:"entry,omitempty"`
	Segment int    `json:"segment"`
	Offset  int64  `json:"offset"` // of the entry's header, in what the segment unpacks to
	Text    string `json:"text"`

	cause error
}

// String says it on a line.
func (p Problem) String() string {
	kind := "warning"
	if p.Error {
		kind = "error"
	}
	if p.Entry == "" {
		return kind + ": " + p.Text
	}
	return fmt.Sprintf("%s: %s: %s", kind, p.where(), p.Text)
}

func (p Problem) where() string {
	return fmt.Sprintf("segment %d, entry %q at byte %d", p.Segment, p.Entry, p.Offset)
}

// errClash is told of files of one inode that differ.
var errClash = errors.New("content differs from that of another link of the same file")

// maxProblems is how many errors, and how many warnings, are told; of the others, that there are more.
const maxProblems = 1000

// maxDep bounds a table of dependencies; Debian's of all modules is 0.6 MB.
const maxDep = 8 << 20

// Check reads a ramdisk and tells what is wrong with it: first what keeps it from being read, unpacked or changed, which
// are errors, then what a kernel takes, but hardly anybody means. The manifest is nil when it cannot be read to its end.
func Check(r io.Reader) (*Manifest, []Problem) {
	tables := make(map[int][]byte)
	m, err := read(r, false, func(i int, e Entry, content io.Reader) (err error) {
		if path.Base(e.Name) == "modules.dep" && e.Size <= maxDep {
			tables[i], err = io.ReadAll(content)
		}
		return err
	})
	if err != nil {
		return nil, []Problem{{Error: true, Text: err.Error(), cause: err}}
	}
	left := m.unpack()
	problems := append(left.problems(), left.absences(tables)...)
	slices.SortStableFunc(problems, func(a, b Problem) int {
		switch {
		case a.Error == b.Error:
			return 0
		case a.Error:
			return -1
		}
		return 1
	})
	return m, problems
}

// problem makes one of entry i; with a cause it is an error.
func (fs *rootfs) problem(i int, cause error, text string) Problem {
	e := &fs.entries[i]
	p := Problem{Entry: e.Name, Offset: e.Offset, Text: text}
	p.Segment, _ = fs.m.segmentOf(e.Archive)
	if cause != nil {
		p.Error, p.cause = true, fmt.Errorf("%w: %s", cause, text)
		p.Text = p.cause.Error()
	}
	return p
}

// problems are those of single entries, in their order.
func (fs *rootfs) problems() []Problem {
	var found []Problem
	told := make(map[bool]int)
	tell := func(i int, cause error, text func() string) {
		if told[cause != nil]++; told[cause != nil] <= maxProblems {
			found = append(found, fs.problem(i, cause, text()))
		}
	}
	for i := range fs.entries {
		if how := fs.strays[i]; how != "" {
			tell(i, errEscape, func() string { return "it " + how })
		}
		if other, ok := fs.clash[i]; ok {
			tell(i, errClash, func() string { return fmt.Sprintf("%q at byte %d", fs.entries[other].Name, fs.entries[other].Offset) })
		}
		switch {
		case fs.lost[i] != "":
			tell(i, nil, func() string { return "a kernel makes nothing of it: " + fs.lost[i] })
		case !fs.lives(i) && fs.entries[i].kind() != typeDir:
			tell(i, nil, func() string { return fs.successor(i) })
		}
	}
	for _, isError := range []bool{true, false} {
		if more := told[isError] - maxProblems; more > 0 {
			found = append(found, Problem{Error: isError, Text: fmt.Sprintf("and %d more", more), cause: errors.New("more")})
		}
	}
	return found
}

// successor says what took the place of entry i.
func (fs *rootfs) successor(i int) string {
	p := fs.places[i]
	n := p.dir.names[p.base]
	if n == nil || n.by < 0 {
		return "nothing is left of it"
	}
	e := &fs.entries[n.by]
	segment, _ := fs.m.segmentOf(e.Archive)
	what := "a later entry"
	if e.kind() == typeDir && fs.entries[i].kind() == typeLink {
		what = "a directory" // and what the link led to is not in it
	}
	return fmt.Sprintf("%s takes its place: segment %d, entry %q at byte %d", what, segment, e.Name, e.Offset)
}

// absences are what a kernel or an init will look for in vain.
func (fs *rootfs) absences(tables map[int][]byte) []Problem {
	var found []Problem
	switch init := fs.follow("init"); {
	case init == nil:
		found = append(found, Problem{Text: `there is no "init": a kernel looks for a root file system instead`})
	case init.kind != typeRegular || fs.entries[init.meta].Mode&0o111 == 0:
		found = append(found, Problem{Text: `"init" is not a program`})
	}
	for _, i := range slices.Sorted(maps.Keys(tables)) {
		if fs.lives(i) {
			found = append(found, fs.missingModules(i, tables[i])...)
		}
	}
	return found
}

// missingModules reads a modules.dep: "module: what it needs ..." with names relative to the table's directory.
func (fs *rootfs) missingModules(table int, text []byte) []Problem {
	var found []Problem
	beside := func(name string) string {
		if path.IsAbs(name) {
			return name
		}
		return path.Join(path.Dir(fs.entries[table].Name), name)
	}
	for line := range strings.Lines(string(text)) {
		module, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
		if module == "" || fs.follow(beside(module)) == nil {
			continue // a table may be of more modules than are packed
		}
		for need := range strings.FieldsSeq(needs) {
			if fs.follow(beside(need)) == nil {
				found = append(found, fs.problem(table, nil, fmt.Sprintf("%s needs %s, which is not packed", module, need)))
			}
		}
	}
	return found
}

// follow finds what a name leads to, through symbolic links; nil is nothing.
func (fs *rootfs) follow(of string) *inode {
	for range maxFollow {
		p, why := fs.find(-1, of)
		if why != "" {
			return nil
		}
		n := p.inode()
		if n == nil || n.kind != typeLink {
			return n
		}
		target := fs.entries[n.node].Target
		of = target
		if !path.IsAbs(target) {
			of = p.dir.String() + "/" + target
		}
	}
	return nil
}
