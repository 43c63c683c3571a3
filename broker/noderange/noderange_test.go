package noderange

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rack is r1n01..r1n12 and r2n1..r2n3, and what makes names hard.
func rack() (nodes []Node, tags []string) {
	add := func(host string, carries, undecided []string) {
		id := fmt.Sprintf("node%d", len(nodes)+1)
		short, _, dotted := strings.Cut(host, ".")
		n := Node{ID: id, Names: []string{host, fmt.Sprintf("52:54:00:00:00:%02x", len(nodes)+1)}, Carries: carries, Undecided: undecided}
		if dotted {
			n.Short = short
		}
		nodes = append(nodes, n)
	}
	for i := 1; i <= 12; i++ {
		var gpu, prod []string
		if i%2 == 0 {
			gpu = []string{"gpu"}
		}
		if i == 3 {
			prod = []string{"prod"}
		}
		add(fmt.Sprintf("r1n%02d.example.net", i), gpu, prod)
	}
	for i := 1; i <= 3; i++ {
		add(fmt.Sprintf("r2n%d.example.net", i), []string{"prod", "gpu"}, nil)
	}
	add("web-1.a.example.net", nil, nil)
	add("web-1.b.example.net", nil, nil)
	add("r2n1", nil, nil) // the whole name of this one, the short name of another
	return nodes, []string{"gpu", "prod", "old"}
}

func hosts(t *testing.T, nodes []Node, ids []string) string {
	t.Helper()
	var names []string
	for _, n := range nodes {
		if slices.Contains(ids, n.ID) {
			names = append(names, strings.TrimSuffix(n.Names[0], ".example.net"))
		}
	}
	return strings.Join(names, " ")
}

// TestSelect is Z26 by hand: what an operator writes, and what is meant or said.
func TestSelect(t *testing.T) {
	nodes, tags := rack()
	for _, tt := range []struct{ name, text, want string }{
		{"one by its id", "node2", "r1n02"},
		{"one by its short name", "r1n02", "r1n02"},
		{"one by its whole name", "R1N02.example.net", "r1n02"},
		{"one by a MAC", "52:54:00:00:00:0c", "r1n12"},
		{"zeros in front are kept", "r1n[08-11]", "r1n08 r1n09 r1n10 r1n11"},
		{"without zeros there are none", "r2n[1-3]", "r2n2 r2n3 r2n1"},
		{"a list in a bracket", "r1n[01,04-05,12]", "r1n01 r1n04 r1n05 r1n12"},
		{"every combination", "r[1-1]n[01-02],r2n[2,3]", "r1n01 r1n02 r2n2 r2n3"},
		{"blanks and doubles do not matter", " r1n01 , r1n01,node1 ", "r1n01"},
		{"a regular expression, all of a name", "/r1n0[12].*/", "r1n01 r1n02"},
		{"an alternative is anchored on both sides", "/r1n01|1n02/", "r1n01"},
		{"a comma and a slash in an expression", `/r1n0{1,2}1|a\/b/`, "r1n01"},
		{"a tag", "@prod", "r2n1 r2n2 r2n3"},
		{"those of a bracket that carry a tag", "r1n[01-04]@gpu", "r1n02 r1n04"},
		{"both tags", "@gpu@prod", "r2n1 r2n2 r2n3"},
		{"not these", "r1n[01-03],-r1n02", "r1n01 r1n03"},
		{"an exclusion wins wherever it stands", "-r1n02,r1n[01-03],node2", "r1n01 r1n03"},
		{"not what a tag has, nor where it is undecided", "r1n[01-04],r2n2,-@prod", "r1n01 r1n02 r1n04"},
		{"all, said aloud, but", "all,-/r1.*/,-/web.*/,-@prod", "r2n1"},
		{"a whole name comes before a short one", "r2n1", "r2n1"},

		{"a name that nobody has", "r1n[11-14]", "no node is called r1n13, r1n14 (by id, hostname or MAC)"},
		{"an exclusion that nobody has", "all,-r1n99", "no node is called r1n99 (by id, hostname or MAC)"},
		{"two answer to a short name", "web-1", "web-1 is the name of node16 and node17: say the id or the whole hostname"},
		{"a tag that does not exist", "all,-@prodd", `@prodd: there is no tag "prodd"`},
		{"a tag that no node has", "@old", "@old means no node"},
		{"a tag that is only undecided", "r1n03@prod", "r1n03@prod means no node (undecided on 1)"},
		{"an expression that spares nothing", "all,-/r3.*/", "/r3.*/ means no node: the expression has to match a whole name"},
		{"half of a name", "/r1n/", "/r1n/ means no node: the expression has to match a whole name"},
		{"nothing is left", "r1n01,-r1n01", "the exclusions leave no node"},
		{"only exclusions", "-r1n01", "node range, offset 0: only exclusions: say what they are taken from, such as all,-r1n01"},
		{"nothing", "", "node range, offset 0: a term is missing"},
		{"an empty term", "r1n01,,r1n02", "node range, offset 6: a term is missing"},
		{"a bracket without end", "r1n[01-04", "node range, offset 9: want , or ] in a bracket"},
		{"backwards", "r1n[04-01]", "node range, offset 9: 4 to 1 runs backwards"},
		{"ends of different width", "r1n[1-04]", "node range, offset 8: the ends of a range of numbers are written with as many digits"},
		{"letters in a bracket", "r1n[a-c]", "node range, offset 4: want a number of 1 to 9 digits in a bracket"},
		{"a glob", "r1n*", "node range, offset 3: '*' is not expected here: terms are separated by commas"},
		{"too many", "r[1-200]n[1-200]", "node range, offset 15: the range makes more than 10000 names"},
		{"far too many", "n[000000000-999999999]", "node range, offset 21: the range makes more than 10000 names"},
		{"too many in several terms", "n[1-9999],m[1-9]", "node range, offset 15: the range makes more than 10000 names"},
		{"an expression without end", "/abc", "node range, offset 0: the regular expression has no / at its end"},
		{"a bad expression", "/a(/", "node range, offset 0: missing closing ): `^(?:a()$`"},
		{"an at sign alone", "r1n01@", "node range, offset 6: the name of a tag is missing after @"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			r, err := Parse(tt.text)
			if err == nil {
				var s Selection
				s, err = r.Select(nodes, tags)
				got = hosts(t, nodes, s.IDs)
			}
			if err != nil {
				got = err.Error()
			}
			if strings.TrimPrefix(got, "node range, ") != strings.TrimPrefix(tt.want, "node range, ") {
				t.Errorf("%s\n got %s\nwant %s", tt.text, got, tt.want)
			}
		})
	}
}

