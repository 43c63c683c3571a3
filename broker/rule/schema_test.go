package rule_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
)

// The types below have the shape of those that the broker gives: pointers and nil slices for what may not be known.
type (
	machine struct {
		Schema     int               `json:"schema"`
		Arch       string            `json:"arch,omitempty"`
		Incomplete []string          `json:"incomplete,omitempty"`
		System     *system           `json:"system,omitempty"`
		Firmware   *firmware         `json:"firmware,omitempty"`
		CPU        *cpu              `json:"cpu,omitempty"`
		Memory     *memory           `json:"memory,omitempty"`
		Disks      []disk            `json:"disks,omitzero"`
		NICs       []nic             `json:"nics,omitzero"`
		BMC        *bmc              `json:"bmc,omitempty"`
		TPM        *tpm              `json:"tpm,omitempty"`
		USB        []usb             `json:"usb,omitzero"`
		Custom     map[string]string `json:"custom,omitempty"`
	}
	system struct {
		Manufacturer string `json:"manufacturer,omitempty"`
		Product      string `json:"product,omitempty"`
		Serial       string `json:"serial,omitempty"`
	}
	firmware struct {
		Vendor  string `json:"vendor,omitempty"`
		Version string `json:"version,omitempty"`
		Date    string `json:"date,omitempty"`
		Mode    string `json:"mode,omitempty"`
	}
	cpu struct {
		Cores int      `json:"cores,omitempty"`
		Flags []string `json:"flags,omitzero"`
	}
	memory struct {
		TotalBytes int64 `json:"total_bytes,omitempty"`
		Slots      int   `json:"slots,omitempty"`
	}
	disk struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		SizeBytes  int64  `json:"size_bytes"`
		Transport  string `json:"transport,omitempty"`
		Rotational *bool  `json:"rotational,omitempty"`
		Removable  bool   `json:"removable,omitempty"`
	}
	nic struct {
		Name      string     `json:"name"`
		MAC       string     `json:"mac,omitempty"`
		SpeedMbps int        `json:"speed_mbps,omitempty"`
		IPv4      []string   `json:"ipv4,omitempty"`
		LLDP      []neighbor `json:"lldp,omitzero"`
	}
	neighbor struct {
		ChassisID string `json:"chassis_id"`
		PortID    string `json:"port_id"`
		SysName   string `json:"sys_name,omitempty"`
	}
	bmc struct {
		Present  bool   `json:"present"`
		Firmware string `json:"firmware,omitempty"`
	}
	tpm struct {
		Present      bool `json:"present"`
		VersionMajor int  `json:"version_major,omitempty"`
	}
	usb struct {
		Vendor    string `json:"vendor,omitempty"`
		SpeedMbps int    `json:"speed_mbps,omitempty"`
		Hub       bool   `json:"hub,omitempty"`
	}
	node struct {
		State     string   `json:"state"`
		Name      string   `json:"name"`
		Policy    string   `json:"policy"`
		Installed string   `json:"installed"`
		Tags      []string `json:"tags"`
		Protected bool     `json:"protected"`
	}
)

