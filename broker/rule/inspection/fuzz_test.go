package inspection_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"muster/broker/rule"
	"muster/broker/rule/inspection"
)

// FuzzInspection gives any text as a rule and any JSON as a node: no panic, the printed rule is the rule, and a rule is
// as valid and says the same, but for its cause, with its conditions in another order, as long as none of them fails.
func FuzzInspection(f *testing.F) {
	vectors, env := readVectors(f)
	whole, err := json.Marshal(env.Data)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors {
		f.Add(v.rule, string(whole))
	}
	f.Add(`{"conditions":[{"op":"eq","args":[["{inventory[a][0]}{{","{item[b]}"]],"loop":[{"b":-0.0}]},{"op":"!in-net","args":["::","::1/0"]}]}`, `{"inventory":{"a":[[]]}}`)
	f.Add(`{"conditions":[{"op":"matches","field":"*.'x y'[*][0]","value":"(?im)[]\\w\\]]\\Z|a$","multiple":"first"}]}`, `{"a":{"x y":[["\n"]]}}`)
	f.Add(`{"conditions":[{"op":"ne","field":"$","value":{"a":[1e3,null]}},{"op":"is-empty","field":"inventory.disks[*].wwn","invert":true}],"scope":""}`, `{"a":[1000,null]}`)
	f.Fuzz(func(t *testing.T, src, doc string) {
		p, err := names.Compile(src)
		turned, reversible := reversed(src)
		q, err2 := names.Compile(turned)
		if reversible && (err == nil) != (err2 == nil) && len(turned) <= 32<<10 {
			t.Fatalf("%q is %v, but turned around %v", src, err, err2)
		}
		if err != nil {
			return
		}
		var data map[string]any
		d := json.NewDecoder(strings.NewReader(doc))
		d.UseNumber()
		_ = d.Decode(&data) // data that are none are none
		inventory, _ := data["inventory"].(map[string]any)
		for _, lacking := range []map[string]string{nil, {"disks": "x", "boot": "y"}} {
			e := &inspection.Env{Data: data, Plugin: data, Node: inventory, Lacking: lacking}
			got := p.Explain(e)
			again, err := names.Compile(p.String())
			if err != nil {
				if len(p.String()) > 32<<10 {
					return // blanks made it longer than a rule may be
				}
				t.Fatalf("Compile(%q) prints %q: %v", src, p, err)
			}
			if r := again.Eval(e); p.String() != again.String() || r.Cause != got.Cause || r.Verdict != got.Verdict {
				t.Fatalf("%q is %+v, but as %q it is %+v", src, got, p, r)
			}
			if !reversible || q == nil {
				continue
			}
			if r := q.Eval(e); failed(r) == failed(got) && r.Verdict != got.Verdict {
				t.Fatalf("%q is %+v, but turned around %+v", src, got, r)
			}
		}
	})
}

// failed says that a condition could not be made. Before one that says no it is the answer; behind it nobody asks.
func failed(r rule.Result) bool {
	return r.Verdict == rule.Undecided && r.Code != string(inspection.Incomplete)
}

// reversed is a rule with its conditions from the last to the first.
func reversed(src string) (string, bool) {
	var object map[string]json.RawMessage
	var conditions []json.RawMessage
	d := json.NewDecoder(strings.NewReader(src))
	if d.Decode(&object) != nil || d.More() || json.Unmarshal(object["conditions"], &conditions) != nil || len(conditions) == 0 {
		return "", false
	}
	slices.Reverse(conditions)
	var err error
	if object["conditions"], err = json.Marshal(conditions); err != nil {
		return "", false
	}
	doc, err := json.Marshal(object)
	return string(doc), err == nil
}
