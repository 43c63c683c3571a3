package rule

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A Schema is the typed environment that rules are compiled against: which facts exist, and of which kind. It is
// immutable and safe for concurrent use.
type Schema struct {
	roots map[string]*typ
	paths []path // every fact that has a name of its own, for suggestions
}

// NewSchema reads the roots of rules, such as facts, meta and node, from one sample value each. Only the types are
// read. Struct fields are named by their json tags; a pointer is what it points to; a map[string]any is free-form:
// any key of any kind may be asked for. Fields that JSON cannot hold (functions, channels) are an error, as is a root
// whose name is a word of the language.
func NewSchema(roots map[string]any) (*Schema, error) {
	reader := typeReader{known: map[reflect.Type]*typ{}}
	s := &Schema{roots: map[string]*typ{}}
	for _, name := range slices.Sorted(maps.Keys(roots)) {
		if !isIdentifier(name) || units[name] != 0 || functions[name] != nil {
			return nil, fmt.Errorf("read root %q: not a name that a root may have", name)
		}
		if roots[name] == nil {
			return nil, fmt.Errorf("read root %q: no sample value", name)
		}
		t, err := reader.read(reflect.TypeOf(roots[name]))
		if err != nil {
			return nil, fmt.Errorf("read root %q: %w", name, err)
		}
		s.roots[name] = t
		s.paths = appendPaths(s.paths, name, name, t, 0)
	}
	return s, nil
}

// A typ is what the checker knows of a value before any node is seen.
type typ struct {
	kind   kind
	elem   *typ              // of a list or a free-form object; nil is any
	fields map[string]*field // of an object with known fields; nil when any key may be asked for
}

// A field is one named fact of an object.
type field struct {
	typ *typ
	// falsy marks a plain bool with omitempty: its encoder leaves out false, so absent means false as long as the
	// object itself is there. A bool that may be unknown is a *bool.
	falsy bool
}

var (
	anyType    = &typ{kind: kindAny}
	boolType   = &typ{kind: kindBool}
	numberType = &typ{kind: kindNumber}
	stringType = &typ{kind: kindString}
)

// element is the type of a member of a list or of a free-form object.
func (t *typ) element() *typ {
	if t.elem == nil {
		return anyType
	}
	return t.elem
}

func (t *typ) scalar() bool {
	return t.kind == kindBool || t.kind == kindNumber || t.kind == kindString || t.kind == kindAny
}

// fits says that a value of type t may stand where kind k is wanted; kindAny is settled when a node is seen.
func (t *typ) fits(k kind) bool { return t.kind == k || t.kind == kindAny || k == kindAny }

// A typeReader turns Go types into rule types. Types that contain themselves are read once.
type typeReader struct{ known map[reflect.Type]*typ }

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

func (r typeReader) read(g reflect.Type) (*typ, error) {
	if t := r.known[g]; t != nil {
		return t, nil
	}
	switch {
	case g.Implements(textMarshaler):
		return stringType, nil
	case g.Implements(jsonMarshaler):
		return anyType, nil
	}
	switch g.Kind() {
	case reflect.Pointer:
		return r.read(g.Elem())
	case reflect.Interface:
		return anyType, nil
	case reflect.Bool:
		return boolType, nil
	case reflect.String:
		return stringType, nil
	case reflect.Slice, reflect.Array:
		return r.readList(g)
	case reflect.Map:
		return r.readMap(g)
	case reflect.Struct:
		return r.readStruct(g)
	}
	if g.ConvertibleTo(reflect.TypeFor[float64]()) {
		return numberType, nil
	}
	return nil, fmt.Errorf("a %s has no form in JSON", g)
}

func (r typeReader) readList(g reflect.Type) (*typ, error) {
	if g.Elem().Kind() == reflect.Uint8 && g.Kind() == reflect.Slice {
		return stringType, nil // encoding/json writes []byte as base64
	}
	t := &typ{kind: kindList}
	r.known[g] = t
	elem, err := r.read(g.Elem())
	t.elem = elem
	return t, err
}

func (r typeReader) readMap(g reflect.Type) (*typ, error) {
	if g.Key().Kind() != reflect.String {
		return nil, fmt.Errorf("a %s has keys that are not strings", g)
	}
	t := &typ{kind: kindObject}
	r.known[g] = t
	elem, err := r.read(g.Elem())
	t.elem = elem
	return t, err
}

func (r typeReader) readStruct(g reflect.Type) (*typ, error) {
	t := &typ{kind: kindObject, fields: map[string]*field{}}
	r.known[g] = t
	for _, f := range reflect.VisibleFields(g) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" || !f.IsExported() || name == "-" && options == "" {
			continue // the fields of an embedded struct are visible fields themselves
		}
		if name == "" {
			name = f.Name
		}
		elem, err := r.readField(f.Type, options)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		t.fields[name] = elem
	}
	return t, nil
}

func (r typeReader) readField(g reflect.Type, options string) (*field, error) {
	if hasOption(options, "string") && g.Kind() != reflect.String {
		return &field{typ: stringType}, nil
	}
	t, err := r.read(g)
	if err != nil {
		return nil, err
	}
	omitted := hasOption(options, "omitempty") || hasOption(options, "omitzero")
	return &field{typ: t, falsy: omitted && g.Kind() == reflect.Bool}, nil
}

func hasOption(options, want string) bool { return slices.Contains(strings.Split(options, ","), want) }