func newSchema(t testing.TB) *rule.Schema {
	t.Helper()
	s, err := rule.NewSchema(map[string]any{"facts": machine{}, "meta": map[string]any{}, "node": &node{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// readNode is the machine of the manual, as encoding/json gives it.
func readNode(t testing.TB) map[string]any {
	t.Helper()
	raw, err := os.ReadFile("testdata/node.json")
	if err != nil {
		t.Fatal(err)
	}
	roots := decode(t, string(raw))
	lacking(roots, map[string]string{"usb": "timeout: port 1-4: no answer"})
	return roots
}

// lacking makes sections of the facts incomplete.
func lacking(roots map[string]any, sections map[string]string) {
	tree := roots["facts"].(map[string]any)
	for section, why := range sections {
		tree[section] = rule.Incomplete{Tree: tree[section], Why: fmt.Sprintf("facts.%s is incomplete: %s", section, why)}
	}
}

func decode(t testing.TB, doc string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(doc))
	decoder.UseNumber()
	var roots map[string]any
	if err := decoder.Decode(&roots); err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestSchemaRoots(t *testing.T) {
	tests := []struct {
		name  string
		roots map[string]any
		want  string
	}{
		{"a root may not be named like a unit", map[string]any{"GiB": machine{}}, `read root "GiB": not a name that a root may have`},
		{"a root may not be named like a function", map[string]any{"len": machine{}}, `read root "len": not a name that a root may have`},
		{"a root is one word", map[string]any{"a.b": machine{}}, `read root "a.b": not a name that a root may have`},
		{"a root needs a sample", map[string]any{"facts": nil}, `read root "facts": no sample value`},
		{"a channel is no fact", map[string]any{"x": struct{ C chan int }{}}, `read root "x": field C: a chan int has no form in JSON`},
		{"the keys of an object are strings", map[string]any{"x": map[int]string{}}, `read root "x": a map[int]string has keys that are not strings`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := rule.NewSchema(test.roots)
			if err == nil || err.Error() != test.want {
				t.Errorf("NewSchema = %v; want %s", err, test.want)
			}
		})
	}
}

// A schema reads the same names and kinds that encoding/json writes.
func TestSchemaFields(t *testing.T) {
	type Inner struct {
		Deep int `json:"deep"`
	}
	type tree struct {
		Inner
		Plain    string
		Hidden   int             `json:"-"`
		Quoted   int             `json:"quoted,string"`
		When     time.Time       `json:"when"`
		Raw      json.RawMessage `json:"raw"`
		Bytes    []byte          `json:"bytes"`
		Children []*tree         `json:"children"`
		Sizes    map[string]int  `json:"sizes"`
		private  int
	}
	s, err := rule.NewSchema(map[string]any{"x": tree{private: 1}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, rule, want string }{
		{"an embedded struct gives its fields", `x.deep == 1`, ""},
		{"a field without a tag has its Go name", `x.Plain == "a"`, ""},
		{"a field named - is left out", `x.Hidden == 1`, "unknown fact x.Hidden"},
		{"an unexported field is left out", `x.private == 1`, "unknown fact x.private"},
		{"a number with the option string is a string", `x.quoted == "1"`, ""},
		{"a time is a string", `x.when startsWith "2026"`, ""},
		{"raw JSON may hold anything", `x.raw.a[0].b == 2`, ""},
		{"bytes are a string", `x.bytes == "AAEC"`, ""},
		{"a type may contain itself", `any(x.children, any(.children, .deep == 3))`, ""},
		{"a map has free keys of one kind", `x.sizes.anything > 3`, ""},
		{"and the kind is checked", `x.sizes.anything > "3"`, "cannot compare x.sizes.anything (number) with \"3\" (string)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.Compile(test.rule)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Compile(%q) = %v; want %q", test.rule, err, test.want)
			}
		})
	}
}

func TestTree(t *testing.T) {
	yes := true
	tree, err := rule.Tree(machine{Schema: 1, Memory: &memory{TotalBytes: 1 << 62}, Disks: []disk{{Name: "sda", Rotational: &yes}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newSchema(t).Compile(`facts.memory.total_bytes == 4611686018427387904 and facts.disks[0].rotational and not facts.disks[0].removable`)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Eval(&rule.Env{Roots: map[string]any{"facts": tree}}); got.Verdict != rule.Yes {
		t.Errorf("Eval on a tree made of structs = %+v; want yes", got)
	}
	if _, err := rule.Tree(func() {}); err == nil {
		t.Error("Tree of a function: no error")
	}
}

// A zeroed type says itself when it is left out.
type zeroed struct{ N int }

func (z zeroed) IsZero() bool { return z.N == 7 }

// Trees are what encoding/json makes of the same value, whatever is in it.
func TestTreeIsWhatJSONSays(t *testing.T) {
	yes, none := true, (*int)(nil)
	type embedded struct {
		Deep int `json:"deep"`
	}
	for name, v := range map[string]any{
		"nothing": nil, "a machine": machine{}, "a pointer": &machine{Arch: "x", CPU: &cpu{}, Disks: []disk{}},
		"a full machine": machine{Schema: 1, Memory: &memory{TotalBytes: 1 << 62}, Disks: []disk{{Name: "sda", Rotational: &yes, Removable: true}, {}},
			NICs: []nic{{IPv4: []string{"a"}, LLDP: []neighbor{}}}, Custom: map[string]string{"a": "b", "\xff": "\xff"}, BMC: &bmc{}},
		"text": "a\xffb<>&\u2028", "numbers": []any{1, int8(-1), uint64(1 << 63), 3.0, 2.5, 1e30, json.Number("7")},
		"time": time.Unix(0, 0).UTC(), "times": []time.Time{{}}, "raw": map[string]any{"r": json.RawMessage(`{"a":[1.0]}`)},
		"bytes": []byte{1}, "an array": [2]int{1, 2}, "a map by numbers": map[int]string{1: "a"}, "nil inside": []any{nil, none, []string(nil), map[string]int(nil)},
		"embedded": struct {
			embedded
			A int
		}{}, "quoted": struct {
			A int `json:"a,string"`
		}{A: 5}, "dash": struct {
			A int `json:"-"`
			B int
			c int
		}{c: 1}, "zero": struct {
			A zeroed    `json:"a,omitzero"`
			B zeroed    `json:"b,omitempty"`
			C [0]int    `json:"c,omitempty"`
			D time.Time `json:"d,omitzero"`
			E []int     `json:"e,omitzero"`
			F []int     `json:"f,omitempty"`
			G any       `json:"g,omitempty"`
			H float64   `json:"h,omitempty"`
		}{A: zeroed{7}, E: []int{}, F: []int{}},
	} {
		got, err := rule.Tree(v)
		want, wantErr := any(nil), error(nil)
		if v != nil {
			want, wantErr = rule.TreeThroughText(v)
		}
		if diff := cmp.Diff(want, got); diff != "" || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %v, %v: -encoding/json +ours\n%s", name, wantErr, err, diff)
		}
	}
}