func TestUndecidedNodesAreTold(t *testing.T) {
	nodes, tags := rack()
	for text, want := range map[string]map[string]string{
		"r1n[01-04],-@prod": {"node3": "prod"},
		"@prod":             {"node3": "prod"},
		"@prod,r1n03":       {},
		"@gpu":              {},
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Select(nodes, tags)
		if diff := cmp.Diff(want, s.Undecided); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

func TestNameIsOneNameOnly(t *testing.T) {
	for text, want := range map[string]string{"Node1": "node1", "a.b-c": "a.b-c", "n[1]": "", "a,b": "", "all": "", "@a": "", "a@b": "", "/a/": "", "a,-b": ""} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := r.Name(); got != want && ok || ok != (want != "") {
			t.Errorf("Name of %s = %q, %v; want %q", text, got, ok, want)
		}
	}
}

// TestZ26SetsAgree writes random ranges whose meaning is counted out number by number, and compares.
func TestZ26SetsAgree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(26, 1))
	nodes, tags := rack()
	for range 3000 {
		var words []string
		in, out := map[string]bool{}, map[string]bool{}
		for range 1 + rnd.IntN(4) {
			lo := 1 + rnd.IntN(12)
			hi := lo + rnd.IntN(13-lo)
			word, tag := fmt.Sprintf("r1n[%02d-%02d]", lo, hi), rnd.IntN(3) == 0
			if tag {
				word += "@gpu"
			}
			exclude := rnd.IntN(3) == 0
			set := in
			if exclude {
				word, set = "-"+word, out
			}
			words = append(words, word)
			for i := 1; i <= 12; i++ {
				if i >= lo && i <= hi && (!tag || i%2 == 0) {
					set[fmt.Sprintf("node%d", i)] = true
				}
			}
		}
		var want []string
		for _, n := range nodes {
			if in[n.ID] && !out[n.ID] {
				want = append(want, n.ID)
			}
		}
		text := strings.Join(words, ",")
		var s Selection
		r, err := Parse(text)
		if err == nil {
			s, err = r.Select(nodes, tags)
		}
		if diff := cmp.Diff(want, s.IDs); diff != "" && err == nil || err != nil && len(want) > 0 && !strings.Contains(err.Error(), "means no node") {
			t.Fatalf("%s: %v (-want +got):\n%s", text, err, diff)
		}
	}
}

// FuzzParse: whatever is written, a range is bounded, its error has a place in it, and selecting from it ends.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"r[01-04]n[01-36],-r01n07@gpu", `/r1\/[0-9]{1,3}/,all`, "n[1-9999],m[1-9999]", "[,-@/"} {
		f.Add(s)
	}
	nodes, tags := rack()
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		var fault *Error
		if err != nil {
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(s) {
				t.Fatalf("Parse(%q) = %v", s, err)
			}
			return
		}
		made := 0
		for _, x := range r.terms {
			made += len(x.names)
		}
		if made > MaxNames {
			t.Fatalf("Parse(%q) makes %d names", s, made)
		}
		if sel, err := r.Select(nodes, tags); err == nil && len(sel.IDs) == 0 {
			t.Fatalf("Select(%q) gives nothing and no error", s)
		}
	})
}
