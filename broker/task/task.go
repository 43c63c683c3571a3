// Package task is the install recipes: what a policy does with a node. A task is a folder with task.yaml and
// templates. Its stages are boots of the node in order and what each ends with; its files are put into an installed
// system by the agent, its recipes are fetched by an installer. Every template is one of package broker/render. The
// package knows no node: the broker gives it the values that a template may use, and nothing else.
//
// A task may extend another: it has its stages, parameters, files, recipes and templates but for those of the same name
// that are its own. Files of its folder whose names begin with _ are parts of every template: {{template "_done" .}}.
package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker/render"
)

// A Task is one recipe.
type Task struct {
	Name       string               `yaml:"name" json:"name"`
	Summary    string               `yaml:"summary" json:"summary"`
	OS         string               `yaml:"os" json:"os,omitempty"`             // what it installs, as people call it: Debian
	Versions   []string             `yaml:"versions" json:"versions,omitempty"` // of the OS; a repo of another is refused
	Arch       []string             `yaml:"arch" json:"arch,omitempty"`         // as Go says it; none: any
	Extends    string               `yaml:"extends" json:"extends,omitempty"`
	Abstract   bool                 `yaml:"abstract" json:"abstract,omitempty"` // only to be extended
	Repo       RepoKind             `yaml:"repo" json:"repo,omitempty"`         // that a policy with this task must name
	Disk       bool                 `yaml:"disk" json:"disk,omitempty"`         // it writes a disk: one is chosen by the policy's hints
	MinDisk    int64                `yaml:"min_disk" json:"min_disk,omitempty"` // bytes that it needs of that disk
	Handoff    bool                 `yaml:"handoff" json:"handoff,omitempty"`   // the installed system fetches and runs its policy's handoff
	Seen       string               `yaml:"seen" json:"seen,omitempty"`         // how far it was tried: booted, validated, rendered
	Parameters map[string]Parameter `yaml:"parameters" json:"parameters,omitempty"`
	Stages     []Stage              `yaml:"stages" json:"stages"`
	Files      []File               `yaml:"files" json:"files"`
	Recipes    []Recipe             `yaml:"recipes" json:"recipes,omitempty"`

	texts     map[string]string           // of its templates and parts, those of what it extends too
	templates map[string]*render.Template // by name
	inline    map[string]*render.Template // those of stages, by their text
}

// RepoKind is what kind of repo a task installs from.
type RepoKind string

// The kinds of repos.
const (
	RepoNone  RepoKind = ""
	RepoImage RepoKind = "image" // a disk image
	RepoTree  RepoKind = "tree"  // an install tree: imported, or a mirror
)

// A Stage is one boot of the node and what it waits for.
type Stage struct {
	Name     string        `yaml:"name" json:"name"`
	Step     boot.StepKind `yaml:"step" json:"step"`                 // ramdisk, kernel, chain, winpe or local
	Order    string        `yaml:"order" json:"order,omitempty"`     // ramdisk: the agent's order; its end ends the stage
	Deadline Duration      `yaml:"deadline" json:"deadline"`         // without an end by then, the install has failed
	Kernel   string        `yaml:"kernel" json:"kernel,omitempty"`   // template of a boot file; if empty, the repo's kernel
	Initrds  []string      `yaml:"initrds" json:"initrds,omitempty"` // templates, as Kernel; none: the repo's
	Args     []string      `yaml:"args" json:"args,omitempty"`       // templates, one kernel argument each; empty ones are left out
	Chain    string        `yaml:"chain" json:"chain,omitempty"`     // chain: template of a loader's served name or URL; args are its words
	Inject   []string      `yaml:"inject" json:"inject,omitempty"`   // winpe: recipes that appear in the booted system
	Program  *Program      `yaml:"program" json:"program,omitempty"` // ramdisk with order run
	Wipe     *Wipe         `yaml:"wipe" json:"wipe,omitempty"`       // ramdisk with order wipe
	Ends     End           `yaml:"ends" json:"ends,omitempty"`       // if empty, with the order or by a call
}

// End is what a stage ends with.
type End string

// EndBoot is for what can not call: the stage has ended a while after the machine fetched what it boots.
const EndBoot End = "boot"

