package task

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"muster/broker/render"
)

//go:embed all:shipped
var shipped embed.FS

// Shipped reads the tasks that come with muster, by name.
func Shipped() (map[string]*Task, error) {
	sub, err := fs.Sub(shipped, "shipped")
	if err != nil {
		return nil, fmt.Errorf("read shipped tasks: %w", err)
	}
	return LoadAll(sub, nil)
}

// LoadAll reads every folder of a directory as a task. They may extend each other and those that are there already; one
// of the same name takes its place.
func LoadAll(dir fs.FS, there map[string]*Task) (map[string]*Task, error) {
	dirs, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	var folders []folder
	for _, d := range dirs {
		if !d.IsDir() {
			continue
		}
		f, err := readFolder(dir, d.Name())
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", d.Name(), err)
		}
		folders = append(folders, f)
	}
	return loadFolders(folders, there)
}

// FromTexts is LoadAll for folders that lie in memory: by the name of the task, then of the file.
func FromTexts(texts map[string]map[string]string, there map[string]*Task) (map[string]*Task, error) {
	var folders []folder
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		f, err := parseFolder(texts[name])
		if err == nil && f.task.Name != name {
			err = fmt.Errorf("its task.yaml says name: %s", f.task.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("task %s: %w", name, err)
		}
		folders = append(folders, f)
	}
	return loadFolders(folders, there)
}

func loadFolders(folders []folder, there map[string]*Task) (map[string]*Task, error) {
	l := loader{folders: map[string]folder{}, loaded: maps.Clone(there), under: map[string]bool{}}
	if l.loaded == nil {
		l.loaded = map[string]*Task{}
	}
	for _, f := range folders {
		l.folders[f.task.Name] = f
	}
	for _, name := range slices.Sorted(maps.Keys(l.folders)) {
		if _, err := l.load(name); err != nil {
			return nil, fmt.Errorf("task %s: %w", name, err)
		}
	}
	return l.loaded, nil
}

// Load reads one task from its folder. It may extend those that are there.
func Load(dir fs.FS, there map[string]*Task) (*Task, error) {
	f, err := readFolder(dir, ".")
	if err != nil {
		return nil, err
	}
	l := loader{folders: map[string]folder{f.task.Name: f}, loaded: maps.Clone(there), under: map[string]bool{}}
	if l.loaded == nil {
		l.loaded = map[string]*Task{}
	}
	return l.load(f.task.Name)
}

// A folder is a task as it lies there, with the texts of its templates.
type folder struct {
	task  *Task
	texts map[string]string
}

// Bounds of a folder.
const (
	maxTexts    = 200
	maxTaskYAML = 64 << 10
)

