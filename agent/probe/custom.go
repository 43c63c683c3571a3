package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"strings"
	"syscall"

	"muster/agent/facts"
)

// customDir holds the facts of the operator, which a cpio overlay brings into the ramdisk.
const customDir = "/etc/muster/facts.d"

const (
	maxSources = 256      // files in customDir
	maxFactSet = 16 << 10 // bytes of one file, or of what one program prints
)

// custom reads the facts of customDir: programs, NAME.json, NAME.yaml (or .yml) and NAME.txt, each in the order of the
// names. Of two values for one name the first counts, programs before files; facts of the caller stand above both, OEM strings below (see
// takeOEMCustom). Names that begin with a dot are passed over. A source that fails leaves the section incomplete; a
// fact that is not taken costs itself alone.
func custom(ctx context.Context, m machine) (section, error) {
	names, err := m.list(customDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return func(*facts.Facts, *facts.State) {}, nil
	case err != nil:
		return nil, err
	}
	names, err = pickSources(names)
	sources, failed := each(ctx, m, names, func(name string) (source, error) { return m.source(ctx, name) })
	set := customSet{taken: maps.Clone(m.custom), own: map[string]string{}}
	for _, programs := range []bool{true, false} {
		for _, s := range sources {
			if s.program == programs {
				set.add(s)
			}
		}
	}
	lost := partial(errors.Join(append(failed, err)...))
	return func(f *facts.Facts, _ *facts.State) {
		if f.Custom == nil && len(set.own) > 0 {
			f.Custom = map[string]string{}
		}
		maps.Copy(f.Custom, set.own)
	}, errors.Join(lost, errors.Join(set.refused...))
}

// pickSources drops hidden files, and says so when there are too many others.
func pickSources(names []string) ([]string, error) {
	var picked []string
	for _, name := range names {
		if !strings.HasPrefix(name, ".") {
			picked = append(picked, name)
		}
	}
	if n := len(picked); n > maxSources {
		return picked[:maxSources], malformed{fmt.Errorf("%s: %d files; only the first %d are read", customDir, n, maxSources)}
	}
	return picked, nil
}

// A source is what one file or program of customDir said.
type source struct {
	name    string
	program bool
	facts   []customFact
	refused []error // facts that it tried to say
}

// A customFact is a name and a value; neither has been looked at.
type customFact struct{ name, value string }

// customForms are told by the ending of the file; what has none of these is run.
var customForms = map[string]func([]byte) (found []customFact, refused []error, err error){
	".json": parseCustomJSON,
	".yaml": parseCustomYAML,
	".yml":  parseCustomYAML,
	".txt":  parseCustomText,
}

// source reads one file by its ending, or runs it.
func (m machine) source(ctx context.Context, name string) (source, error) {
	file, err := m.openSource(path.Join(customDir, name))
	if err != nil {
		return source{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return source{}, unwrapPath(err)
	}
	s := source{name: name}
	parse := customForms[path.Ext(name)]
	switch {
	case !info.Mode().IsRegular():
		return source{}, malformed{errors.New("not a regular file")}
	case parse != nil:
	case info.Mode().Perm()&0o111 == 0:
		return source{}, malformed{errors.New("want NAME.json, NAME.yaml, NAME.txt or a program")}
	default:
		s.program, parse = true, parseCustom
	}
	b, err := m.sourceBytes(ctx, file, info.Mode(), s)
	if err != nil {
		return source{}, err
	}
	s.facts, s.refused, err = parse(b)
	return s, err
}

// sourceBytes are those of a file, or the output of the program that it is.
func (m machine) sourceBytes(ctx context.Context, file *os.File, mode fs.FileMode, s source) ([]byte, error) {
	if s.program {
		switch {
		case !m.live() && !m.programs:
			return nil, fmt.Errorf("a program of another root is not run: %w", fs.ErrPermission)
		case mode.Perm()&0o002 != 0:
			return nil, fmt.Errorf("everybody can write to it, so that it is not run: %w", fs.ErrPermission)
		}
		return m.runProgram(ctx, file)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFactSet+1))
	m.steps.Add(1)
	switch {
	case err != nil:
		return nil, unwrapPath(err)
	case len(b) > maxFactSet:
		return nil, errTooMuch
	}
	return b, nil
}

