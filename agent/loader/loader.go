// Package loader finds what the boot loader of an installed system would start: kernel, initrds and command line, from
// Boot Loader Specification entries, grub.cfg or extlinux.conf. It is a package of its own because these files come with
// images of strangers and reading them needs neither a disk nor the agent: a file system goes in, a name of a kernel comes
// out.
//
// It is no loader: conditions are not evaluated and menus are not shown. What it is not sure of it does not find, and the
// machine goes through its firmware instead.
package loader

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// An Entry is one way to start the system. Paths are of the file system, without a slash in front.
type Entry struct {
	Kernel  string
	Initrds []string
	Cmdline string
	From    string // the file that says so
}

// Bounds of what is read.
const (
	maxConfig  = 1 << 20
	maxEntries = 256
	maxWords   = 4096 // of a line
	maxValue   = 4096 // bytes of a variable
)

// A dialect reads one kind of configuration out of a file system; ok is false when there is none.
type dialect func(files fs.FS) (entry Entry, ok bool, err error)

// dialects in the order in which they count: a grub.cfg of Fedora and its kin holds no kernels, the entries beside it do.
var dialects = []dialect{blsEntry, grubEntry, extlinuxEntry}

// Find reads the default entry of the system whose file system this is: its root, or what is mounted at /boot.
func Find(files fs.FS) (Entry, error) {
	var errs []error
	for _, d := range dialects {
		e, ok, err := d(files)
		if err == nil && ok {
			err = e.locate(files)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case ok:
			return e, nil
		}
	}
	if errs == nil {
		return Entry{}, fmt.Errorf("find the installed kernel: %w", fs.ErrNotExist)
	}
	return Entry{}, fmt.Errorf("find the installed kernel: %w", errors.Join(errs...))
}

// locate finds the files of an entry: paths are those of the file system that the loader reads them from, which is mounted
// at /boot or holds it.
func (e *Entry) locate(files fs.FS) error {
	find := func(name string) (string, error) {
		name = strings.TrimPrefix(path.Clean("/"+name), "/")
		for _, try := range []string{name, path.Join("boot", name), strings.TrimPrefix(name, "boot/")} {
			if st, err := fs.Stat(files, try); err == nil && st.Mode().IsRegular() {
				return try, nil
			}
		}
		return "", fmt.Errorf("%s names %q, which is not there", e.From, name)
	}
	var err error
	if e.Kernel, err = find(e.Kernel); err != nil {
		return err
	}
	for i := range e.Initrds {
		if e.Initrds[i], err = find(e.Initrds[i]); err != nil {
			return err
		}
	}
	return nil
}

// first is the first of the files that is there, and its text.
func first(files fs.FS, names ...string) (name, text string, err error) {
	for _, name := range names {
		text, err := readText(files, name)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return name, text, err
		}
	}
	return "", "", nil
}

func readText(files fs.FS, name string) (string, error) {
	f, err := files.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxConfig:
		return "", fmt.Errorf("read %s: more than %d bytes", name, maxConfig)
	}
	return string(b), nil
}

// grubEnv is what GRUB remembers between starts: lines NAME=VALUE in a file of 1024 bytes.
func grubEnv(files fs.FS) map[string]string {
	_, text, _ := first(files, "boot/grub2/grubenv", "grub2/grubenv", "boot/grub/grubenv", "grub/grubenv")
	env := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok && !strings.HasPrefix(line, "#") {
			env[name] = value
		}
	}
	return env
}

// blsEntry reads the newest of the entries of uapi-group.org's Boot Loader Specification, type 1, or the one that GRUB
// remembers as its default. Rescue entries are not meant.
func blsEntry(files fs.FS) (Entry, bool, error) {
	for _, dir := range []string{"loader/entries", "boot/loader/entries"} {
		names, err := fs.Glob(files, dir+"/*.conf")
		if err != nil || len(names) == 0 {
			continue
		}
		names = slices.DeleteFunc(names, func(n string) bool { return strings.Contains(path.Base(n), "-rescue") })
		slices.SortFunc(names, func(a, b string) int { return compareVersions(path.Base(b), path.Base(a)) })
		env := grubEnv(files)
		if i := slices.Index(names, dir+"/"+env["saved_entry"]+".conf"); i > 0 {
			names = append([]string{names[i]}, names...)
		}
		if len(names) > 0 {
			e, err := readBLS(files, names[0], env)
			return e, err == nil, err
		}
	}
	return Entry{}, false, nil
}

func readBLS(files fs.FS, name string, env map[string]string) (Entry, error) {
	text, err := readText(files, name)
	if err != nil {
		return Entry{}, err
	}
	e := Entry{From: name}
	var options []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "linux":
			e.Kernel = value
		case "initrd":
			for _, one := range strings.Fields(value) {
				if !strings.HasPrefix(one, "$") { // of GRUB, such as $tuned_initrd
					e.Initrds = append(e.Initrds, one)
				}
			}
		case "options":
			options = append(options, expand(value, env))
		}
	}
	if e.Kernel == "" || len(e.Initrds) > maxEntries {
		return Entry{}, fmt.Errorf("%s names no kernel, or %d initrds", name, len(e.Initrds))
	}
	e.Cmdline = strings.Join(strings.Fields(strings.Join(options, " ")), " ")
	return e, nil
}

// compareVersions orders names so that 6.1.0-9 comes before 6.1.0-10: numbers by value, all else by its bytes.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := leading(a), leading(b)
		a, b = a[len(x):], b[len(y):]
		if isDigit(x[0]) && isDigit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return len(x) - len(y)
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

// leading is the digits that s begins with, or what comes before the first digit.
func leading(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return isDigit(byte(r)) != isDigit(s[0]) }); i > 0 {
		return s[:i]
	}
	return s
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// extlinuxEntry reads the default label of extlinux or U-Boot.
func extlinuxEntry(files fs.FS) (Entry, bool, error) {
	name, text, err := first(files, "boot/extlinux/extlinux.conf", "extlinux/extlinux.conf", "boot/syslinux/syslinux.cfg", "syslinux/syslinux.cfg", "extlinux.conf")
	if err != nil || name == "" {
		return Entry{}, false, err
	}
	wanted, found := "", map[string]*Entry{}
	var label *Entry
	var order []*Entry
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		value = strings.TrimSpace(value)
		switch key = strings.ToLower(key); {
		case key == "default":
			wanted = value
		case key == "label" && len(order) < maxEntries:
			label = &Entry{From: name}
			found[value], order = label, append(order, label)
		case label == nil:
		case key == "linux", key == "kernel":
			label.Kernel = value
		case key == "initrd":
			label.Initrds = strings.Split(value, ",")
		case key == "append":
			label.Cmdline = value
		}
	}
	label = found[wanted]
	if label == nil && len(order) > 0 {
		label = order[0]
	}
	if label == nil || label.Kernel == "" {
		return Entry{}, false, fmt.Errorf("%s names no kernel", name)
	}
	label.appendedInitrd()
	return *label, true, nil
}

// appendedInitrd takes initrd= off a command line, where extlinux looks for it too.
func (e *Entry) appendedInitrd() {
	words := strings.Fields(e.Cmdline)
	e.Cmdline = strings.Join(slices.DeleteFunc(words, func(w string) bool {
		list, ok := strings.CutPrefix(w, "initrd=")
		if ok && e.Initrds == nil {
			e.Initrds = strings.Split(list, ",")
		}
		return ok
	}), " ")
}
