// Package task is the install recipes: what a policy does with a node. A task is a folder with task.yaml and
// templates; its stages are boots of the node in order, and what each ends with. The package knows no node: the
// broker gives it the values a recipe may use, and nothing else.
package task

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/goccy/go-yaml"

	"muster/agent/facts"
	"muster/boot"
)

//go:embed shipped
var shipped embed.FS

// A Task is one recipe.
type Task struct {
	Name    string  `yaml:"name" json:"name"`
	Summary string  `yaml:"summary" json:"summary"`
	Repo    bool    `yaml:"repo" json:"repo"`       // a policy with this task must name a repo
	Handoff bool    `yaml:"handoff" json:"handoff"` // the installed system fetches and runs its policy's handoff
	Stages  []Stage `yaml:"stages" json:"stages"`
	Files   []File  `yaml:"files" json:"files"`

	templates map[string]*template.Template
}

// A Stage is one boot of the node and what it waits for.
type Stage struct {
	Name     string        `yaml:"name" json:"name"`
	Step     boot.StepKind `yaml:"step" json:"step"`         // ramdisk or local
	Order    string        `yaml:"order" json:"order"`       // ramdisk: the agent's order; its end ends the stage
	Deadline Duration      `yaml:"deadline" json:"deadline"` // without an end by then, the install has failed
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
	Link     string `yaml:"link" json:"link"`
}

// Values are what a template may use. One that holds a quote, a blank or a control character is refused.
type Values struct {
	Server   string // base URL of the broker for agents
	CA       string // certificate in PEM by which an https Server is verified, or ""
	Node     string // id
	Hostname string // fully qualified, or the node's id
	Token    string // one-time, ends the stage it was made for
	Stage    string // name of the stage the token ends
	Handoff  string // name of the handoff that the installed system fetches, or ""
}

// Short is the first label of Hostname.
func (v Values) Short() string {
	s, _, _ := strings.Cut(v.Hostname, ".")
	return s
}

// plain is text that no shell, unit file or hosts file reads as more than a word.
var plain = regexp.MustCompile(`^[A-Za-z0-9._:/\[\]-]*$`)

// armour is one certificate in PEM (RFC 7468), or nothing.
var armour = regexp.MustCompile(`^(-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----\n)?$`)

func (v Values) check() error {
	for name, value := range map[string]string{"server": v.Server, "node": v.Node, "hostname": v.Hostname, "token": v.Token, "stage": v.Stage, "handoff": v.Handoff} {
		if !plain.MatchString(value) {
			return fmt.Errorf("%s %q can not stand in a file of the installed system", name, value)
		}
	}
	if !armour.MatchString(v.CA) {
		return fmt.Errorf("ca %.40q is no certificate in PEM", v.CA)
	}
	return nil
}

// maxFile bounds one rendered file.
const maxFile = 1 << 20

// Shipped reads the tasks that come with muster, by name.
func Shipped() (map[string]*Task, error) {
	dirs, err := fs.ReadDir(shipped, "shipped")
	if err != nil {
		return nil, fmt.Errorf("read shipped tasks: %w", err)
	}
	tasks := map[string]*Task{}
	for _, d := range dirs {
		sub, err := fs.Sub(shipped, path.Join("shipped", d.Name()))
		if err != nil {
			return nil, fmt.Errorf("read shipped task %s: %w", d.Name(), err)
		}
		t, err := Load(sub)
		if err != nil {
			return nil, fmt.Errorf("shipped task %s: %w", d.Name(), err)
		}
		tasks[t.Name] = t
	}
	return tasks, nil
}

// Load reads one task from its folder and compiles its templates.
func Load(dir fs.FS) (*Task, error) {
	raw, err := fs.ReadFile(dir, "task.yaml")
	if err != nil {
		return nil, fmt.Errorf("read task.yaml: %w", err)
	}
	t := &Task{templates: map[string]*template.Template{}}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.DisallowUnknownField()).Decode(t); err != nil {
		return nil, fmt.Errorf("task.yaml: %s", yaml.FormatError(err, false, true))
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("task.yaml: %w", err)
	}
	for _, f := range t.Files {
		if f.Template == "" {
			continue
		}
		text, err := fs.ReadFile(dir, f.Template)
		if err != nil {
			return nil, fmt.Errorf("read template: %w", err)
		}
		tpl, err := template.New(f.Template).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("parse template: %w", err)
		}
		t.templates[f.Template] = tpl
	}
	return t, nil
}

func (t *Task) check() error {
	if t.Name == "" {
		return errors.New("name is missing")
	}
	for i, s := range t.Stages {
		switch {
		case s.Name == "" || s.Deadline == 0:
			return fmt.Errorf("stage %d: name and deadline are needed", i+1)
		case s.Step != boot.StepRamdisk && s.Step != boot.StepLocal:
			return fmt.Errorf("stage %s: step %q: want ramdisk or local", s.Name, s.Step)
		case (s.Step == boot.StepRamdisk) != (s.Order == facts.OrderWriteImage):
			return fmt.Errorf("stage %s: a ramdisk stage, and only it, has the order write_image", s.Name)
		}
	}
	for _, f := range t.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || (f.Template == "") == (f.Link == "") {
			return fmt.Errorf("file %q: want a clean absolute path and either template or link", f.Path)
		}
	}
	return nil
}

// WritesImage says whether the agent writes the repo, a disk image, to the disk.
func (t *Task) WritesImage() bool {
	return slices.ContainsFunc(t.Stages, func(s Stage) bool { return s.Order == facts.OrderWriteImage })
}

// RenderFiles gives the files that the agent puts into the installed system.
func (t *Task) RenderFiles(v Values) ([]facts.File, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("task %s: %w", t.Name, err)
	}
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

func (t *Task) render(name string, v Values) (string, error) {
	w := &limited{left: maxFile}
	if err := t.templates[name].Execute(w, v); err != nil {
		return "", err
	}
	return w.String(), nil
}

// limited is a buffer that a template can not fill without end.
type limited struct {
	bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, fmt.Errorf("the rendered file is over %d bytes", maxFile)
	}
	return l.Buffer.Write(p)
}
