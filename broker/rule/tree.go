package rule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"
)

// Tree turns a Go value, such as the struct that a root's sample was, into the JSON tree that Eval reads: map[string]any,
// []any, string, bool, int64, float64. Integers of 64 bits stay exact. The tree may be used for any number of rules. It
// is what encoding/json writes and reads back, made without the text where that is simple: nodes are many, and each
// needs its trees.
func Tree(v any) (any, error) { return branch(reflect.ValueOf(v)) }

func branch(v reflect.Value) (any, error) {
	if !v.IsValid() {
		return nil, nil
	}
	if marshals(v.Type()) || v.CanAddr() && marshals(reflect.PointerTo(v.Type())) {
		return throughText(v)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return branch(v.Elem())
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.String:
		if s := v.String(); utf8.ValidString(s) && v.Type() != reflect.TypeFor[json.Number]() {
			return s, nil
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			return branchList(v)
		}
	case reflect.Map:
		if v.Type().Key() == reflect.TypeFor[string]() {
			return branchMap(v)
		}
	case reflect.Struct:
		if members, ok := membersOf(v.Type()); ok {
			return branchStruct(v, members)
		}
	}
	return throughText(v)
}

func marshals(t reflect.Type) bool { return t.Implements(jsonMarshaler) || t.Implements(textMarshaler) }

func branchList(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	list := make([]any, v.Len())
	for i := range list {
		item, err := branch(v.Index(i))
		if err != nil {
			return nil, err
		}
		list[i] = item
	}
	return list, nil
}

func branchMap(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	tree := make(map[string]any, v.Len())
	for it := v.MapRange(); it.Next(); {
		item, err := branch(it.Value())
		if err != nil {
			return nil, err
		}
		tree[strings.ToValidUTF8(it.Key().String(), "\uFFFD")] = item
	}
	return tree, nil
}

func branchStruct(v reflect.Value, members []memberField) (any, error) {
	there := 0 // most facts of a large struct are absent, and a map for all of them would be large, too
	for _, m := range members {
		if m.in(v) {
			there++
		}
	}
	tree := make(map[string]any, there)
	for _, m := range members {
		if !m.in(v) {
			continue
		}
		item, err := branch(v.Field(m.index))
		if err != nil {
			return nil, err
		}
		tree[m.name] = item
	}
	return tree, nil
}

// in says whether encoding/json writes the field of a struct.
func (m memberField) in(v reflect.Value) bool {
	f := v.Field(m.index)
	return !(m.omitEmpty && isEmpty(f) || m.omitZero && f.IsZero())
}

// isEmpty is encoding/json's word for what omitempty leaves out.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// A memberField is a field of a struct as encoding/json writes it.
type memberField struct {
	name                string
	index               int
	omitEmpty, omitZero bool
}

var memberFields sync.Map // reflect.Type to []memberField, nil for those that only encoding/json knows

// membersOf are the fields of a struct; false when it has one that is not simple: embedded, quoted, with a zero of its own.
func membersOf(t reflect.Type) ([]memberField, bool) {
	known, ok := memberFields.Load(t)
	if !ok {
		known, _ = memberFields.LoadOrStore(t, readMembers(t))
	}
	members := known.([]memberField)
	return members, members != nil
}

func readMembers(t reflect.Type) []memberField {
	members, seen := []memberField{}, map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() && !f.Anonymous || f.Tag.Get("json") == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		m := memberField{name, i, hasOption(options, "omitempty"), hasOption(options, "omitzero")}
		_, ownZero := reflect.PointerTo(f.Type).MethodByName("IsZero")
		if f.Anonymous || seen[name] || hasOption(options, "string") || m.omitZero && ownZero {
			return nil
		}
		seen[name] = true
		members = append(members, m)
	}
	return members
}

// throughText has encoding/json write a value, and reads it back.
func throughText(v reflect.Value) (any, error) {
	if v.CanAddr() {
		v = v.Addr() // whose methods are those of the pointer
	}
	encoded, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("make a tree: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("make a tree: %w", err)
	}
	return plainNumbers(tree), nil
}

// plainNumbers parses the numbers of a tree once, so that rules need not do it each time they read one.
func plainNumbers(tree any) any {
	switch x := tree.(type) {
	case map[string]any:
		for k, v := range x {
			x[k] = plainNumbers(v)
		}
	case []any:
		for i, v := range x {
			x[i] = plainNumbers(v)
		}
	case json.Number:
		if i, err := x.Int64(); err == nil {
			return i
		}
		if f, err := x.Float64(); err == nil {
			return f
		}
	}
	return tree
}
