package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Bounds of the module tables; a whole Debian kernel has 4,023 modules and 26,220 aliases.
const (
	maxModules   = 50_000
	maxAliases   = 500_000
	maxTableLine = 64 << 10 // bytes
)

// buses are the kinds of alias that coldplug follows. "dmi:" and "cpu:" are left out: a machine's vendor string would
// pull in drivers that nothing here needs.
var buses = []string{"pci", "usb", "virtio", "scsi", "acpi", "vmbus", "xen", "of", "mmc", "mdio", "platform"}

// Modules are the kernel modules of the ramdisk and which of them are loaded. depmod's tables say what depends on
// what and which device wants which module; nothing else of modprobe is needed.
type Modules struct {
	dir     string                // lib/modules/RELEASE
	files   map[string]moduleFile // by canonical name
	aliases map[string][]alias    // by the letters that the pattern starts with
	pre     map[string][]string   // softdep pre: names or aliases, by canonical name
	first   []string              // modules.first: what makes loading the others faster
	always  []string              // modules.load
	blocked map[string]bool       // canonical names
	insert  inserter

	mu    sync.Mutex
	begun map[string]*loading // by canonical name
	slots chan struct{}       // for insertions that are work
}

// moduleFile is one line of modules.dep.
type moduleFile struct {
	path string   // relative to dir
	deps []string // canonical names
}

// alias is one line of modules.alias.
type alias struct {
	literal string // what the pattern begins with
	pattern string
	module  string // canonical name
}

// loading is one insertion, over when done is closed.
type loading struct {
	done  chan struct{}
	err   error
	fresh bool // this agent loaded it
}

// An inserter loads one file, whose dependencies are there, with parameters.
type inserter func(path, params string) error

// OpenModules reads the tables of root/lib/modules/release. A ramdisk without modules is an empty set, no error.
func OpenModules(root, release string, blacklist []string, insert inserter) (*Modules, error) {
	m := &Modules{
		dir:     filepath.Join(root, "lib/modules", release),
		aliases: map[string][]alias{},
		files:   map[string]moduleFile{},
		pre:     map[string][]string{},
		blocked: map[string]bool{},
		insert:  insert,
		begun:   map[string]*loading{},
		slots:   make(chan struct{}, runtime.NumCPU()),
	}
	for _, name := range blacklist {
		m.blocked[moduleName(name)] = true
	}
	tables := []struct {
		name  string
		parse func(io.Reader) error
	}{
		{"modules.dep", m.parseDep},
		{"modules.alias", m.parseAlias},
		{"modules.softdep", m.parseSoftdep},
		{"modules.first", listInto(&m.first)},
		{"modules.load", listInto(&m.always)},
	}
	for _, t := range tables {
		f, err := os.Open(filepath.Join(m.dir, t.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = t.parse(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Join(m.dir, t.name), err)
		}
	}
	return m, nil
}

// moduleName is the canonical name of a module or its file: no directory, no suffix, "_" for "-", as the kernel and
// modprobe compare them.
func moduleName(s string) string {
	s = filepath.Base(s)
	for _, suffix := range []string{".gz", ".xz", ".zst"} {
		s = strings.TrimSuffix(s, suffix)
	}
	return strings.ReplaceAll(strings.TrimSuffix(s, ".ko"), "-", "_")
}

// eachLine gives the lines of a table without comments and blank ones.
func eachLine(r io.Reader, f func(line string) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxTableLine)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			return err
		}
	}
	return sc.Err()
}

// parseDep reads "path.ko: dep.ko dep.ko". A path may not leave the directory of the tables.
func (m *Modules) parseDep(r io.Reader) error {
	return eachLine(r, func(line string) error {
		path, rest, ok := strings.Cut(line, ":")
		if !ok || !filepath.IsLocal(path) {
			return fmt.Errorf("%q is not \"path: dependencies\"", line)
		}
		if len(m.files) >= maxModules {
			return fmt.Errorf("more than %d modules", maxModules)
		}
		f := moduleFile{path: path}
		for _, dep := range strings.Fields(rest) {
			f.deps = append(f.deps, moduleName(dep))
		}
		m.files[moduleName(path)] = f
		return nil
	})
}

// parseAlias reads "alias PATTERN name".
func (m *Modules) parseAlias(r io.Reader) error {
	n := 0
	return eachLine(r, func(line string) error {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "alias" {
			return fmt.Errorf("%q is not \"alias pattern module\"", line)
		}
		if n++; n > maxAliases {
			return fmt.Errorf("more than %d aliases", maxAliases)
		}
		bus := letters(f[1])
		m.aliases[bus] = append(m.aliases[bus], alias{literal: literal(f[1]), pattern: f[1], module: moduleName(f[2])})
		return nil
	})
}

// parseSoftdep reads "softdep NAME pre: a b post: c"; what comes after the module is not loaded for it.
func (m *Modules) parseSoftdep(r io.Reader) error {
	return eachLine(r, func(line string) error {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			return fmt.Errorf("%q is not \"softdep module pre: modules\"", line)
		}
		name, before := moduleName(f[1]), false
		for _, w := range f[2:] {
			switch {
			case strings.HasSuffix(w, ":"):
				before = w == "pre:"
			case before:
				m.pre[name] = append(m.pre[name], w)
			}
		}
		return nil
	})
}

// listInto reads names of modules that no device asks for, one in a line.
func listInto(names *[]string) func(io.Reader) error {
	return func(r io.Reader) error {
		return eachLine(r, func(line string) error {
			*names = append(*names, line)
			return nil
		})
	}
}

