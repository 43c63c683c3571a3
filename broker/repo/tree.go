package repo

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// A Tree is an install tree by its manifest, ready for questions about paths.
type Tree struct {
	Sum      string // of the manifest
	manifest *Manifest
	folded   map[string]string // a path in lower case to the path, of files, links and directories; nil: case counts
}

func newTree(sum string, m *Manifest) *Tree {
	t := &Tree{Sum: sum, manifest: m}
	if !m.Fold {
		return t
	}
	t.folded = map[string]string{}
	for _, e := range m.Entries {
		for p := e.Path; p != "."; p = path.Dir(p) {
			if low := strings.ToLower(p); t.folded[low] == "" {
				t.folded[low] = p
			}
		}
	}
	return t
}

// Files are the sums of the tree's files with their sizes.
func (t *Tree) Files() map[string]int64 {
	files := map[string]int64{}
	for _, e := range t.manifest.Entries {
		if e.Link == "" {
			files[e.SHA256] = e.Size
		}
	}
	return files
}

// Len is how many files and links there are.
func (t *Tree) Len() int { return len(t.manifest.Entries) }

// maxLinks is how many symbolic links one path may go through, as Linux has it (path_resolution(7)).
const maxLinks = 40

// Lookup finds the file or directory that a path leads to, through links and, where the tree needs it, whatever the
// case of its letters. A directory has an entry without a sum. What is not there is fs.ErrNotExist.
func (t *Tree) Lookup(name string) (TreeEntry, error) {
	e, err := t.walk(name)
	if err != nil {
		return e, fmt.Errorf("%q: %w", name, err)
	}
	return e, nil
}

func (t *Tree) walk(name string) (TreeEntry, error) {
	todo, at, links := strings.Split(name, "/"), "", 0
	for len(todo) > 0 {
		word := todo[0]
		todo = todo[1:]
		switch word {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return TreeEntry{}, fs.ErrNotExist
			}
			at = strings.TrimPrefix(path.Dir("/"+at), "/")
			continue
		}
		e, ok := t.entry(path.Join(at, word))
		switch {
		case !ok, e.SHA256 != "" && len(todo) > 0:
			return TreeEntry{}, fs.ErrNotExist
		case e.SHA256 != "":
			return e, nil
		case e.Link == "":
			at = e.Path
			continue
		}
		if links++; links > maxLinks {
			return TreeEntry{}, fmt.Errorf("more than %d links: %w", maxLinks, fs.ErrNotExist)
		}
		todo = append(strings.Split(e.Link, "/"), todo...)
	}
	return TreeEntry{Path: at}, nil
}

// entry is what stands under a path, a directory without sum and link.
func (t *Tree) entry(p string) (TreeEntry, bool) {
	if e, ok := t.exactly(p); ok || t.folded == nil {
		return e, ok
	}
	return t.exactly(t.folded[strings.ToLower(p)])
}

func (t *Tree) exactly(p string) (TreeEntry, bool) {
	if p == "" {
		return TreeEntry{}, false
	}
	if i, ok := t.manifest.find(p); ok {
		return t.manifest.Entries[i], true
	}
	i, _ := t.manifest.find(p + "/")
	if i < len(t.manifest.Entries) && strings.HasPrefix(t.manifest.Entries[i].Path, p+"/") {
		return TreeEntry{Path: p}, true
	}
	return TreeEntry{}, false
}

// List gives what lies in a directory that Lookup found: files and links as they are, directories once.
func (t *Tree) List(dir string) []TreeEntry {
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	i, _ := t.manifest.find(prefix)
	var list []TreeEntry
	for _, e := range t.manifest.Entries[i:] {
		rest, ok := strings.CutPrefix(e.Path, prefix)
		if !ok {
			break
		}
		first, _, deeper := strings.Cut(rest, "/")
		switch {
		case !deeper:
			list = append(list, e)
		case len(list) == 0 || list[len(list)-1].Path != prefix+first:
			list = append(list, TreeEntry{Path: prefix + first})
		}
	}
	// a-b stands between a and a/b, so that a directory can come up again
	return slices.CompactFunc(sorted(list), func(a, z TreeEntry) bool { return a.Path == z.Path })
}

func sorted(list []TreeEntry) []TreeEntry {
	slices.SortStableFunc(list, func(a, z TreeEntry) int { return strings.Compare(a.Path, z.Path) })
	return list
}
