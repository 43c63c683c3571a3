// Package handoff is what takes over once a system is installed: a template and the configuration it asks for, rendered
// to a script that the installed system runs at its first boot. The package knows no node: the broker gives it the
// values a script may use.
//
// A template is one of package broker/render in the format sh, so that no hardware, name or metadata becomes a command
// (T18). {{template "install"}} defines the shell function install.
package handoff

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"muster/broker/render"
)

//go:embed shipped
var shipped embed.FS

// A Type is a kind of handoff: what it asks for, and the script.
type Type struct {
	Name       string               `yaml:"name"`
	Summary    string               `yaml:"summary"`
	Parameters map[string]Parameter `yaml:"parameters"`

	script *render.Template
}

// A Parameter is one value that a handoff is configured with.
type Parameter struct {
	Summary  string `yaml:"summary" json:"summary,omitempty"`
	Required bool   `yaml:"required" json:"required,omitempty"`
	Default  string `yaml:"default" json:"default,omitempty"`
	Secret   bool   `yaml:"secret" json:"secret,omitempty"` // shown to nobody but the installed system
	Lines    bool   `yaml:"lines" json:"lines,omitempty"`   // may have more than one
}

// Values are what a template may use.
type Values struct {
	Server string // base URL of the broker
	Policy string
	Node   Node
	Config map[string]string // every parameter, "" when neither given nor with a default
}

// A Node is the installed system's machine.
type Node struct {
	ID       string
	Hostname string
	Tags     []string
	Metadata map[string]any // strings, numbers, booleans, and lists of these
}

// maxValue bounds one value of a configuration.
const maxValue = 64 << 10

// install is the part of that name: a shell function that installs the first package that there is.
//
//go:embed install.sh
var install string

// Shipped reads the types that come with muster, by name.
func Shipped() (map[string]*Type, error) {
	dirs, err := fs.Glob(shipped, "shipped/*/handoff.yaml")
	if err != nil {
		return nil, fmt.Errorf("read shipped handoffs: %w", err)
	}
	types := map[string]*Type{}
	for _, file := range dirs {
		t, err := load(path.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("shipped handoff %s: %w", path.Dir(file), err)
		}
		types[t.Name] = t
	}
	return types, nil
}

func load(dir string) (*Type, error) {
	raw, err := fs.ReadFile(shipped, dir+"/handoff.yaml")
	if err != nil {
		return nil, err
	}
	t := &Type{}
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.DisallowUnknownField()).Decode(t); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	text, err := fs.ReadFile(shipped, dir+"/run.sh")
	if err != nil {
		return nil, err
	}
	made, err := New(t.Name, t.Parameters, string(text))
	if err == nil {
		made.Summary = t.Summary
	}
	return made, err
}

var parameterName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// New makes a type of an operator's own, and checks its template.
func New(name string, parameters map[string]Parameter, text string) (*Type, error) {
	for _, p := range slices.Sorted(maps.Keys(parameters)) {
		switch is := parameters[p]; {
		case !parameterName.MatchString(p):
			return nil, fmt.Errorf("parameter %q: want a lower-case letter first, then letters, digits, underscore, at most 63", p)
		case is.Required && is.Default != "":
			return nil, fmt.Errorf("parameter %s: one that is required has no default", p)
		case is.Secret && is.Default != "":
			return nil, fmt.Errorf("parameter %s: a secret has no default", p)
		}
	}
	script, err := render.Parse("sh", text, map[string]string{"install": install})
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	t := &Type{Name: name, Parameters: parameters, script: script}
	return t, t.probe()
}

// probe renders for a machine that has nothing: a field that is none shows here, when the template is saved.
func (t *Type) probe() error {
	c := map[string]string{}
	for p := range t.Parameters {
		c[p] = "probe"
	}
	if _, err := t.script.Execute(Values{Config: c}); err != nil {
		return fmt.Errorf("template: %w", err)
	}
	return nil
}

// Check says what is wrong with a configuration. The error names keys, never values.
func (t *Type) Check(config map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		p, ok := t.Parameters[k]
		v := config[k]
		switch {
		case !ok:
			return fmt.Errorf("config: there is no %q: there are %s", k, strings.Join(slices.Sorted(maps.Keys(t.Parameters)), ", "))
		case len(v) > maxValue:
			return fmt.Errorf("config: %s is over %d bytes", k, maxValue)
		case strings.ContainsRune(v, 0), !p.Lines && strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f }):
			return fmt.Errorf("config: %s holds a control character", k)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(t.Parameters)) {
		if t.Parameters[k].Required && config[k] == "" {
			return fmt.Errorf("config: %s is missing", k)
		}
	}
	return nil
}

// Render makes the script.
func (t *Type) Render(v Values) (string, error) {
	if err := t.Check(v.Config); err != nil {
		return "", err
	}
	full := map[string]string{}
	for k, p := range t.Parameters {
		full[k] = p.Default
	}
	for k, given := range v.Config {
		if given != "" {
			full[k] = given
		}
	}
	v.Config = full
	return t.script.Execute(v)
}
