package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// Bounds of a file of machines. What Razor tells of one has all its facts.
const (
	MaxRegistrationBytes = 64 << 20
	maxMachines          = 100_000
)

// A RegistrationFile is what a file says of machines.
type RegistrationFile struct {
	Nodes    []Registration
	Places   []string // of each: "line 7", "document 3, item 2"
	Warnings []string // what was read and is not taken, each with the machines that have it
}

// ParseRegistrations reads machines from JSON, one after another or one to a line, or from YAML documents. Each is an
// object with the fields of Registration (mac may be one), or what another system keeps of it: see machineSources. Lists
// of them are read as well, alone or as nodes or items of an object.
func ParseRegistrations(data []byte) (*RegistrationFile, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > MaxRegistrationBytes {
		return nil, invalid("the file has %d bytes; at most %d are read", len(data), MaxRegistrationBytes)
	}
	read := yamlMachines
	if first := bytes.TrimSpace(data); len(first) > 0 && (first[0] == '{' || first[0] == '[') {
		read = jsonMachines
	}
	f := &fileReading{untaken: map[string]*untaken{}}
	if err := read(data, f.member); err != nil {
		return nil, err
	}
	if len(f.Nodes) == 0 {
		return nil, invalid("there is no machine in it")
	}
	f.Warnings = f.warnings()
	return &f.RegistrationFile, nil
}

// yamlMachines gives the documents of a file to take, as JSON.
func yamlMachines(data []byte, take func(place string, raw json.RawMessage) error) error {
	if len(data) > MaxDocumentBytes {
		return invalid("the file has %d bytes; of YAML at most %d are read: write JSON", len(data), MaxDocumentBytes)
	}
	tokens := lexer.Tokenize(string(filled(data)))
	if err := plainYAML(tokens); err != nil {
		return err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return invalid("%s", yaml.FormatError(err, false, true))
	}
	for i, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		place := fmt.Sprintf("document %d", i+1)
		var v any
		if err := yaml.NodeToValue(d.Body, &v); err != nil {
			return invalid("%s: %s", place, yaml.FormatError(err, false, true))
		}
		if empty, ok := v.(map[string]any); ok && len(empty) == 0 {
			continue // as filled left it
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return invalid("%s: %s", place, err)
		}
		if err := take(place, raw); err != nil {
			return err
		}
	}
	return nil
}

// jsonMachines gives the values of a file to take.
func jsonMachines(data []byte, take func(place string, raw json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	line, counted := 1, 0
	for {
		var raw json.RawMessage
		err := d.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		end := int(d.InputOffset())
		begins := end - len(raw)
		if err != nil {
			begins = end
		}
		line += bytes.Count(data[counted:begins], []byte("\n"))
		counted = begins
		place := fmt.Sprintf("line %d", line)
		if err != nil {
			return invalid("%s or later: %s", place, err)
		}
		if err := take(place, raw); err != nil {
			return err
		}
	}
}

// A machineSource is a form that machines are told in, known by a field that no other has.
type machineSource struct {
	field string
	read  func(*fileReading, string, fields) (Registration, error)
}

// machineSources is the table of other systems. What has none of the fields is written as muster writes it.
var machineSources = []machineSource{
	{"hw_info", (*fileReading).fromRazor},      // razor nodes NAME, register-node
	{"interfaces", (*fileReading).fromCobbler}, // collections/systems/*.json
}

// fields are an object of a file, as they are written.
type fields map[string]json.RawMessage

// An untaken is something that was read and leads to nothing.
type untaken struct {
	count int
	place string // of the first
}

// A fileReading is a file being read.
type fileReading struct {
	RegistrationFile
	untaken map[string]*untaken
}

// member takes a machine, or each of a list of them.
func (f *fileReading) member(place string, raw json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		for i, m := range list {
			if err := f.machine(fmt.Sprintf("%s, item %d", place, i+1), m); err != nil {
				return err
			}
		}
		return nil
	}
	var lists struct{ Nodes, Items json.RawMessage }
	if json.Unmarshal(raw, &lists) == nil {
		for _, inner := range []json.RawMessage{lists.Nodes, lists.Items} {
			if len(inner) > 0 && inner[0] == '[' {
				return f.member(place, inner)
			}
		}
	}
	return f.machine(place, raw)
}

func (f *fileReading) machine(place string, raw json.RawMessage) error {
	if len(f.Nodes) == maxMachines {
		return invalid("%s: more than %d machines", place, maxMachines)
	}
	var m fields
	if err := json.Unmarshal(raw, &m); err != nil || m == nil {
		return invalid("%s: want an object with the ids of a machine", place)
	}
	read := (*fileReading).fromOwn
	for _, s := range machineSources {
		if _, is := m[s.field]; is {
			read = s.read
			break
		}
	}
	r, err := read(f, place, m)
	if err != nil {
		return invalid("%s: %s", place, err)
	}
	if _, err := check(r, ""); err != nil {
		return invalid("%s: %s", place, strings.TrimPrefix(err.Error(), "."))
	}
	f.Nodes, f.Places = append(f.Nodes, r), append(f.Places, place)
	return nil
}

// leave notes what is not taken of a machine.
func (f *fileReading) leave(place, format string, a ...any) {
	what := fmt.Sprintf(format, a...)
	if f.untaken[what] == nil {
		f.untaken[what] = &untaken{place: place}
	}
	f.untaken[what].count++
}

// leaveRest notes the fields that say something and are not among those that were taken.
func (f *fileReading) leaveRest(place string, m fields, taken ...string) {
	for _, field := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(taken, field) && !saysNothing(m[field]) {
			f.leave(place, "%.64q is not taken", field)
		}
	}
}

// saysNothing are the values that fields have which nobody set.
func saysNothing(raw json.RawMessage) bool {
	switch string(raw) {
	case "null", `""`, "[]", "{}", "false", "0", `"<<inherit>>"`:
		return true
	}
	return false
}

// maxUntaken is the most kinds of what is not taken that are told apart.
const maxUntaken = 100

func (f *fileReading) warnings() (list []string) {
	for i, what := range slices.Sorted(maps.Keys(f.untaken)) {
		if i == maxUntaken {
			return append(list, fmt.Sprintf("and %d more of what is not taken", len(f.untaken)-i))
		}
		u := f.untaken[what]
		at := u.place
		if u.count > 1 {
			at = fmt.Sprintf("%s and %d more", at, u.count-1)
		}
		list = append(list, what+" ("+at+")")
	}
	return list
}

// into decodes the fields of a machine that another system wrote; numbers stay as they are written.
func (m fields) into(v any) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(v)
}

// fromOwn reads a machine as muster writes it. A field it does not know is an error.
func (f *fileReading) fromOwn(_ string, m fields) (r Registration, err error) {
	for field := range m {
		if field != strings.ToLower(field) { // encoding/json would take Serial for serial
			return r, fmt.Errorf("unknown field %.64q: fields are written in lower case", field)
		}
	}
	var mac string
	if one, has := m["mac"]; has && json.Unmarshal(one, &mac) != nil {
		return r, errors.New("field mac: want string; several are macs")
	}
	delete(m, "mac")
	raw, err := json.Marshal(m)
	if err != nil {
		return r, err
	}
	if err := decodeStrict(raw, &r); err != nil {
		return r, err
	}
	if mac != "" {
		r.MACs = append([]string{mac}, r.MACs...)
	}
	return r, nil
}
