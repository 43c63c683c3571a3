package initramfs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// A moduleSet is the modules that are packed, with all they need.
type moduleSet struct {
	kernel   *kernel
	needs    map[string][]string // packed module to those it needs directly, all of them packed
	first    []string            // to be loaded before all others
	wanted   map[string]bool     // asked for by name, profile or post softdep; not file systems, which who mounts loads
	absent   []string            // of a profile, not in this kernel
	firmware []string
}

// addModules adds the modules of c.Kernel that c.Modules asks for, and their tables.
func addModules(ctx context.Context, c Config, s *spool, t tree) (*moduleSet, error) {
	c.Progress("read the kernel's modules")
	k, err := readKernel(ctx, c.Kernel, s)
	if err == nil {
		err = k.fits(c.Arch, c.Compress)
	}
	if err != nil {
		return nil, err
	}
	set, err := k.closure(c.Modules)
	if err != nil {
		return nil, err
	}
	c.Progress(fmt.Sprintf("pack %d of the %d modules of %s", len(set.needs), len(k.modules), k.release))
	dir := path.Join("lib/modules", k.release)
	for _, name := range set.names() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m := k.modules[name]
		file, err := s.compress(m.offset, m.size)
		if err != nil {
			return nil, fmt.Errorf("compress %s: %w", m.file, err)
		}
		if err := t.add(path.Join(dir, m.file), file); err != nil {
			return nil, err
		}
	}
	for _, table := range moduleTables {
		if err := t.addBytes(path.Join(dir, table.name), table.text(set)); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// closure finds what is to be packed for the given names and profiles. An unknown name is an error; a module of a
// profile that this kernel lacks is noted, because profiles are the same for all kernels.
func (k *kernel) closure(words []string) (*moduleSet, error) {
	s := &moduleSet{kernel: k, needs: make(map[string][]string), wanted: make(map[string]bool)}
	for _, word := range words {
		if word == everything {
			if err := s.packAll(); err != nil {
				return nil, err
			}
			continue
		}
		members, isProfile := profile(word)
		if !isProfile {
			members = []string{word}
		}
		for _, name := range members {
			if err := s.want(moduleName(name), isProfile); err != nil {
				return nil, err
			}
		}
	}
	if err := s.packDigests(); err != nil {
		return nil, err
	}
	s.collectFirmware()
	slices.Sort(s.absent)
	s.absent = slices.Compact(s.absent)
	return s, nil
}

// want packs one module that was asked for.
func (s *moduleSet) want(name string, mayLack bool) error {
	switch {
	case s.kernel.builtin[name]:
		return nil
	case s.kernel.modules[name] == nil && mayLack:
		s.absent = append(s.absent, name)
		return nil
	case s.kernel.modules[name] == nil:
		return s.kernel.unknown(name)
	}
	if !slices.Contains(profiles["fs"], name) {
		s.wanted[name] = true
	}
	return s.pack(name)
}

// packAll packs every module. Only those of the profile full count as asked for: loaded are those that hardware announces.
func (s *moduleSet) packAll() error {
	usual, _ := profile("full")
	for _, name := range usual {
		if err := s.want(moduleName(name), true); err != nil {
			return err
		}
	}
	asked := maps.Clone(s.wanted)
	for _, name := range slices.Sorted(maps.Keys(s.kernel.modules)) {
		if err := s.pack(name); err != nil {
			return err
		}
	}
	s.wanted = asked
	return nil
}

// pack adds a module and, first, all it needs. A need that is part of the kernel image is met already.
func (s *moduleSet) pack(name string) error {
	if _, done := s.needs[name]; done {
		return nil
	}
	m := s.kernel.modules[name]
	s.needs[name] = nil
	var needs []string
	for _, need := range m.depends {
		if s.kernel.builtin[need] {
			continue
		}
		if s.kernel.modules[need] == nil {
			return fmt.Errorf("module %q needs %q, which the package does not hold", name, need)
		}
		needs = append(needs, need)
	}
	for _, soft := range append(slices.Clone(m.pre), companions[name]...) {
		if need, ok := s.kernel.provider(soft); ok && need != name && !slices.Contains(needs, need) {
			needs = append(needs, need)
		}
	}
	for _, need := range needs {
		if err := s.pack(need); err != nil {
			return err
		}
	}
	s.needs[name] = slices.DeleteFunc(needs, func(need string) bool { return s.reaches(need, name) })
	return s.packAfter(m)
}

// packDigests packs what sums modules for their signatures faster than the code that every processor has. Beside libata
// alone, 0.8 MB in Debian 6.1, its 46 kB are soon made up for; a processor that it is not for refuses it.
func (s *moduleSet) packDigests() error {
	if len(s.needs) == 0 || s.kernel.digest == "" {
		return nil
	}
	for _, name := range s.kernel.named[moduleName("crypto-"+s.kernel.digest)] {
		if strings.HasSuffix(name, "_generic") {
			continue
		}
		if err := s.pack(name); err != nil {
			return err
		}
		s.first = append(s.first, name)
	}
	return nil
}

// packAfter packs post softdeps. Nothing else would load them, so they count as asked for.
func (s *moduleSet) packAfter(m *module) error {
	for _, soft := range m.post {
		if name, ok := s.kernel.provider(soft); ok {
			s.wanted[name] = true
			if err := s.pack(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// reaches tells whether from needs to, over any number of steps. A soft need that leads back to its module is dropped:
// the order of loading would have no start.
func (s *moduleSet) reaches(from, to string) bool {
	return slices.Contains(s.loadOrder(from), to)
}

// provider finds the module behind a softdep, which names a module or an alias of several ("crypto-crc32c" is any
// implementation of it). Of several the generic one is taken: it loads on every processor.
func (k *kernel) provider(soft string) (string, bool) {
	if k.modules[soft] != nil {
		return soft, true
	}
	names := k.named[soft]
	if len(names) == 0 || k.builtin[soft] || k.inside[soft] {
		return "", false
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_generic") {
			return name, true
		}
	}
	return names[0], true
}

// loadOrder lists all that name needs, in an order in which it can be loaded; name itself is not in it.
func (s *moduleSet) loadOrder(name string) []string {
	var order []string
	seen := map[string]bool{name: true}
	var visit func(string)
	visit = func(n string) {
		for _, need := range s.needs[n] {
			if !seen[need] {
				seen[need] = true
				visit(need)
				order = append(order, need)
			}
		}
	}
	visit(name)
	return order
}

// names are the packed modules, sorted.
func (s *moduleSet) names() []string { return slices.Sorted(maps.Keys(s.needs)) }

// collectFirmware lists the files that packed modules may ask for.
func (s *moduleSet) collectFirmware() {
	for name := range s.needs {
		s.firmware = append(s.firmware, s.kernel.modules[name].firmware...)
	}
	slices.Sort(s.firmware)
	s.firmware = slices.Compact(s.firmware)
}

// unknown is the error for a module that nobody knows, with the names that come nearest.
func (k *kernel) unknown(name string) error {
	type guess struct {
		name     string
		distance int
	}
	var guesses []guess
	for _, known := range slices.Concat(slices.Collect(maps.Keys(k.modules)), Profiles()) {
		d := distance(name, known)
		if strings.Contains(known, name) {
			d = 0
		}
		if d <= 3 {
			guesses = append(guesses, guess{known, d})
		}
	}
	slices.SortFunc(guesses, func(a, b guess) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	if len(guesses) == 0 {
		return fmt.Errorf("kernel %s has no module %q", k.release, name)
	}
	var near []string
	for _, g := range guesses[:min(5, len(guesses))] {
		near = append(near, g.name)
	}
	return fmt.Errorf("kernel %s has no module %q; nearest are %s", k.release, name, strings.Join(near, ", "))
}

// distance counts the letters to change, add or drop between a and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