// letters is the part of a pattern or modalias before anything that is not a lower case letter, digit or "_"; both
// start with the same letters when they match.
func letters(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return s[:i]
		}
	}
	return s
}

// literal is the part of a pattern before anything that stands for something else. Few patterns of a bus share it with a
// device, and comparing it takes a fifth of the time of globs.
func literal(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		return pattern[:i]
	}
	return pattern
}

// Match gives the modules that a device with this modalias wants, in the order of the table.
func (m *Modules) Match(modalias string) []string {
	bus := letters(modalias)
	if !slices.Contains(buses, bus) || len(modalias) > 4096 {
		return nil
	}
	return m.resolve(bus, modalias)
}

func (m *Modules) resolve(bus, name string) []string {
	var found []string
	for _, a := range m.aliases[bus] {
		if strings.HasPrefix(name, a.literal) && !slices.Contains(found, a.module) && globs(a.pattern, name) {
			found = append(found, a.module)
		}
	}
	return found
}

// Load loads a module by name or alias with what it depends on, and waits for it. A name that is no module of this
// ramdisk is an error; it may still be part of the kernel.
func (m *Modules) Load(ctx context.Context, name string) error {
	names := []string{moduleName(name)}
	if _, ok := m.files[names[0]]; !ok {
		if names = m.resolve(letters(name), name); len(names) == 0 {
			return fmt.Errorf("this ramdisk has no module %q", name)
		}
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, m.load(ctx, n))
	}
	return errors.Join(errs...)
}

// asyncProbe is the parameter of modules whose insertion is to end without waiting for devices. The kernel ends no other
// before all devices are looked at for which that was begun anywhere (do_init_module calls async_synchronize_full): half a
// second for the ports of a disk controller, many for those of some HBAs. What is only needed by another module must not
// hold it up; that other one's insertion waits for the devices of both.
const asyncProbe = "async_probe"

// load loads one module after those that it needs.
func (m *Modules) load(ctx context.Context, name string) error {
	if m.blocked[name] || m.files[name].path == "" { // or a part of the kernel
		return nil
	}
	err := m.loadNeeds(ctx, name)
	if err == nil {
		err = m.loadFile(ctx, name, "")
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", name, err)
	}
	return nil
}

// loadNeeds loads what a module needs.
func (m *Modules) loadNeeds(ctx context.Context, name string) error {
	if m.blocked[name] || m.files[name].path == "" {
		return nil
	}
	order := m.order(name)
	for _, need := range order[:len(order)-1] { // it ends with name
		if err := m.loadFile(ctx, need, asyncProbe); err != nil {
			return err
		}
	}
	return nil
}

// order lists a module after everything that it needs. A circle in the tables ends where it closes.
func (m *Modules) order(name string) []string {
	var order []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(n string) {
		if seen[n] {
			return
		}
		seen[n] = true
		f, ok := m.files[n]
		if !ok {
			return // part of the kernel
		}
		for _, soft := range m.pre[n] {
			if s := moduleName(soft); m.files[s].path != "" {
				visit(s)
				continue
			}
			for _, s := range m.resolve(letters(soft), soft) {
				visit(s)
			}
		}
		for _, dep := range slices.Backward(f.deps) { // depmod puts what is needed first at the end
			visit(dep)
		}
		order = append(order, n)
	}
	visit(name)
	return order
}

// loadFile inserts one file once, however many ask for it at a time.
func (m *Modules) loadFile(ctx context.Context, name, params string) error {
	m.mu.Lock()
	l, ok := m.begun[name]
	if !ok {
		l = &loading{done: make(chan struct{})}
		m.begun[name] = l
	}
	m.mu.Unlock()
	if !ok {
		l.err = m.insertFile(filepath.Join(m.dir, m.files[name].path), params)
		l.fresh = l.err == nil
		if errors.Is(l.err, syscall.EEXIST) {
			l.err = nil
		}
		close(l.done)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return l.err
	}
}

// insertFile inserts a file; as many at a time as there are processors, of those that do not wait for devices.
func (m *Modules) insertFile(path, params string) error {
	if params == asyncProbe {
		m.slots <- struct{}{}
		defer func() { <-m.slots }()
	}
	return m.insert(path, params)
}

// Loaded lists the modules that were loaded here.
func (m *Modules) Loaded() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name, l := range m.begun {
		select {
		case <-l.done:
			if l.fresh {
				names = append(names, name)
			}
		default:
		}
	}
	slices.Sort(names)
	return names
}

// globs matches a shell pattern: "*", "?", "[set]", "[!set]", and "\" before a literal. Case counts. Only the last
// star is gone back to, so that a pattern costs at most its length times that of the name.
func globs(pattern, name string) bool {
	p, n := 0, 0
	star, mark := -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, n
			p++
			continue
		}
		if width, ok := matchOne(pattern[p:], name[n]); ok {
			p += width
			n++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, n = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchOne matches one byte against the start of a pattern and gives how much of the pattern that took.
func matchOne(pattern string, c byte) (width int, ok bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '[':
		if end := strings.IndexByte(pattern[1:], ']'); end > 0 {
			return end + 2, inSet(pattern[1:end+1], c)
		}
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	}
	return 1, pattern[0] == c
}

// inSet says whether c is in the inside of [a-z0] or [!a-z0].
func inSet(set string, c byte) bool {
	negated := set[0] == '!' || set[0] == '^'
	if negated {
		set = set[1:]
	}
	in := false
	for i := 0; i < len(set); i++ {
		if i+2 < len(set) && set[i+1] == '-' {
			in = in || set[i] <= c && c <= set[i+2]
			i += 2
			continue
		}
		in = in || set[i] == c
	}
	return in != negated
}
