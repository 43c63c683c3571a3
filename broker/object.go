package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Tag is a named rule over facts, metadata and state (package broker/rule is the language).
type Tag struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Rule string `json:"rule"`
}

// Policy binds the nodes that carry all its tags to a task. Policies are asked in the order of Order, then Name.
type Policy struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	Order    int       `json:"order,omitempty"` // lower is asked first; 0 means 100
	Tags     []string  `json:"tags,omitempty"`  // all of them
	NotTags  []string  `json:"not_tags,omitempty"`
	Match    string    `json:"match,omitempty"` // "all": wanted in place of tags, said aloud
	Task     string    `json:"task"`
	Repo     string    `json:"repo,omitempty"`
	Ramdisk  string    `json:"ramdisk,omitempty"`  // that its nodes boot; if empty, chosen by their tags
	Hostname string    `json:"hostname,omitempty"` // template: {{.Seq}} counts the policy's nodes, {{.ID}} is the node
	Max      int       `json:"max,omitempty"`      // most nodes bound at once; 0: no limit
	Disabled bool      `json:"disabled,omitempty"`
	Approval string    `json:"approval,omitempty"` // "required" (default): protected nodes are left alone; "automatic"
	Wipe     bool      `json:"wipe,omitempty"`     // the chosen disk may hold data, which is lost
	Disk     DiskHints `json:"disk,omitzero"`
	Handoff  string    `json:"handoff,omitempty"` // what takes over after the install
}

// DiskHints choose the disk of the root file system; of those that fit all hints, the smallest wins, then the first
// by PCI address.
type DiskHints struct {
	MinBytes   int64  `json:"min_bytes,omitempty"`
	MaxBytes   int64  `json:"max_bytes,omitempty"`
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	WWN        string `json:"wwn,omitempty"`
	Transport  string `json:"transport,omitempty"`
	Rotational *bool  `json:"rotational,omitempty"`
	Path       string `json:"path,omitempty"`
}

// Repo is a disk image that was imported: its bytes lie in the content store under SHA256.
type Repo struct {
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	SHA256      string `json:"sha256"`      // of the file as served
	SizeBytes   int64  `json:"size_bytes"`  // of the file as served
	RawBytes    int64  `json:"raw_bytes"`   // once unpacked
	Compression string `json:"compression"` // zstd, gzip, none
}

// Kinds of objects.
const (
	KindTag     = "Tag"
	KindPolicy  = "Policy"
	KindRepo    = "Repo"
	KindRamdisk = "Ramdisk"
)

