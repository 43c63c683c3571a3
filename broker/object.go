package broker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

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
	docs, err := documents(data)
	if err != nil {
		return nil, err
	}
	var objects []Object
	at := map[string]int{} // document of each object
	for i, doc := range docs {
		switch {
		case len(doc) == 0:
			continue
		case len(objects) == MaxDocuments:
			return nil, invalid("more than %d documents", MaxDocuments)
		}
		o, err := parseObject(doc)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if j, twice := at[o.Kind+" "+o.Name]; twice {
			return nil, invalid("document %d: %s %s stands in the file already, in document %d", i+1, o.Kind, o.Name, j)
		}
		at[o.Kind+" "+o.Name] = i + 1
		objects = append(objects, o)
	}
	return objects, nil
}

func parseObject(doc document) (Object, error) {
	kind, _ := doc["kind"].(string)
	name, _ := doc["name"].(string)
	form, ok := kinds[kind]
	if !ok {
		return Object{}, invalid("kind %q: want one of %s", kind, kindWords())
	}
	if !nameForm.MatchString(name) {
		return Object{}, invalid("%s name %q: want a lower-case letter or digit first, then letters, digits, dot, dash, underscore, at most 63", kind, name)
	}
	for field := range doc {
		if field != strings.ToLower(field) { // encoding/json would take Rule for rule
			return Object{}, invalid("%s %s: unknown field %q: fields are written in lower case", kind, name, field)
		}
	}
	was, err := takeRev(doc)
	if err != nil {
		return Object{}, invalid("%s %s: %s", kind, name, err)
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return Object{}, invalid("%s %s: %s", kind, name, err)
	}
	v := form.new()
	if err := decodeStrict(raw, v); err != nil {
		return Object{}, invalid("%s %s: %s", kind, name, err)
	}
	if err := form.check(v); err != nil {
		return Object{}, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	o, err := encode(kind, name, v)
	o.Was = was
	return o, err
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
	prune bool // it lives in an operator's files, so that its absence there means something
}{
	KindTag:     {func() any { return new(Tag) }, func(v any) error { return v.(*Tag).check() }, true},
	KindPolicy:  {func() any { return new(Policy) }, func(v any) error { return v.(*Policy).check() }, true},
	KindRepo:    {func() any { return new(Repo) }, func(v any) error { return v.(*Repo).check() }, false},
	KindRamdisk: {func() any { return new(Ramdisk) }, func(v any) error { return v.(*Ramdisk).check() }, false},
	KindHook:    {func() any { return new(Hook) }, func(v any) error { return v.(*Hook).check() }, true},
	KindTask:    {func() any { return new(OwnTask) }, func(v any) error { return v.(*OwnTask).check() }, true},
	KindHandoff: {func() any { return new(Handoff) }, func(v any) error { return v.(*Handoff).check() }, true},
}

func decodeStrict(raw []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %s: want %s, not %s", wrong.Field, written(wrong.Type), wrong.Value)
	}
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// written names a type as one writes it in a file.
func written(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list, as in [a, b]"
	case reflect.Map, reflect.Struct:
		return "fields, as in {a: b}"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a number"
	}
	return t.String()
}

func (t *Tag) check() error {
	if strings.TrimSpace(string(t.Rule)) == "" {
		return invalid("rule is empty")
	}
	return nil
}

// order is where a policy or ramdisk stands that may not have said so.
func order(said int) int {
	if said == 0 {
		return 100
	}
	return said
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