func readFolder(dir fs.FS, name string) (folder, error) {
	files, err := fs.ReadDir(dir, name)
	if err != nil {
		return folder{}, fmt.Errorf("read its folder: %w", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		if file.IsDir() || strings.HasPrefix(file.Name(), ".") {
			continue
		}
		if len(texts) == maxTexts {
			return folder{}, fmt.Errorf("more than %d files", maxTexts)
		}
		if texts[file.Name()], err = readText(dir, path.Join(name, file.Name())); err != nil {
			return folder{}, err
		}
	}
	return parseFolder(texts)
}

// parseFolder reads task.yaml; the templates are read when what they may take in is known.
func parseFolder(texts map[string]string) (folder, error) {
	raw, ok := texts["task.yaml"]
	if !ok {
		return folder{}, errors.New("there is no task.yaml in its folder")
	}
	f := folder{task: &Task{}, texts: maps.Clone(texts)}
	delete(f.texts, "task.yaml")
	if err := yaml.NewDecoder(bytes.NewReader([]byte(raw)), yaml.DisallowUnknownField()).Decode(f.task); err != nil {
		return folder{}, fmt.Errorf("task.yaml: %s", yaml.FormatError(err, false, true))
	}
	return f, nil
}

func readText(dir fs.FS, name string) (string, error) {
	st, err := fs.Stat(dir, name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	if st.Size() > max(maxTaskYAML, render.MaxTemplate) {
		return "", fmt.Errorf("%s has %d bytes: at most %d are read", path.Base(name), st.Size(), render.MaxTemplate)
	}
	raw, err := fs.ReadFile(dir, name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	return string(raw), nil
}

// A loader makes whole tasks of folders.
type loader struct {
	folders map[string]folder
	loaded  map[string]*Task
	under   map[string]bool // being loaded
}

func (l *loader) load(name string) (*Task, error) {
	f, own := l.folders[name]
	if t := l.loaded[name]; t != nil && (!own || t == f.task) {
		return t, nil
	}
	if l.under[name] {
		return nil, fmt.Errorf("it extends itself, by %s", f.task.Extends)
	}
	l.under[name] = true
	t := f.task
	texts := maps.Clone(f.texts)
	if t.Extends != "" {
		if _, own := l.folders[t.Extends]; !own && l.loaded[t.Extends] == nil {
			return nil, fmt.Errorf("extends: there is no task %q", t.Extends)
		}
		base, err := l.load(t.Extends)
		if err != nil {
			return nil, fmt.Errorf("extends %s: %w", t.Extends, err)
		}
		t.inherit(base)
		for name, text := range base.texts {
			if _, own := texts[name]; !own {
				texts[name] = text
			}
		}
	}
	t.texts = texts
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("task.yaml: %w", err)
	}
	if err := t.compile(); err != nil {
		return nil, err
	}
	l.loaded[name] = t
	return t, nil
}

// inherit takes from a task what this one has not itself.
func (t *Task) inherit(base *Task) {
	if len(t.Stages) == 0 {
		t.Stages = base.Stages
	}
	t.OS, t.Repo = orElse(t.OS, base.OS), orElse(t.Repo, base.Repo)
	t.Seen = orElse(t.Seen, base.Seen)
	t.MinDisk = orElse(t.MinDisk, base.MinDisk)
	t.Disk, t.Handoff = t.Disk || base.Disk, t.Handoff || base.Handoff
	if t.Versions == nil {
		t.Versions = base.Versions
	}
	if t.Arch == nil {
		t.Arch = base.Arch
	}
	parameters := maps.Clone(base.Parameters)
	if parameters == nil {
		parameters = map[string]Parameter{}
	}
	maps.Copy(parameters, t.Parameters)
	t.Parameters = parameters
	for _, f := range base.Files {
		if !slices.ContainsFunc(t.Files, func(own File) bool { return own.Path == f.Path }) {
			t.Files = append(t.Files, f)
		}
	}
	for _, r := range base.Recipes {
		if _, err := t.recipe(r.Name); err != nil {
			t.Recipes = append(t.Recipes, r)
		}
	}
}

func orElse[T comparable](v, other T) T {
	var none T
	if v == none {
		return other
	}
	return v
}

// compile reads all templates.
func (t *Task) compile() error {
	t.templates = map[string]*render.Template{}
	parts := map[string]string{}
	for name, text := range t.texts {
		if strings.HasPrefix(name, "_") {
			parts[name] = text
		}
	}
	formats := map[string]string{}
	for name := range t.texts {
		formats[name] = render.FormatOf(name)
	}
	for _, f := range t.Files {
		formats[f.Template] = orElse(f.Format, render.FormatOf(f.Template))
	}
	for _, r := range t.Recipes {
		formats[r.template()] = orElse(r.Format, render.FormatOf(r.template()))
	}
	for _, name := range slices.Sorted(maps.Keys(formats)) {
		if name == "" || strings.HasPrefix(name, "_") {
			continue
		}
		text, ok := t.texts[name]
		if !ok {
			return fmt.Errorf("there is no template %s in its folder", name)
		}
		tpl, err := render.Parse(formats[name], text, used(text, parts))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		t.templates[name] = tpl
	}
	return t.compileStages()
}

// used are the parts that a text takes in: a part is written for one format, and is none of the others' business.
func used(text string, parts map[string]string) map[string]string {
	some := map[string]string{}
	for name, part := range parts {
		if strings.Contains(text, `"`+name+`"`) {
			some[name] = part
		}
	}
	return some
}

func (t *Task) compileStages() error {
	t.inline = map[string]*render.Template{}
	for _, s := range t.Stages {
		texts := map[string]string{s.Kernel: "text", s.Chain: "text"}
		for _, name := range s.Initrds {
			texts[name] = "text"
		}
		for _, arg := range s.Args {
			texts[arg] = "arg"
		}
		for text, format := range texts {
			tpl, err := render.Parse(format, text, nil)
			if err != nil {
				return fmt.Errorf("task.yaml: stage %s: %q: %w", s.Name, text, err)
			}
			t.inline[text] = tpl
		}
	}
	return nil
}
