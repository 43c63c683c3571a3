package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// factsDir is a machine with these files in its facts.d; those that begin with #! are programs.
func factsDir(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, customDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCustomFacts(t *testing.T) {
	const sh = "#!/bin/sh\n"
	big := strings.Repeat("x", facts.MaxCustomValue+1)
	for _, tt := range []struct {
		name       string
		files      map[string]string
		want       map[string]string
		errors     []string // code and message
		incomplete bool
	}{
		{"no directory, no facts", nil, nil, nil, false},
		{"a text file", map[string]string{"a.txt": "# where it stands\r\n\nrow = 7 \r\nunit=a=b\n"}, map[string]string{"row": "7", "unit": "a=b"}, nil, false},
		{"a JSON file", map[string]string{"a.json": `{"row":7,"big":12345678901234567890,"ssd":true,"note":"ü <x>"}`},
			map[string]string{"row": "7", "big": "12345678901234567890", "ssd": "true", "note": "ü <x>"}, nil, false},
		{"a program that prints lines, and one that prints JSON", map[string]string{"a": sh + "echo row=7", "b.sh": sh + `echo '{"unit":"x"}'`},
			map[string]string{"row": "7", "unit": "x"}, nil, false},
		{"a program is told nothing of the agent", map[string]string{"a": sh + `echo "home=$HOME key=${MUSTER_BOOT_KEY-none} $(wc -c)"`},
			map[string]string{"home": "/ key=none 0"}, nil, false},
		{"programs stand above files, and the first name above the next",
			map[string]string{"a.txt": "row=file\nsame=1", "b.json": `{"row":"json","same":1}`, "z": sh + "echo row=program"},
			map[string]string{"row": "program", "same": "1"},
			[]string{`shadowed a.txt: custom fact "row" has another value already`, `shadowed b.json: custom fact "row" has another value already`}, false},
		{"the command line stands above all", map[string]string{"a": sh + "echo rack=evil; echo rack=r12"}, nil,
			[]string{`shadowed a: custom fact "rack" has another value already`}, false},
		{"facts that cannot be sent cost themselves", map[string]string{"a.json": `{"Row":1,"list":[1],"none":null,"esc":"\u001b[2J","sep":"\u2028","long":"` + big + `","good":"1"}`},
			map[string]string{"good": "1"}, []string{
				`parse a.json: custom fact "list": want a string, a number or a boolean`,
				`parse a.json: custom fact "none": want a string, a number or a boolean`,
				`parse a.json: custom fact "Row": bad name`,
				`parse a.json: custom fact "esc": control character`,
				`parse a.json: custom fact "sep": control character`,
				`parse a.json: custom fact "long": value of 1025 bytes; want at most 1024`,
			}, false},
		{"lines without a name or a value", map[string]string{"a.txt": "row\nunit=\n=x\n"}, nil,
			[]string{"parse a.txt: line 1: want name=value", `parse a.txt: custom fact "unit": no value`, `parse a.txt: custom fact "": bad name`}, false},
		{"files that are no facts", map[string]string{"a.json": "[1]", "b.json": `{"a":1} {"b":2}`, "c.txt": "a=\xff", "d.ini": "a: 1", ".hidden.txt": "h=1", "e.txt": "ok=1"},
			map[string]string{"ok": "1"}, []string{"parse a.json: want one JSON object", "parse b.json: want one JSON object",
				"parse c.txt: want UTF-8", "parse d.ini: want NAME.json, NAME.yaml, NAME.txt or a program"}, true},
		{"a YAML file", map[string]string{"a.yaml": "# where it stands\n---\nrow: 7\n\"unit\": 'a: b'\nssd: true\nbig: 12345678901234567890\nrev: 1.10\nday: 2024-01-02\n", "b.yml": "# nothing yet\n"},
			map[string]string{"row": "7", "unit": "a: b", "ssd": "true", "big": "12345678901234567890", "rev": "1.10", "day": "2024-01-02"}, nil, false},
		{"YAML facts that cannot be sent cost themselves", map[string]string{"a.yaml": "none: null\ntilde: ~\nlist: [1]\nmap: {a: 1}\nold: &x 1\nnew: *x\nBad: 1\nrow: |\n  a\n  b\nunit: 3\nunit: 4\n"},
			map[string]string{"old": "1", "unit": "3"}, []string{
				`parse a.yaml: line 1: custom fact "none": want a string, a number or a boolean`,
				`parse a.yaml: line 2: custom fact "tilde": want a string, a number or a boolean`,
				`parse a.yaml: line 3: custom fact "list": want a string, a number or a boolean`,
				`parse a.yaml: line 4: custom fact "map": want a string, a number or a boolean`,
				`parse a.yaml: line 6: custom fact "new": want a string, a number or a boolean`,
				`parse a.yaml: custom fact "Bad": bad name`,
				`parse a.yaml: custom fact "row": control character`,
				`shadowed a.yaml: custom fact "unit" has another value already`,
			}, false},
		{"files that are no YAML mapping", map[string]string{"a.yaml": "- 1", "b.yaml": "a: 1\n---\nb: 1", "c.yaml": "a: [", "d.yaml": "\xff", "e.yaml": "7", "f.yml": "ok: 1"},
			map[string]string{"ok": "1"}, []string{"parse a.yaml: want one YAML mapping", "parse b.yaml: want one YAML mapping",
				"parse c.yaml: yaml: line 1: did not find expected node content", "parse d.yaml: want UTF-8", "parse e.yaml: want one YAML mapping"}, true},
		{"a file of megabytes", map[string]string{"a.txt": strings.Repeat("a=1\n", 1<<20)}, nil, []string{"parse a.txt: more than 16 KiB"}, true},
		{"a program without end to its output", map[string]string{"a": sh + "yes a=1", "b.txt": "ok=1"}, map[string]string{"ok": "1"},
			[]string{"parse a: more than 16 KiB"}, true},
		{"a program that prints nothing, and one that says that it has nothing to say", map[string]string{"a": sh, "b": sh + "echo '# no rack'"}, nil,
			[]string{"parse a: printed nothing"}, true},
		{"a program that prints garbage", map[string]string{"a": sh + `printf '\377\000row=7\n'`, "b": sh + `printf '\033[2Jrow=7\nunit=\007\nrow\n{}\n'`}, nil,
			[]string{"parse a: want UTF-8", "parse b: line 3: want name=value", "parse b: line 4: want name=value",
				`parse b: custom fact "\x1b[2Jrow": bad name`, `parse b: custom fact "unit": control character`}, true},
		{"a program that fails says nothing", map[string]string{"a": sh + "echo row=7; printf 'no \\033[2Jrow' >&2; exit 3"}, nil,
			[]string{"io a: exit status 3: no [2Jrow"}, true},
		{"a program without its interpreter", map[string]string{"a": "#!/nonexistent/sh\n"}, nil, []string{"missing a: no such file or directory"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("MUSTER_BOOT_KEY", "secret")
			root := t.TempDir()
			if tt.files != nil {
				root = factsDir(t, tt.files)
			}
			r := Run(t.Context(), Options{Root: root, Programs: true, Deadline: patient, programTime: patient, Only: []string{"custom"}, Custom: map[string]string{"rack": "r12"}})
			want := map[string]string{"rack": "r12"}
			for k, v := range tt.want {
				want[k] = v
			}
			if diff := cmp.Diff(want, r.Facts.Custom); diff != "" {
				t.Errorf("custom: -want +got\n%s", diff)
			}
			var got []string
			for _, e := range r.Errors {
				if e.Collector != "custom" {
					t.Errorf("collector %q", e.Collector)
				}
				got = append(got, e.Code+" "+e.Msg)
			}
			if diff := cmp.Diff(tt.errors, got); diff != "" {
				t.Errorf("errors: -want +got\n%s", diff)
			}
			if (len(r.Facts.Incomplete) > 0) != tt.incomplete {
				t.Errorf("incomplete %v", r.Facts.Incomplete)
			}
			if err := r.Facts.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What hangs costs its own facts: a program, a program whose child keeps the pipe, a FIFO nobody writes to.
func TestCustomFactsDoNotHang(t *testing.T) {
	t.Parallel()
	root := factsDir(t, map[string]string{
		"a": "#!/bin/sh\necho a=1\nsleep 600",
		"b": "#!/bin/sh\necho b=1\nsleep 600 &",
		"c": "#!/bin/sh\ntrap '' TERM PIPE\nwhile :; do sleep 1; done",
		"d": "#!/bin/sh\necho d=1", "e.txt": "",
	})
	makeFIFO(t, filepath.Join(root, customDir, "e.txt"))
	// What hangs would do so for ever; d is given time to start on a busy machine.
	r := Run(t.Context(), Options{Root: root, Programs: true, Deadline: patient, programTime: 15 * time.Second, Only: []string{"custom"}})
	if diff := cmp.Diff(map[string]string{"d": "1"}, r.Facts.Custom); diff != "" {
		t.Errorf("custom: -want +got\n%s", diff)
	}
	var codes []string
	for _, e := range r.Errors {
		codes = append(codes, e.Code+" "+e.Msg[:1])
	}
	if diff := cmp.Diff([]string{"timeout a", "timeout b", "timeout c", "parse e"}, codes); diff != "" {
		t.Errorf("%v: -want +got\n%s", r.Errors, diff)
	}
}

// A copied machine is read, not run.
func TestProgramsOfAnotherRoot(t *testing.T) {
	root := factsDir(t, map[string]string{"a": "#!/bin/sh\necho a=1", "b.txt": "b=1"})
	r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"custom"}})
	if diff := cmp.Diff(map[string]string{"b": "1"}, r.Facts.Custom); diff != "" {
		t.Errorf("custom: -want +got\n%s", diff)
	}
	want := []facts.ProbeError{{Collector: "custom", Code: "denied", Msg: "a: a program of another root is not run: permission denied"}}
	if diff := cmp.Diff(want, r.Errors); diff != "" {
		t.Errorf("errors: -want +got\n%s", diff)
	}
}

func TestProgramsThatEverybodyCanWrite(t *testing.T) {
	root := factsDir(t, map[string]string{"a": "#!/bin/sh\necho a=1"})
	if err := os.Chmod(filepath.Join(root, customDir, "a"), 0o777); err != nil {
		t.Fatal(err)
	}
	r := Run(t.Context(), Options{Root: root, Programs: true, Deadline: patient, programTime: patient, Only: []string{"custom"}})
	if len(r.Facts.Custom) != 0 || len(r.Errors) != 1 || r.Errors[0].Code != "denied" {
		t.Errorf("custom %v, errors %v", r.Facts.Custom, r.Errors)
	}
}

func TestCustomFactsAreBounded(t *testing.T) {
	files := map[string]string{}
	for i := range maxSources + 2 {
		files[fmt.Sprintf("f%03d.txt", i)] = fmt.Sprintf("a%d=1\nb%d=1", i, i)
	}
	r := Run(t.Context(), Options{Root: factsDir(t, files), Deadline: patient, Only: []string{"custom"}, Custom: map[string]string{"rack": "r12"}})
	if n := len(r.Facts.Custom); n != facts.MaxCustom {
		t.Errorf("%d facts; want %d", n, facts.MaxCustom)
	}
	if n := len(r.Errors); n == 0 || n > maxErrors+1 {
		t.Errorf("%d errors", n)
	}
	if err := r.Facts.Validate(); err != nil {
		t.Error(err)
	}
}

// FuzzCustom (Z21): whatever a file or program says, what is taken of it can be sent.
func FuzzCustom(f *testing.F) {
	for _, s := range []string{"a=1\nb = 2\n#x", `{"a":1,"b":"x","c":true}`, `{"a":{"a":1},"a":2}`, "{", "a=\x00", `{"a":"\ud800"}`, `{"a":1e999}`} {
		f.Add([]byte(s))
	}
	for _, s := range []string{"a: 1\nb: x", "a: &x [*x, *x]", "{a: {b: [", "? [a]\n: 1", "a: 1\n---\n", "<<: {a: 1}", "a: !!binary /w==", "%YAML 9.9\n---\na: 1", "- - - - -"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), maxFactSet)]
		for _, parse := range []func([]byte) ([]customFact, []error, error){parseCustom, parseCustomYAML} {
			found, refused, err := parse(b)
			if err != nil && len(found) > 0 {
				t.Fatalf("facts beside %v", err)
			}
			set := customSet{taken: map[string]string{"rack": "r12"}, own: map[string]string{}}
			set.add(source{name: "f", facts: found, refused: refused})
			doc := facts.Facts{Schema: facts.Schema, Custom: set.own}
			if err := doc.Validate(); err != nil {
				t.Fatal(err)
			}
			if _, ok := set.own["rack"]; ok || len(set.own) >= facts.MaxCustom {
				t.Fatalf("%d facts, rack %v", len(set.own), ok)
			}
		}
	})
}

