package broker

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"muster/agent/packing"
	"muster/boot"
	"muster/broker/repo"
	"muster/broker/task"
)

// Repo is what is installed onto machines, one of three: a disk image, whose bytes lie in the content store under
// SHA256; an install tree, whose manifest lies there under Tree; a mirror, which stays where it is.
type Repo struct {
	Kind string `json:"kind"`
	Name string `json:"name"`

	SHA256      string `json:"sha256,omitempty"`       // of the image as served
	SizeBytes   int64  `json:"size_bytes,omitempty"`   // of the image as served, or of all files of the tree
	RawBytes    int64  `json:"raw_bytes,omitempty"`    // of the image once unpacked
	Compression string `json:"compression,omitempty"`  // of the image: zstd, gzip, xz, none
	Chunks      string `json:"chunks,omitempty"`       // sha256 of the list of the unpacked image's chunks, which lies in the same store
	ChunksBytes int64  `json:"chunks_bytes,omitempty"` // of that list

	Tree  string `json:"tree,omitempty"`  // sha256 of its manifest
	Files int    `json:"files,omitempty"` // different ones of the tree
	ISO   string `json:"iso,omitempty"`   // sha256 of the disc image that the tree was read from

	URL string `json:"url,omitempty"` // of the mirror, whose paths are those below it

	OS       string   `json:"os,omitempty"` // debian, rocky, windows
	Version  string   `json:"version,omitempty"`
	Arch     string   `json:"arch,omitempty"`     // as Go says it: amd64, arm64
	Kernel   string   `json:"kernel,omitempty"`   // path in the tree or mirror
	Initrds  []string `json:"initrds,omitempty"`  // paths, in the order in memory
	Editions []string `json:"editions,omitempty"` // of Windows, with their numbers
	Task     string   `json:"task,omitempty"`     // that installs it

	// Installs is the most machines that install from it at once; the others wait for their turn. 0: no limit.
	Installs int `json:"installs,omitempty"`
}

// maxRepoInitrds bounds what one boot loads: ESXi has some 150 modules.
const maxRepoInitrds = 512

// repoForms are what a repo may be, each with how it is checked.
var repoForms = []struct {
	field string
	said  func(*Repo) bool
	check func(*Repo) error
}{
	{"sha256", func(r *Repo) bool { return r.SHA256 != "" }, (*Repo).checkImage},
	{"tree", func(r *Repo) bool { return r.Tree != "" }, (*Repo).checkTree},
	{"url", func(r *Repo) bool { return r.URL != "" }, (*Repo).checkMirror},
}

func (r *Repo) check() error {
	var is []string
	for _, f := range repoForms {
		if f.said(r) {
			is = append(is, f.field)
			if err := f.check(r); err != nil {
				return err
			}
		}
	}
	if len(is) != 1 {
		return invalid("it has %d of sha256, tree and url (%s): want one, for a disk image, an install tree or a mirror; muster repo import fills it in", len(is), strings.Join(is, ", "))
	}
	return r.checkBoot()
}

func (r *Repo) checkImage() error {
	switch {
	case !sha256Form.MatchString(r.SHA256):
		return invalid("sha256 %q: want 64 lower-case hexadecimal digits; muster repo import fills it in", r.SHA256)
	case !packing.Known(r.Compression):
		return invalid("compression %q: want one of %s", r.Compression, packing.Names())
	case r.Chunks != "" && (!sha256Form.MatchString(r.Chunks) || r.ChunksBytes <= 0):
		return invalid("chunks %q: want the sha256 of a list and its chunks_bytes; muster repo import fills both in", r.Chunks)
	case r.SizeBytes <= 0 || r.RawBytes <= 0:
		return invalid("size_bytes and raw_bytes must be given")
	}
	return nil
}

func (r *Repo) checkTree() error {
	if !sha256Form.MatchString(r.Tree) || r.ISO != "" && !sha256Form.MatchString(r.ISO) {
		return invalid("tree and iso: want 64 lower-case hexadecimal digits; muster repo import fills them in")
	}
	return nil
}

func (r *Repo) checkMirror() error {
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "":
		return invalid("url %q: want http://HOST/PATH or https://HOST/PATH", r.URL)
	case u.User != nil:
		return invalid("url: a user and password in it would be shown to readers and to every machine")
	case r.Kernel == "" && (r.OS == "" || r.Version == "" || r.Arch == ""):
		return invalid("a mirror does not say what it is of: os, version and arch must be given, or kernel and initrds")
	}
	return nil
}

// checkBoot checks what machines are told of a tree or mirror.
func (r *Repo) checkBoot() error {
	if len(r.Initrds) > maxRepoInitrds || r.Installs < 0 {
		return invalid("%d initrds, at most %d installs at once: want at most %d, and no negative number", len(r.Initrds), r.Installs, maxRepoInitrds)
	}
	for _, p := range r.bootFiles() {
		if !bootPath.MatchString(p) {
			return invalid("path %q: want letters, digits and ._/- only, without a slash at its ends", p)
		}
	}
	for _, word := range []string{r.OS, r.Version, r.Arch, r.Task} {
		if word != boot.Printable(word) || strings.ContainsAny(word, " /") {
			return invalid("%q: os, version, arch and task are single words", word)
		}
	}
	return nil
}

// bootPath is what every boot loader can be told.
var bootPath = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// kindOf is what a task would call it.
func (r *Repo) kindOf() task.RepoKind {
	if r.Tree != "" || r.URL != "" {
		return task.RepoTree
	}
	return task.RepoImage
}

// bootPaths are the kernel and the initrds: those that were said, or where such a mirror has them.
func (r *Repo) bootPaths() (kernel string, initrds []string) {
	if r.URL != "" && r.Kernel == "" && len(r.Initrds) == 0 {
		return repo.MirrorBoot(r.OS, r.Version, r.Arch)
	}
	return r.Kernel, r.Initrds
}

func (r *Repo) bootFiles() []string {
	kernel, initrds := r.bootPaths()
	if kernel == "" {
		return initrds
	}
	return append([]string{kernel}, initrds...)
}

// Boots says whether a path is of a file that loaders ask for: of a mirror, only those are fetched by the broker.
func (r *Repo) Boots(p string) bool { return slices.Contains(r.bootFiles(), p) }

// Boot gives the kernel and the initrds as boot steps and the TFTP server name them, empty where the repo has none.
func (r *Repo) Boot() (kernel string, initrds []string) {
	at, all := r.bootPaths()
	for _, p := range all {
		initrds = append(initrds, r.path(p))
	}
	if at != "" {
		kernel = r.path(at)
	}
	return kernel, initrds
}

func (r *Repo) path(p string) string { return "repo/" + r.Name + "/" + p }

// Repo gives the repo of that name.
func (b *Broker) Repo(name string) (Repo, bool) {
	r, ok := b.cat.Load().repos[name]
	return r, ok
}

// StoredTrees are the sums of all trees that repos name.
func (b *Broker) StoredTrees() map[string]bool {
	sums := map[string]bool{}
	for _, r := range b.cat.Load().repos {
		if r.Tree != "" {
			sums[r.Tree] = true
		}
	}
	return sums
}

// holdTree makes sure that all of a tree is stored before a repo names it: what machines install is switched at once
// from the old tree to the new, or not at all.
func (b *Broker) holdTree(o Object) error {
	r, err := decode[Repo](o)
	if err != nil || r.Tree == "" || b.cfg.HeldTree == nil {
		return err
	}
	if err := b.cfg.HeldTree(r.Tree, r.bootFiles()); err != nil {
		return invalid("repo %s: %s", r.Name, err)
	}
	return nil
}
