package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/render"
)

func shippedType(t *testing.T, name string) *Type {
	t.Helper()
	types, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if types[name] == nil {
		t.Fatalf("there is no type %s", name)
	}
	return types[name]
}

func TestShippedTypes(t *testing.T) {
	types, err := Shipped()
	if err != nil || len(types) != 5 {
		t.Fatalf("%d types, %v", len(types), err)
	}
	for name, is := range types {
		if is.Summary == "" {
			t.Errorf("%s has no summary", name)
		}
		for p, of := range is.Parameters {
			if of.Summary == "" {
				t.Errorf("%s: %s has no summary", name, p)
			}
		}
	}
}

// harmless are values that mean nothing to anybody; hostile ones are put in their places.
func values(word string) Values {
	return Values{Server: "https://192.0.2.10:8443", Policy: word, Node: Node{ID: word, Hostname: word, Tags: []string{word, word}, Metadata: map[string]any{"rack": word}},
		Config: map[string]string{}}
}

// configured fills every parameter of a type.
func configured(t *Type, word string) Values {
	v := values(word)
	for p := range t.Parameters {
		v.Config[p] = word
	}
	return v
}

// stubs are programs that write down their words, one to a line, and what is in their files.
func stubs(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		text := fmt.Sprintf("#!/bin/sh\nfor a in %s \"$@\"; do printf '%%s\\n' \"$a\"; done >>%s/did\n", name, dir)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

var hostile = []string{"harmless", "$(touch pwned) `touch pwned` ${HOME} *", "'; touch pwned; '", `"; touch pwned; "`, `\'; touch pwned; \'\`, "%s%n || touch pwned {{.Config}} é\u2028 ]]> !", "-x", "#"}

// T18: whatever is in a value, every program of a script gets it as the word that it is, and nothing else is run.
func TestT18ValuesStayWords(t *testing.T) {
	types, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	for name, is := range types {
		for _, word := range hostile {
			t.Run(name+"/"+word, func(t *testing.T) {
				dir, err := os.MkdirTemp("", "handoff") // t.TempDir has the value in its name
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				stubs(t, dir, "puppet", "salt-call", "ansible-pull", "systemctl", "git")
				if err := os.WriteFile(filepath.Join(dir, "mktemp"), []byte("#!/bin/sh\necho "+dir+"/vault\n"), 0o755); err != nil {
					t.Fatal(err)
				}
				v := configured(is, word)
				if name == "script" {
					v.Config["script"] = fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$MUSTER_NODE\" \"$MUSTER_HOSTNAME\" \"$MUSTER_POLICY\" \"$MUSTER_TAGS\" \"=$MUSTER_METADATA\" \"$MUSTER_SECRET\" >%s/did", dir)
				}
				text, err := is.Render(v)
				if err != nil {
					t.Fatal(err)
				}
				text = strings.ReplaceAll(text, "/etc/salt/", dir+"/")
				run := filepath.Join(dir, "run")
				if err := os.WriteFile(run, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("sh", run)
				cmd.Dir = dir
				cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("run: %v\n%s", err, out)
				}
				did, _ := os.ReadFile(filepath.Join(dir, "did"))
				conf, _ := os.ReadFile(filepath.Join(dir, "minion.d", "muster.conf"))
				if diff := cmp.Diff(strings.ReplaceAll(expected(name, word), "=VAULT", "="+dir+"/vault"), string(did)+string(conf)); diff != "" {
					t.Errorf("the programs got (-want +got):\n%s", diff)
				}
				if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
					t.Error("a value was run")
				}
			})
		}
	}
}

// expected are the words that the programs of a type get.
func expected(name, word string) string {
	text, _ := json.Marshal(word)
	meta, _ := json.Marshal(map[string]string{"rack": word})
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(map[string]string{
		"noop":         "",
		"script":       "W\nW\nW\nW W\n=M\nW\n",
		"puppet":       "puppet\nconfig\nset\n--section\nmain\nserver\nW\npuppet\nconfig\nset\n--section\nmain\ncertname\nW\npuppet\nconfig\nset\n--section\nagent\nenvironment\nW\npuppet\nagent\n--test\n--waitforcert=W\npuppet\nresource\nservice\npuppet\nensure=running\nenable=true\n",
		"ansible-pull": "ansible-pull\n--url=W\n--inventory=W,\n--extra-vars=M\n--checkout=W\n--vault-password-file=VAULT\n--\nW\n",
		"salt":         "systemctl\nenable\nsalt-minion\nsystemctl\nrestart\nsalt-minion\nsalt-call\n--retcode-passthrough\nstate.apply\nmaster: J\nid: J\nsaltenv: J\n",
	}[name], "=M\n", "="+string(meta)+"\n"), "J\n", string(text)+"\n"), "W", word)
}

// The programs of the field read what they are given: the minion's configuration is YAML with the values in it.
func TestSaltConfigurationIsYAML(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	if exec.Command(python, "-c", "import yaml").Run() != nil {
		t.Skip("python3 has no yaml")
	}
	var document strings.Builder
	for _, word := range hostile {
		text, err := json.Marshal(word)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&document, "- master: %s\n", text)
	}
	cmd := exec.Command(python, "-c", "import yaml,sys,json; print(json.dumps([x['master'] for x in yaml.safe_load(sys.stdin.buffer)]))")
	cmd.Stdin = strings.NewReader(document.String())
	out, err := cmd.Output()
	var got []string
	if err = errors.Join(err, json.Unmarshal(out, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(hostile, got); diff != "" {
		t.Errorf("the values are read as (-want +got):\n%s", diff)
	}
}

func TestTemplatesThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, text, says string }{
		{"a value as it is", "echo {{.Node.Hostname}}", "printed as it is"},
		{"a value as JSON only", "echo {{.Node.Metadata | json}}", "printed as it is"},
		{"a value after sh", "echo {{.Node.ID | sh | json}}", "printed as it is"},
		{"quotes of its own", "echo '{{.Node.ID | sh}}'", "quote is not closed"},
		{"double quotes of its own", `echo "{{.Node.ID | sh}}"`, "quote is not closed"},
		{"quotes around a branch", `echo "{{if .Policy}}{{.Policy | sh}}{{end}}"`, "quote is not closed"},
		{"in a branch", "{{if .Policy}}{{.Policy}}{{end}}", "printed as it is"},
		{"in the other branch", "{{if .Policy}}{{else}}{{.Policy}}{{end}}", "printed as it is"},
		{"in a loop", "{{range .Node.Tags}}{{.}}{{end}}", "printed as it is"},
		{"a function that is none here", `{{printf "%99999d" 1 | sh}}`, "no function printf"},
		{"html", `{{html .Policy | sh}}`, "no function html"},
		{"call", `{{if call .Policy}}{{end}}`, "no function call"},
		{"inside another", `{{or (print .Policy) .Policy | sh}}`, "no function print"},
		{"a loop without end", "{{range 9000000000000000000}}{{end}}", "range goes over a field"},
		{"a loop over a variable", "{{$x := 9000000000000}}{{range $x}}{{end}}", "range goes over a field"},
		{"loops in loops in loops", "{{range .Node.Tags}}{{range $.Node.Tags}}{{range $.Node.Tags}}{{end}}{{end}}{{end}}", "range goes over a field"},
		{"a template of its own", `{{define "a"}}{{template "a"}}{{template "a"}}{{end}}{{template "a"}}`, "define and block"},
		{"another install", `{{define "install"}}{{.Policy}}{{end}}`, "define and block"},
		{"itself", `{{template "run"}}`, "there is no part"},
		{"a field that is none", "{{.Node.Password | sh}}", "Password"},
		{"a parameter that is none", "{{.Config.server | sh}}", `no entry for key "server"`},
		{"no template", "{{if}}", "missing value for if"},
		{"much", strings.Repeat("x", render.MaxTemplate+1), "over 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New("own", nil, tt.text); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("New = %v; want %q", err, tt.says)
			}
		})
	}
}

func TestAnOwnTemplate(t *testing.T) {
	own, err := New("own", map[string]Parameter{"key": {Required: true, Secret: true}, "mode": {Default: "fast"}},
		"{{/* tags */}}{{range .Node.Tags}}{{range $k, $v := $.Node.Metadata}}tag {{$k | sh}}={{$v | sh}}\n{{end}}{{end}}{{with .Config.key}}key {{. | sh}}\n{{end}}mode {{.Config.mode | sh}} {{len .Node.Tags | sh}}\n")
	if err != nil {
		t.Fatal(err)
	}
	v := values("w")
	v.Config["key"] = "it's"
	got, err := own.Render(v)
	if want := "tag 'rack'='w'\ntag 'rack'='w'\nkey 'it'\\''s'\nmode 'fast' '2'\n"; err != nil || got != want {
		t.Errorf("Render = %q, %v; want %q", got, err, want)
	}
	v.Node.Tags = []string{"a\x00b"}
	for range 14 {
		v.Node.Tags = append(v.Node.Tags, v.Node.Tags...)
		v.Node.Metadata[fmt.Sprint(len(v.Node.Tags))] = strings.Repeat("x", 1000)
	}
	if _, err := own.Render(v); err == nil || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Errorf("a script without end: %v", err)
	}
}

// Metadata is what rules read: its values have types, and a script has them as people write them.
func TestMetadataInATemplate(t *testing.T) {
	meta := map[string]any{"n": 20261127001.0, "half": 0.5, "yes": true, "list": []any{"a b", 2.0, false}, "text": "it's"}
	for _, tt := range []struct{ name, text, want string }{
		{"a number has no exponent", "{{.Node.Metadata.n | sh}} {{.Node.Metadata.half | sh}}", "'20261127001' '0.5'"},
		{"a truth", "{{.Node.Metadata.yes | sh}}{{if .Node.Metadata.yes}} on{{end}}", "'true' on"},
		{"a list is JSON", "{{.Node.Metadata.list | sh}} {{.Node.Tags | sh}}", `'["a b",2,false]' '["w","w"]'`},
		{"a list that is joined", `{{join .Node.Metadata.list "," | sh}} {{join .Node.Tags ":" | sh}}`, "'a b,2,false' 'w:w'"},
		{"a list that is gone through", "{{range .Node.Metadata.list}}{{. | sh}};{{end}}", "'a b';'2';'false';"},
		{"what is not there", `{{index .Node.Metadata "none" | sh}} {{join (index .Node.Metadata "none") "," | sh}}`, "'' ''"},
		{"all of it", "{{.Node.Metadata | json | sh}}", `'{"half":0.5,"list":["a b",2,false],"n":20261127001,"text":"it'\''s","yes":true}'`},
		{"join of a text", `{{join .Node.Metadata.text "," | sh}}`, ""},
		{"a range over a number", "{{range .Node.Metadata.n}}x{{end}}", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			script, err := render.Parse("sh", tt.text, nil)
			if err != nil {
				t.Fatal(err)
			}
			v := values("w")
			v.Node.Metadata = meta
			got, err := script.Execute(v)
			if (err != nil) != (tt.want == "") || err == nil && got != tt.want {
				t.Errorf("%s = %s, %v; want %s", tt.text, got, err, tt.want)
			}
		})
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, of string
		config   map[string]string
		says     string
	}{
		{"one that is missing", "puppet", nil, "server is missing"},
		{"one that is empty", "puppet", map[string]string{"server": ""}, "server is missing"},
		{"one that is none", "puppet", map[string]string{"server": "p", "sever": "canary"}, `there is no "sever": there are certname, environment, server, wait`},
		{"two lines", "puppet", map[string]string{"server": "canary\nca_server = x"}, "server holds a control character"},
		{"a zero byte in a text", "script", map[string]string{"script": "canary\x00"}, "script holds a control character"},
		{"a long one", "script", map[string]string{"script": strings.Repeat("canary", maxValue)}, "script is over 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := values("w")
			v.Config = tt.config
			if _, err := shippedType(t, tt.of).Render(v); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "canary") {
				t.Errorf("Render = %v; want %q", err, tt.says)
			}
		})
	}
	for p, is := range map[string]Parameter{"A": {}, "a": {Required: true, Default: "x"}, "b": {Secret: true, Default: "x"}, "c-d": {}} {
		if _, err := New("own", map[string]Parameter{p: is}, "exit 0"); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("parameter %s %+v: %v", p, is, err)
		}
	}
}

// What a template of anybody's prints is quoted, or the template is refused. The judge is a real shell: a value that
// was printed bare would be a command.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{{.Policy | sh}}", "{{if .Policy}}x{{else}}y{{end}}", "{{range .Node.Tags}}{{. | sh}}{{end}}", `{{join .Node.Tags "," | json | sh}}`, "{{$x := .Policy}}{{$x | sh}}", "{{with $y := .Node}}{{$y.ID | sh}}{{end}}", `{{template "install"}}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		own, err := New("own", nil, text)
		if err != nil {
			return
		}
		const mark = "\x01canary\x01"
		got, err := own.Render(values(mark))
		if err != nil {
			return
		}
		// Without its single-quoted words nothing of a value is left.
		var bare bytes.Buffer
		for i, part := range strings.Split(strings.ReplaceAll(got, `'\''`, ""), "'") {
			if i%2 == 0 {
				bare.WriteString(part)
			}
		}
		if !strings.Contains(text, "'") && strings.Contains(bare.String(), mark) {
			t.Errorf("template %q prints a value bare: %q", text, got)
		}
	})
}