// What a program leaves running in its process group ends with it.
func TestProgramsLeaveNobody(t *testing.T) {
	root := factsDir(t, map[string]string{"a": "#!/bin/sh\nsleep 600 >/dev/null 2>&1 </dev/null &\necho child=$!"})
	r := Run(t.Context(), Options{Root: root, Programs: true, Deadline: patient, programTime: patient, Only: []string{"custom"}})
	child := r.Facts.Custom["child"]
	if child == "" {
		t.Fatalf("errors %+v", r.Errors)
	}
	for end := time.Now().Add(patient); ; time.Sleep(10 * time.Millisecond) { // a kill needs its moment
		stat, err := os.ReadFile("/proc/" + child + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %s lives on: %s", child, stat)
		}
	}
}

// A program that floods is ended at once, not at its deadline, and no more of it is kept than may be.
func TestBoundedOutput(t *testing.T) {
	ended := 0
	o := &boundedOutput{limit: 10, over: func() { ended++ }}
	for _, s := range []string{"12345", "67890", "x", "y"} {
		if n, err := o.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("Write(%q) = %d, %v", s, n, err)
		}
	}
	if o.bytes.String() != "1234567890" || !o.full || ended == 0 {
		t.Errorf("%q, full %t, ended %d times", o.bytes.String(), o.full, ended)
	}
}