// A Program is run in the ramdisk: the file that is the policy's repo.
type Program struct {
	Args    string   `yaml:"args" json:"args,omitempty"` // name of a parameter that is a list
	Env     string   `yaml:"env" json:"env,omitempty"`   // the same, of NAME=VALUE
	OK      string   `yaml:"ok" json:"ok,omitempty"`     // the same, of exit statuses that are no failure
	Timeout Duration `yaml:"timeout" json:"timeout,omitempty"`
}

// A Wipe makes disks forget: each that fits the policy's hints.
type Wipe struct {
	Method string `yaml:"method" json:"method"`       // name of a parameter: a way of facts.Wipe
	Lift   string `yaml:"lift" json:"lift,omitempty"` // name of a parameter: a list of guards
}

// Wipes says whether the task destroys what disks hold and puts nothing there.
func (t *Task) Wipes() bool {
	return slices.ContainsFunc(t.Stages, func(s Stage) bool { return s.Order == facts.OrderWipe })
}

// Called says whether the stage ends by a call of the installer or of the installed system.
func (s Stage) Called() bool { return s.Step != boot.StepRamdisk }

// Installer says whether the stage boots an installer, which fetches recipes.
func (s Stage) Installer() bool {
	return s.Step == boot.StepKernel || s.Step == boot.StepChain || s.Step == boot.StepWinPE
}

// Duration is a time.Duration written as 30m.
type Duration time.Duration