var errTooMuch = malformed{fmt.Errorf("more than %d KiB", maxFactSet>>10)}

// openSource opens without waiting: a FIFO without a writer would hold the reader for ever.
func (t tree) openSource(name string) (*os.File, error) {
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	var file *os.File
	var err error
	if t.root == nil {
		file, err = os.OpenFile(name, flags, 0)
	} else {
		file, err = t.root.OpenFile(inside(name), flags, 0)
	}
	return file, unwrapPath(err)
}

// A customSet gathers the facts of sources, the most important source first.
type customSet struct {
	taken   map[string]string // by the caller
	own     map[string]string
	refused []error
}

func (c *customSet) add(s source) {
	for _, err := range s.refused {
		c.refuse(s, err)
	}
	for _, f := range s.facts {
		old, taken := c.own[f.name]
		if v, above := c.taken[f.name]; above {
			old, taken = v, true
		}
		switch err := f.check(); {
		case err != nil:
			c.refuse(s, err)
		case taken && old == f.value:
		case taken:
			c.refuse(s, f.shadowed())
		case len(c.taken)+len(c.own) >= facts.MaxCustom:
			c.refuse(s, errTooMany)
			return
		default:
			c.own[f.name] = f.value
		}
	}
}

func (c *customSet) refuse(s source, err error) {
	c.refused = append(c.refused, fmt.Errorf("%s: %w", s.name, err))
}

// A customError says why a custom fact was not taken.
type customError struct {
	code string
	error
}

var errTooMany = &customError{"parse", fmt.Errorf("more than %d custom facts", facts.MaxCustom)}

func (f customFact) shadowed() *customError {
	return &customError{"shadowed", fmt.Errorf("custom fact %q has another value already", f.name)}
}

// check says why a fact cannot be sent: facts.Validate would refuse the whole document for it.
func (f customFact) check() error {
	switch {
	case !facts.IsCustomName(f.name):
		return &customError{"parse", fmt.Errorf("custom fact %.64q: bad name", f.name)}
	case f.value == "":
		return &customError{"parse", fmt.Errorf("custom fact %q: no value", f.name)}
	case len(f.value) > facts.MaxCustomValue:
		return &customError{"parse", fmt.Errorf("custom fact %q: value of %d bytes; want at most %d", f.name, len(f.value), facts.MaxCustomValue)}
	case strings.ContainsFunc(f.value, breaksLine):
		return &customError{"parse", fmt.Errorf("custom fact %q: control character", f.name)}
	}
	return nil
}

// takeOEMCustom makes custom facts of OEM strings "muster:NAME=VALUE". All other custom facts win over them.
func (r *Result) takeOEMCustom() {
	for _, s := range r.Facts.OEMStrings {
		name, value, ok := strings.Cut(strings.TrimPrefix(s, "muster:"), "=")
		if !ok || !strings.HasPrefix(s, "muster:") {
			continue
		}
		if err := r.addCustom(customFact{name, value}); err != nil {
			r.report("oem_strings", code(err), err.Error())
		}
	}
}

func (r *Result) addCustom(f customFact) error {
	old, taken := r.Facts.Custom[f.name]
	if err := f.check(); err != nil {
		return err
	}
	switch {
	case taken && old != f.value:
		return f.shadowed()
	case !taken && len(r.Facts.Custom) >= facts.MaxCustom:
		return errTooMany
	}
	if r.Facts.Custom == nil {
		r.Facts.Custom = map[string]string{}
	}
	r.Facts.Custom[f.name] = f.value
	return nil
}
