package facts

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// plantedCheckIn is a check-in with all the facts of the planted machine.
func plantedCheckIn(f *testing.F) []byte {
	f.Helper()
	b, err := os.ReadFile("testdata/planted.json")
	if err != nil {
		f.Fatal(err)
	}
	return []byte(checkIn(string(b)))
}

// FuzzDecodePython (Z11): of what is accepted, Python reads the same values, and sees no key twice.
func FuzzDecodePython(f *testing.F) {
	python, err := exec.LookPath("python3")
	if err != nil {
		f.Skip(err)
	}
	cmd := exec.Command(python, "-c", `
import json, sys
def once(pairs):
    if len(dict(pairs)) != len(pairs): raise ValueError("a key twice")
    return dict(pairs)
for line in sys.stdin:
    try: print(json.dumps(json.loads(bytes.fromhex(line), object_pairs_hook=once)).encode().hex(), flush=True)
    except Exception as e: print("!", repr(e), flush=True)`)
	in, err := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err, err2, cmd.Start()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { in.Close(); cmd.Wait() })
	answers := bufio.NewReader(out)
	f.Add(plantedCheckIn(f))
	for _, facts := range []string{`{"schema":1,"arch":"\ud83d\ude00\u00e9"}`, `{"schema":1,"memory":{"total_bytes":9223372036854775807}}`,
		`{"schema":1,"cpu":{"stepping":-0}}`, `{"schema":1,"arch":"\ud800"}`, `{"schema":1,"arch":"\/\""}`} {
		f.Add([]byte(checkIn(facts)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := DecodeCheckIn(bytes.NewReader(body))
		if err != nil {
			return
		}
		if _, err := fmt.Fprintln(in, hex.EncodeToString(body)); err != nil {
			t.Fatal(err)
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		again, err := hex.DecodeString(strings.TrimSpace(answer))
		if err != nil {
			t.Fatalf("accepted %q; Python: %s", body, answer)
		}
		second, err := DecodeCheckIn(bytes.NewReader(again))
		if err != nil {
			t.Fatalf("accepted %q, but not as Python writes it, %q: %v", body, again, err)
		}
		if diff := cmp.Diff(second, got); diff != "" {
			t.Fatalf("decode %q: -Python +ours\n%s", body, diff)
		}
	})
}

// FuzzDotted (Z12): from the dotted names the whole document can be made again, so that no two facts share one.
func FuzzDotted(f *testing.F) {
	f.Add(plantedCheckIn(f))
	f.Add([]byte(checkIn(`{"schema":1,"optical":[],"disks":[{"id":"a","name":"","size_bytes":0,"partitions":[],"content":{"type":""}}],"custom":{}}`)))
	f.Add([]byte(checkIn(`{"schema":1,"cpu":{"flags":["a.b","0"]},"custom":{"a":"1","a_0":"x"}}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, err := DecodeCheckIn(bytes.NewReader(body))
		if err != nil || in.Facts == nil {
			return
		}
		tree, err := in.Facts.tree()
		if err != nil {
			t.Fatal(err)
		}
		want := integers(tree)
		var got any = map[string]any{}
		for name, v := range in.Facts.Dotted() {
			got = plantAt(got, strings.Split(name, "."), v)
		}
		if diff := cmp.Diff(want, lists(got)); diff != "" {
			t.Fatalf("of %q: -want +got\n%s", body, diff)
		}
	})
}

// plantAt puts a value into a tree of tables.
func plantAt(tree any, path []string, v any) any {
	if len(path) == 0 {
		return v
	}
	table, ok := tree.(map[string]any)
	if !ok {
		table = map[string]any{}
	}
	table[path[0]] = plantAt(table[path[0]], path[1:], v)
	return table
}

// lists turns tables whose keys are 0, 1, 2, ... into lists.
func lists(tree any) any {
	table, ok := tree.(map[string]any)
	if !ok {
		return tree
	}
	list := make([]any, 0, len(table))
	for i := range len(table) {
		if v, ok := table[strconv.Itoa(i)]; ok {
			list = append(list, lists(v))
		}
	}
	if len(table) > 0 && len(list) == len(table) {
		return list
	}
	for key, v := range table {
		table[key] = lists(v)
	}
	return table
}

// integers turns the numbers of a tree into int64.
func integers(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		for key, item := range v {
			v[key] = integers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = integers(item)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
	}
	return tree
}
