package razor_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule"
	"muster/broker/rule/razor"
)

// A vector is a line of testdata/razor-rules.jsonl: what razor-server 1.9.9 says, and where muster differs, what it says.
type vector struct {
	ID       string          `json:"id"`
	Facts    map[string]any  `json:"facts"`
	Metadata map[string]any  `json:"metadata"`
	State    map[string]any  `json:"state"`
	Tags     []savedTag      `json:"-"`
	Rule     json.RawMessage `json:"rule"`
	answer
	Muster *answer `json:"muster"`
}

type answer struct {
	Valid   bool     `json:"valid"`
	Invalid []string `json:"invalid"`
	Result  *bool    `json:"result"`
	Error   string   `json:"error"`
}

type savedTag struct{ name, rule string }

// saved are the tags of a vector, as far as they could be saved.
type saved struct {
	programs map[string]*razor.Program
	codes    []string // of the first save that was refused
}

// save compiles a tag and looks for a cycle through it, as the broker does.
func (s *saved) save(name, src string) *razor.Program {
	p, err := razor.Compile(src)
	var faults razor.Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			s.codes = append(s.codes, string(f.Code))
		}
		return nil
	}
	s.programs[name] = p
	if rule.Cycle([]string{name}, s.refs) != nil {
		s.codes = append(s.codes, string(razor.Cycle))
		return nil
	}
	return p
}

func (s *saved) refs(tag string) []string {
	if p := s.programs[tag]; p != nil {
		return p.Tags()
	}
	return nil
}

// judge evaluates the rule on the node of a vector.
func (s *saved) judge(p *razor.Program, v vector) rule.Result {
	env := &razor.Env{Facts: v.Facts, Metadata: v.Metadata, State: v.State}
	env.Tag = func(name string) (rule.Result, bool) {
		if s.programs[name] == nil {
			return rule.Result{}, false
		}
		return s.programs[name].Eval(env), true
	}
	return p.Eval(env)
}

func TestVectors(t *testing.T) {
	vectors := readVectors(t)
	passed := 0
	for _, v := range vectors {
		want := v.answer
		if v.Muster != nil {
			want = *v.Muster
		}
		s := &saved{programs: map[string]*razor.Program{}}
		for _, tag := range v.Tags {
			if s.save(tag.name, tag.rule) == nil {
				break
			}
		}
		var got answer
		if len(s.codes) == 0 {
			if p := s.save("the rule under test", string(v.Rule)); p != nil {
				got = said(s.judge(p, v))
			}
		}
		slices.Sort(s.codes)
		got.Invalid = slices.Compact(s.codes)
		slices.Sort(want.Invalid)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s: -want +got\n%s", v.ID, v.Rule, diff)
			continue
		}
		passed++
	}
	t.Logf("%d of %d vectors", passed, len(vectors))
}

func said(r rule.Result) answer {
	yes := r.Verdict == rule.Yes
	if r.Verdict == rule.Undecided {
		return answer{Valid: true, Error: r.Code}
	}
	return answer{Valid: true, Result: &yes}
}

// readVectors skips the first line, which describes the file and says how many follow.
func readVectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/razor-rules.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var head struct{ Count int }
	var vectors []vector
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if head.Count == 0 {
			if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
				t.Fatal(err)
			}
			continue
		}
		vectors = append(vectors, readVector(t, lines.Bytes()))
	}
	if len(vectors) != head.Count || head.Count == 0 {
		t.Fatalf("read %d vectors; the file says %d", len(vectors), head.Count)
	}
	return vectors
}

func readVector(t testing.TB, line []byte) vector {
	t.Helper()
	var v vector
	var tags struct{ Tags json.RawMessage }
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if err := errors.Join(d.Decode(&v), json.Unmarshal(line, &tags)); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	v.Tags = inOrder(t, tags.Tags)
	return v
}

// inOrder reads the members of an object in the order of the file.
func inOrder(t testing.TB, object []byte) (tags []savedTag) {
	t.Helper()
	if len(object) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var body json.RawMessage
		if err := d.Decode(&body); err != nil {
			t.Fatal(err)
		}
		tags = append(tags, savedTag{name.(string), string(body)})
	}
	return tags
}