// MaxDocuments is the most objects one apply takes; MaxDocumentBytes the most bytes.
const (
	MaxDocuments     = 10_000
	MaxDocumentBytes = 1 << 20
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

// ParseObjects reads YAML or JSON documents as an operator writes them. An unknown field, kind or value is an error
// with the document's number and, for YAML, the line.
func ParseObjects(data []byte) ([]Object, error) {
	if len(data) > MaxDocumentBytes {
		return nil, invalid("the file has %d bytes; at most %d are read", len(data), MaxDocumentBytes)
	}
	if bytes.Contains(data, []byte("<<:")) || anchors.Match(data) {
		return nil, invalid("YAML anchors and aliases are not read: write the values out")
	}
	var objects []Object
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for i := 1; ; i++ {
		var doc map[string]any
		switch err := dec.Decode(&doc); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, invalid("document %d: %s", i, yaml.FormatError(err, false, true))
		case len(doc) == 0:
			continue
		case len(objects) == MaxDocuments:
			return nil, invalid("more than %d documents", MaxDocuments)
		}
		o, err := parseObject(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		objects = append(objects, o)
	}
}

// anchors finds "key: &name" and "key: *name", which could make a small file explode.
var anchors = regexp.MustCompile(`(?m)(:|-)\s+[&*][A-Za-z0-9_]+\s*$`)

func parseObject(doc map[string]any) (Object, error) {
	raw, err := json.Marshal(doc)
	if err != nil {
		return Object{}, invalid("%s", err)
	}
	kind, _ := doc["kind"].(string)
	name, _ := doc["name"].(string)
	form, ok := kinds[kind]
	if !ok {
		return Object{}, invalid("kind %q: want %s", kind, kindNames())
	}
	if !nameForm.MatchString(name) {
		return Object{}, invalid("%s name %q: want a lower-case letter or digit first, then letters, digits, dot, dash, underscore, at most 63", kind, name)
	}
	v := form.new()
	if err := decodeStrict(raw, v); err != nil {
		return Object{}, invalid("%s %s: %s", kind, name, err)
	}
	if err := form.check(v); err != nil {
		return Object{}, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	return encode(kind, name, v)
}

// encode gives an object its canonical form.
func encode(kind, name string, v any) (Object, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return Object{}, fmt.Errorf("write %s %s: %w", kind, name, err)
	}
	return Object{Kind: kind, Name: name, Doc: doc}, nil
}

// kinds is the table of objects: how each is made and checked alone.
var kinds = map[string]struct {
	new   func() any
	check func(any) error
}{
	KindTag:     {func() any { return new(Tag) }, func(v any) error { return v.(*Tag).check() }},
	KindPolicy:  {func() any { return new(Policy) }, func(v any) error { return v.(*Policy).check() }},
	KindRepo:    {func() any { return new(Repo) }, func(v any) error { return v.(*Repo).check() }},
	KindRamdisk: {func() any { return new(Ramdisk) }, func(v any) error { return v.(*Ramdisk).check() }},
	KindHook:    {func() any { return new(Hook) }, func(v any) error { return v.(*Hook).check() }},
	KindHandoff: {func() any { return new(Handoff) }, func(v any) error { return v.(*Handoff).check() }},
}

func kindNames() string { return strings.Join(slices.Sorted(maps.Keys(kinds)), ", ") }

func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %s: want %s, not %s", wrong.Field, wrong.Type, wrong.Value)
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

func (t *Tag) check() error {
	if strings.TrimSpace(t.Rule) == "" {
		return invalid("rule is empty")
	}
	return nil
}

func (p *Policy) check() error {
	switch {
	case len(p.Tags) == 0 && p.Match != "all":
		return invalid("no tags: it would take every node; add tags, or say match: all")
	case len(p.Tags) > 0 && p.Match != "":
		return invalid("tags and match: %s together: keep one", p.Match)
	case p.Approval != "" && p.Approval != "required" && p.Approval != "automatic":
		return invalid("approval %q: want required or automatic", p.Approval)
	case p.Max < 0 || p.Order < 0 || p.Disk.MinBytes < 0 || p.Disk.MaxBytes < 0:
		return invalid("max, order and disk sizes may not be negative")
	case p.Task == "":
		return invalid("task is missing")
	}
	_, err := hostname(p.Hostname, "node1", 1)
	return err
}

// order is where a policy or ramdisk stands that may not have said so.
func order(said int) int {
	if said == 0 {
		return 100
	}
	return said
}

func (r *Repo) check() error {
	switch {
	case !sha256Form.MatchString(r.SHA256):
		return invalid("sha256 %q: want 64 lower-case hexadecimal digits; muster repo import fills it in", r.SHA256)
	case r.Compression != "zstd" && r.Compression != "gzip" && r.Compression != "none":
		return invalid("compression %q: want zstd, gzip or none", r.Compression)
	case r.SizeBytes <= 0 || r.RawBytes <= 0:
		return invalid("size_bytes and raw_bytes must be given")
	}
	return nil
}

var sha256Form = regexp.MustCompile(`^[0-9a-f]{64}$`)

// decode reads an object back; a stored one that does not fit is a defect, told with its name.
func decode[T any](o Object) (T, error) {
	var v T
	if err := json.Unmarshal(o.Doc, &v); err != nil {
		return v, fmt.Errorf("read stored %s %s: %w", o.Kind, o.Name, err)
	}
	return v, nil
}
