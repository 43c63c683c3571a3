package facts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// Limits of one document. A body beyond them is refused before anything of it is used.
const (
	MaxBody   = 1 << 20 // bytes
	MaxDepth  = 32      // nested objects and arrays
	MaxItems  = 4096    // of one array or object
	MaxString = 4096    // bytes
)

// ErrTooLarge is returned for a body of more than MaxBody bytes.
var ErrTooLarge = errors.New("read body: larger than 1 MiB")

// DecodeCheckIn reads one check-in and validates it. It is strict: unknown fields, keys in another case, duplicate
// keys, nulls, wrong types and trailing data are errors, a *FieldError that names the path.
func DecodeCheckIn(r io.Reader) (*CheckIn, error) {
	var c CheckIn
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// DecodeReport reads one report as strictly as DecodeCheckIn reads a check-in.
func DecodeReport(r io.Reader) (*Report, error) {
	var rep Report
	if err := decode(r, &rep); err != nil {
		return nil, err
	}
	if err := rep.Validate(); err != nil {
		return nil, err
	}
	return &rep, nil
}

// decode fills the struct that into points to.
func decode(r io.Reader, into any) error {
	body, err := io.ReadAll(io.LimitReader(r, MaxBody+1))
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if len(body) > MaxBody {
		return ErrTooLarge
	}
	if err := checkSyntax(body); err != nil {
		return err
	}
	d := decoder{json.NewDecoder(bytes.NewReader(body))}
	d.json.UseNumber()
	return d.value(reflect.ValueOf(into).Elem())
}

// checkSyntax refuses what is not one shallow JSON value in UTF-8, so that the decoder meets only types and names.
// The depth comes first: the scanner behind json.Unmarshal keeps a stack.
func checkSyntax(body []byte) error {
	if !utf8.Valid(body) {
		return fault("want UTF-8")
	}
	if depth(body) > MaxDepth {
		return fault("want at most %d nested levels", MaxDepth)
	}
	var whole json.RawMessage
	if err := json.Unmarshal(body, &whole); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return fault("byte %d: %v", syntax.Offset, err)
		}
		return fault("%v", err)
	}
	return nil
}

// depth is the deepest nesting of brackets outside strings.
func depth(body []byte) int {
	deepest, now, quoted, escaped := 0, 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped = c == '\\'
			quoted = c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

// A decoder walks the tokens of a document whose syntax is known to be right, beside the Go type it shall fill.
type decoder struct{ json *json.Decoder }

// value reads the next value of the document into v.
func (d decoder) value(v reflect.Value) error {
	tok, err := d.json.Token()
	if err != nil {
		return fault("%v", err)
	}
	return d.typed(tok, v)
}

// typed reads the value that starts with tok into v.
func (d decoder) typed(tok json.Token, v reflect.Value) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.typed(tok, v.Elem())
	case reflect.Struct:
		if tok != json.Delim('{') {
			return mismatch("an object", tok)
		}
		return d.object(v)
	case reflect.Map:
		if tok != json.Delim('{') {
			return mismatch("an object", tok)
		}
		return d.table(v)
	case reflect.Slice:
		if tok != json.Delim('[') {
			return mismatch("an array", tok)
		}
		return d.array(v)
	default:
		return scalar(tok, v)
	}
}

// object reads the fields of a struct up to the closing bracket.
func (d decoder) object(v reflect.Value) error {
	fields := fieldsOf(v.Type())
	return d.members(func(key string) error {
		i, ok := fields[key]
		if !ok {
			return fault("unknown field")
		}
		return d.value(v.Field(i))
	})
}

// table reads a map with free keys.
func (d decoder) table(v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	return d.members(func(key string) error {
		if len(key) > MaxString {
			return fault("want a name of at most %d bytes", MaxString)
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(elem); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), elem)
		return nil
	})
}

// members calls each for the name of every member of an object, refusing duplicates.
func (d decoder) members(each func(key string) error) error {
	seen := map[string]bool{}
	for {
		tok, err := d.json.Token()
		if err != nil {
			return fault("%v", err)
		}
		key, ok := tok.(string)
		if !ok {
			return nil // the closing bracket
		}
		switch {
		case seen[key]:
			return within(member(key), fault("duplicate field"))
		case len(seen) == MaxItems:
			return fault("want at most %d members", MaxItems)
		}
		seen[key] = true
		if err := each(key); err != nil {
			return within(member(key), err)
		}
	}
}

// array reads items up to the closing bracket. An empty array is kept apart from an absent one.
func (d decoder) array(v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i := 0; ; i++ {
		tok, err := d.json.Token()
		if err != nil {
			return fault("%v", err)
		}
		if tok == json.Delim(']') {
			return nil
		}
		if i == MaxItems {
			return fault("want at most %d items", MaxItems)
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.typed(tok, elem); err != nil {
			return within(item(i), err)
		}
		v.Set(reflect.Append(v, elem))
	}
}

// scalar stores a string, a boolean or an integer.
func scalar(tok json.Token, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		s, ok := tok.(string)
		if !ok {
			return mismatch("a string", tok)
		}
		if len(s) > MaxString {
			return fault("want at most %d bytes, got %d", MaxString, len(s))
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := tok.(bool)
		if !ok {
			return mismatch("a boolean", tok)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := tok.(json.Number)
		if !ok {
			return mismatch("a number", tok)
		}
		i, err := strconv.ParseInt(n.String(), 10, 64)
		if err != nil || v.OverflowInt(i) {
			return fault("want an integer of 64 bits, got %.32q", n.String())
		}
		v.SetInt(i)
	default:
		return fault("cannot hold %v", v.Type())
	}
	return nil
}

func mismatch(want string, got json.Token) error {
	return fault("want %s, got %s", want, kindOf(got))
}

func kindOf(tok json.Token) string {
	switch t := tok.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "a boolean"
	case json.Delim:
		if t == '[' {
			return "an array"
		}
		return "an object"
	}
	return fmt.Sprintf("%T", tok)
}

var fieldTables sync.Map // reflect.Type to map[string]int

// fieldsOf maps JSON names to field numbers of a struct.
func fieldsOf(t reflect.Type) map[string]int {
	if m, ok := fieldTables.Load(t); ok {
		return m.(map[string]int)
	}
	m := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		m[jsonName(t.Field(i))] = i
	}
	fieldTables.Store(t, m)
	return m
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