// UnmarshalYAML reads 30m.
func (d *Duration) UnmarshalYAML(b []byte) error {
	v, err := time.ParseDuration(strings.Trim(string(b), "\"' \n"))
	if err != nil || v <= 0 {
		return fmt.Errorf("deadline %q: want a duration such as 30m", b)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalJSON reads "30m"; 0 and "0" are no time at all.
func (d *Duration) UnmarshalJSON(b []byte) error {
	v, err := time.ParseDuration(strings.Trim(string(b), `"`))
	if err != nil || v < 0 {
		return fmt.Errorf("%s: want a duration such as \"30m\"", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON writes 30m0s.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// A File of the installed system: rendered from a template of the task, or a symbolic link. A template that renders to
// nothing makes no file.
type File struct {
	Path     string `yaml:"path" json:"path"`
	Mode     uint32 `yaml:"mode" json:"mode"`
	Template string `yaml:"template" json:"template"`
	Format   string `yaml:"format" json:"format,omitempty"` // of package render; if empty, told by the template's name
	Link     string `yaml:"link" json:"link"`
}

// A Recipe is what an installer fetches.
type Recipe struct {
	Name     string `yaml:"name" json:"name"`                   // in its URL
	Template string `yaml:"template" json:"template,omitempty"` // if empty, of that name
	Format   string `yaml:"format" json:"format,omitempty"`     // as of a File
}

func (r Recipe) template() string {
	if r.Template == "" {
		return r.Name
	}
	return r.Template
}

var recipeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (t *Task) check() error {
	if t.Name == "" {
		return errors.New("name is missing")
	}
	if t.Repo != RepoNone && t.Repo != RepoImage && t.Repo != RepoTree {
		return fmt.Errorf("repo %q: want image or tree", t.Repo)
	}
	for i, s := range t.Stages {
		if s.Name == "" || s.Deadline == 0 {
			return fmt.Errorf("stage %d: name and deadline are needed", i+1)
		}
		if err := t.checkStage(s); err != nil {
			return fmt.Errorf("stage %s: %w", s.Name, err)
		}
	}
	for _, f := range t.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || (f.Template == "") == (f.Link == "") {
			return fmt.Errorf("file %q: want a clean absolute path and either template or link", f.Path)
		}
	}
	for _, r := range t.Recipes {
		if !recipeName.MatchString(r.Name) {
			return fmt.Errorf("recipe %q: want letters, digits and ._- only, at most 64", r.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.Parameters)) {
		if err := t.Parameters[name].check(name); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	return nil
}

// orders are what a stage in the ramdisk can have the agent do.
var orders = []string{facts.OrderWriteImage, facts.OrderWipe, facts.OrderRun, facts.OrderRescue}

func (t *Task) checkStage(s Stage) error {
	switch {
	case !slices.Contains([]boot.StepKind{boot.StepRamdisk, boot.StepLocal, boot.StepKernel, boot.StepChain, boot.StepWinPE}, s.Step):
		return fmt.Errorf("step %q: want ramdisk, kernel, chain, winpe or local", s.Step)
	case (s.Step == boot.StepRamdisk) != (s.Order != ""):
		return errors.New("a ramdisk stage, and only it, has an order")
	case s.Order != "" && !slices.Contains(orders, s.Order):
		return fmt.Errorf("order %q: want one of %s", s.Order, strings.Join(orders, ", "))
	case (s.Step == boot.StepChain) != (s.Chain != ""):
		return errors.New("a chain stage, and only it, has chain")
	case (s.Order == facts.OrderWipe) != (s.Wipe != nil) || (s.Order == facts.OrderRun) != (s.Program != nil):
		return errors.New("order wipe has wipe, order run has program, and no other stage has")
	case s.Order == facts.OrderRun && t.Repo != RepoImage:
		return errors.New("the program is the policy's repo: the task says repo: image")
	case s.Ends != "" && (s.Ends != EndBoot || s.Step == boot.StepRamdisk):
		return fmt.Errorf("ends %q: want boot, and not of a ramdisk stage", s.Ends)
	case (s.Order == facts.OrderWriteImage || s.Order == facts.OrderWipe) && !t.Disk:
		return errors.New("it writes a disk: the task says disk: true")
	}
	for _, name := range s.Inject {
		if _, err := t.recipe(name); err != nil || s.Step != boot.StepWinPE {
			return fmt.Errorf("inject %s: want a recipe, in a winpe stage", name)
		}
	}
	return nil
}

// For says whether the task is for a version of its OS: 9 is for 9.4, 15 for 15-SP6, 22.04 for 22.04.3.
func (t *Task) For(version string) bool {
	return len(t.Versions) == 0 || slices.ContainsFunc(t.Versions, func(v string) bool {
		rest, ok := strings.CutPrefix(version, v)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '-')
	})
}

func (t *Task) recipe(name string) (Recipe, error) {
	i := slices.IndexFunc(t.Recipes, func(r Recipe) bool { return r.Name == name })
	if i < 0 {
		return Recipe{}, fmt.Errorf("task %s has no recipe %q", t.Name, name)
	}
	return t.Recipes[i], nil
}

// Recipe gives the recipe of that name, or an error that names the task.
func (t *Task) Recipe(name string) (Recipe, error) { return t.recipe(name) }

// RenderFiles gives the files that the agent puts into the installed system.
func (t *Task) RenderFiles(v Values) ([]facts.File, error) {
	var files []facts.File
	for _, f := range t.Files {
		out := facts.File{Path: f.Path, Mode: f.Mode, Link: f.Link}
		if f.Template != "" {
			text, err := t.render(f.Template, v)
			if err != nil {
				return nil, fmt.Errorf("task %s: render %s: %w", t.Name, f.Path, err)
			}
			if text == "" {
				continue
			}
			out.Content = text
		}
		files = append(files, out)
	}
	return files, nil
}

// RenderRecipe gives what an installer fetches.
func (t *Task) RenderRecipe(name string, v Values) (string, error) {
	r, err := t.recipe(name)
	if err != nil {
		return "", err
	}
	text, err := t.render(r.template(), v)
	if err != nil {
		return "", fmt.Errorf("task %s: render %s: %w", t.Name, name, err)
	}
	return text, nil
}

func (t *Task) render(name string, v Values) (string, error) {
	tpl := t.templates[name]
	if tpl == nil {
		return "", fmt.Errorf("there is no template %s", name)
	}
	v.task = t
	return tpl.Execute(v)
}

// Check renders all that the task has, so that a node for which it can not be is known before its disk is touched.
func (t *Task) Check(v Values) error {
	for _, r := range t.Recipes {
		if _, err := t.RenderRecipe(r.Name, v); err != nil {
			return err
		}
	}
	for _, s := range t.Stages {
		v.Stage = s.Name
		if _, err := t.RenderStep(s, v); err != nil && s.Installer() {
			return err
		}
	}
	_, err := t.RenderFiles(v)
	return err
}
