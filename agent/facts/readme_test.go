package facts

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readme is where each fact is told to people. Paths, kinds and examples come from the schema and the planted machine;
// what stands under "source" is written by hand and kept by -update.
const readme = "../README.md"

var readmeTables = regexp.MustCompile(`(?s)(<!-- facts: go test ./agent/facts -update -->\n)(.*)(<!-- end of facts -->\n)`)

// exampleState is that of the planted machine when it checks in.
var exampleState = func() State {
	skew := int64(-1500)
	return State{UptimeMS: 12340, ClockSkewMS: &skew, RTCEpochS: 1704067220, MemFreeBytes: 1843200000}
}()

// A factRow is one line of the README.
type factRow struct{ section, path, kind, example string }

// factRows are all fields of the schema, in its order.
func factRows(t *testing.T) []factRow {
	t.Helper()
	var planted, state any
	asTree(t, plantedFacts(t), &planted)
	asTree(t, exampleState, &state)
	rows := walkSchema(nil, "", "", reflect.TypeFor[Facts](), []any{planted})
	plain := func(r factRow) bool { return r.section == "document" }
	whole := slices.DeleteFunc(slices.Clone(rows), func(r factRow) bool { return !plain(r) })
	rows = append(whole, slices.DeleteFunc(rows, plain)...)
	return walkSchema(rows, "state", "state.", reflect.TypeFor[State](), []any{state})
}

func asTree(t *testing.T, v any, into *any) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// walkSchema adds the fields of a struct; found are the objects of it in the example.
func walkSchema(rows []factRow, section, prefix string, typ reflect.Type, found []any) []factRow {
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := jsonName(f)
		below, values := f.Type, children(found, name)
		path, own := prefix+name, section
		if own == "" {
			own = name
		}
		if below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		if below.Kind() == reflect.Slice && below.Elem().Kind() == reflect.Struct {
			below, path = below.Elem(), path+"[]"
			values = items(values)
		}
		switch below.Kind() {
		case reflect.Struct:
			rows = walkSchema(rows, own, path+".", below, values)
		case reflect.Map:
			if below.Elem().Kind() == reflect.Struct {
				rows = walkSchema(rows, own, path+".ID.", below.Elem(), items(values))
				break
			}
			rows = append(rows, factRow{own, path + ".NAME", kindWord(name, below.Elem()), example(items(values))})
		default:
			if section == "" { // a plain field of the document
				own = "document"
			}
			rows = append(rows, factRow{own, path, kindWord(name, below), example(values)})
		}
	}
	return rows
}

// children are the members of that name.
func children(found []any, name string) (values []any) {
	for _, v := range found {
		if m, ok := v.(map[string]any); ok && m[name] != nil {
			values = append(values, m[name])
		}
	}
	return values
}

// items are those of all lists and tables.
func items(found []any) (values []any) {
	for _, v := range found {
		switch v := v.(type) {
		case []any:
			values = append(values, v...)
		case map[string]any:
			for _, name := range []string{"rack"} {
				values = append(values, v[name])
			}
		}
	}
	return values
}

// kindWord is the type of a fact, with the unit that its name ends in.
func kindWord(name string, t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.String:
		return "string"
	case reflect.Slice:
		return "list of " + kindWord(name, t.Elem()) + "s"
	}
	for suffix, unit := range map[string]string{"_bytes": "bytes", "_mhz": "MHz", "_mts": "MT/s", "_mbps": "Mb/s", "_ms": "ms", "_s": "s", "_c": "°C", "_u": "rack units"} {
		if strings.HasSuffix(name, suffix) {
			return unit
		}
	}
	return "integer"
}

// example is the first value, short.
func example(values []any) string {
	if len(values) == 0 || values[0] == nil {
		return ""
	}
	b, err := json.Marshal(values[0])
	if err != nil {
		return ""
	}
	s := string(b)
	if r := []rune(s); len(r) > 48 {
		s = string(r[:45]) + "..."
	}
	return "`" + strings.ReplaceAll(s, "|", `\|`) + "`"
}

var readmeRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|[^|]*\\| (.*?) \\|(?:[^|]|\\\\\\|)*\\|$")

// The README names each fact of the schema, with its unit and an example, and no other. After -update, fill in the
// sources that stand as "?".
func TestReadmeNamesEveryFact(t *testing.T) {
	b, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	m := readmeTables.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no place for facts", readme)
	}
	sources := map[string]string{}
	for _, row := range readmeRow.FindAllStringSubmatch(m[2], -1) {
		sources[row[1]] = row[2]
	}
	var want strings.Builder
	section := ""
	for _, r := range factRows(t) {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&want, "\n### %s\n\n| fact | type, unit | source | example |\n|---|---|---|---|\n", section)
		}
		source := sources[r.path]
		if source == "" || source == "?" {
			source = "?"
			t.Errorf("%s: the source of %s is not told", readme, r.path)
		}
		delete(sources, r.path)
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", r.path, r.kind, source, r.example)
	}
	for path := range sources {
		t.Errorf("%s: %s is no fact", readme, path)
	}
	whole := strings.Replace(text, m[0], m[1]+want.String()+"\n"+m[3], 1)
	if *update {
		if err := os.WriteFile(readme, []byte(whole), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(text, whole); diff != "" {
		t.Errorf("%s is not what -update writes: -is +want\n%s", readme, diff)
	}
}
