package inspection_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/rule/inspection"
)

// python runs a program on a JSON document and reads another one, or skips the test where there is no Python.
func python(t *testing.T, program string, in, out any) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("there is no python3, whose answers these are")
	}
	doc, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", "import ipaddress, json, re, sys, warnings\nwarnings.simplefilter('ignore')\n"+program)
	cmd.Stdin = bytes.NewReader(doc)
	answer, err := cmd.Output()
	if err != nil {
		t.Fatalf("python3: %v", err)
	}
	decode(t, answer, out)
}

// pythonValues are what facts and rules may hold, as JSON.
var pythonValues = []string{
	`null`, `true`, `false`, `0`, `1`, `-7`, `32`, `9223372036854775807`, `-9223372036854775808`, `9007199254740993`,
	`0.0`, `-0.0`, `1.0`, `2.5`, `-2.5`, `0.1`, `1e15`, `1e16`, `123456789012345680.0`, `1e-4`, `1e-5`, `1.5e-7`, `1e22`, `1.7976931348623157e308`, `9007199254740992.0`,
	`""`, `"a"`, `"32"`, `" 32\n"`, `"+7"`, `"-7"`, `"007"`, `"1_000"`, `"1__0"`, `"_1"`, `"1_"`, `"0x10"`, `"2100.0"`, `"2."`, `".5"`, `"."`, `"1e3"`, `"1e400"`, `"inf"`, `"-Infinity"`, `"nan"`,
	`"0x1p4"`, `"x86_64"`, `"true"`, `"None"`, `"é"`, `"b"`, `"B"`, `"10"`, `"9"`, `"9223372036854775807"`,
	`[]`, `{}`, `["a"]`, `["a","b",1,2.0,null,true]`, `[["it's"],["\"", "it's \"x\""],["\\ \n\t\r\u0001\u00e9\u200b\ud83d\ude00\u00a0"]]`, `[1]`, `[true]`, `[1.0]`, `{"a":1}`, `{"a":true}`, `{"a":1,"b":2}`,
}

// A value has the text, the number and the order that Python gives it.
func TestValuesAreThoseOfPython(t *testing.T) {
	var in []any
	for _, doc := range pythonValues {
		var v any
		decode(t, []byte(doc), &v)
		in = append(in, v)
	}
	type answers struct {
		Text, Int, Float, Equal, Order, Shown []string
	}
	var want, got answers
	python(t, `
def tried(f):
    try: return f()
    except (TypeError, ValueError, OverflowError): return 'error'
def objects(v): return isinstance(v, dict) or isinstance(v, list) and any(map(objects, v))
vs = json.load(sys.stdin)
out = {'Text': [], 'Int': [], 'Float': [], 'Equal': [], 'Order': [], 'Shown': [json.dumps(v) for v in vs]}
for v in vs:
    out['Text'].append('error' if objects(v) else str(v))
    out['Int'].append(tried(lambda: str(int(v)) if -2**63 <= int(v) < 2**63 else 'error'))
    out['Float'].append(tried(lambda: str(float(v))))
    for w in vs:
        out['Equal'].append('%s == %s: %s' % (json.dumps(v), json.dumps(w), v == w))
        if not isinstance(v, list) and not isinstance(w, list):
            out['Order'].append('%s < %s: %s' % (json.dumps(v), json.dumps(w), tried(lambda: v < w)))
json.dump(out, sys.stdout)`, in, &want)
	shown := want.Shown
	got.Shown = shown
	words := map[bool]string{true: "True", false: "False"}
	list := func(v any) bool { _, is := v.([]any); return is }
	for i, v := range in {
		got.Text = append(got.Text, orError(inspection.Text(v)))
		native := inspection.Native(v)
		n, ok := inspection.Integer(native)
		got.Int = append(got.Int, orError(fmt.Sprint(n), ok))
		f, ok := inspection.Float(native)
		s, _ := inspection.Text(f)
		got.Float = append(got.Float, orError(s, ok))
		for j, w := range in {
			got.Equal = append(got.Equal, fmt.Sprintf("%s == %s: %s", shown[i], shown[j], words[inspection.Equal(v, w)]))
			if !list(v) && !list(w) {
				order, ok := inspection.Compare(native, inspection.Native(w))
				got.Order = append(got.Order, fmt.Sprintf("%s < %s: %s", shown[i], shown[j], orError(words[order < 0], ok)))
			}
		}
	}
	for i, doc := range pythonValues {
		if doc == `"1_000"` {
			want.Float[i] = "error" // float takes no underscores here
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-Python +got\n%s", diff)
	}
}

func orError(s string, ok bool) string {
	if !ok {
		return "error"
	}
	return s
}

// pythonPatterns are taken; Python finds the same in each of pythonTexts.
var pythonPatterns = []string{
	`PowerEdge`, `PowerEdge R6[0-9]+`, `PowerEdge|R640`, `R640|PowerEdge`, `a|b`, `(?:a|b)`, `(?i)poweredge.*`, `(?i:power)Edge.*`, `.*`, `.+`, `a$`, `^a$`, `a\Z`, `\Aa`, `a$|b`, `[$]`, `[^$]`, `\$`,
	`x{2}`, `x{2,}`, `x{1,2}?`, `x{`, `x{}`, `x{a}`, `[]a]`, `[^]a]`, `[a\]]`, `[[]`, `[a&&b]`, `[\w.-]+`, `\d+`, `\D`, `\s`, `\S+`, `\w`, `\W`, `[\d]`, `[\D]`, `[^\w]`, `[\s]`, `[^\s]`, `\bR`, `\BR`, `(?P<n>a)`, `(a)(b)?`, `a*?b`, `\.`, `\-`, `\_`, `a\x62`, `\t`,
	`(?s)a.b`, `(?m)^b$`, `(?s:a.b)`, `a.b`, `(?-i:a)`, `()`, `^`, `$`, `\\`, `[\\]`, `é`, `(?im)^B$`, `a$\n?`, `a|b$`,
}

// pythonRefused are refused here; most of them Python takes.
var pythonRefused = []string{
	`(a)\1`, `(?P<n>a)(?P=n)`, `(?=a)`, `a(?!b)`, `(?<=a)b`, `(?<!a)b`, `(?#c)a`, `(?(1)a|b)`, `x{,3}`, `x{,}`, `\u00e9`, `\0`, `\07`, `[\b]`, `[[:alpha:]]`, `(?x)a b`, `(?a)\w`, `(?u)\w`, `a(?i)b`,
	`\pL`, `\p{L}`, `\Qa`, `\z`, `\h`, `(?<n>a)`, `\x{41}`, `(?U)a+`, `a**`, `a*+`, `a++`, `x{2}{3}`, `x{1001}`, `(`, `)`, `a)(b`, `[a`, `[`, `a\`, `*`, `(?`, `(?P`, `\é`, `[\A]`, `[\W]`, `[\S]`, `\C`, `(?>a)`, `\8`,
}

var pythonTexts = []string{"", "a", "b", "ab", "aXb", "a\nb", "a\n", "b\n", "A", "PowerEdge R640", "PowerEdge", "R640", "xx", "xxx", "x{", "x{}", "x{a}", "$", "&&", "]", "[", "^", "3", "a.b-c", "é", "\\", "\t", "_", "-", ".", "٣", "²", "Ⅷ", "e\u0301", "\u00a0", "\u2028", "\x1f", "\v", "\u200b"}

// A pattern that is taken finds what it finds in Python.
func TestPatternsAreThoseOfPython(t *testing.T) {
	var want, got []string
	python(t, `
patterns, texts = json.load(sys.stdin)
out = []
for p in patterns:
    for s in texts:
        full = p if p.endswith('$') else p + '$'
        out.append('%s %s %s %s' % (json.dumps(p), json.dumps(s), re.match(full, s) is not None, re.search(p, s) is not None))
json.dump(out, sys.stdout)`, [][]string{pythonPatterns, pythonTexts}, &want)
	words := map[bool]string{true: "True", false: "False"}
	i := 0
	for _, p := range pythonPatterns {
		for _, s := range pythonTexts {
			full, taken := inspection.Match(p, s, true)
			part, _ := inspection.Match(p, s, false)
			line := words[full] + " " + words[part]
			if !taken {
				line = "refused"
			}
			if have := fmt.Sprintf("%q %q %s", p, s, line); len(want[i]) < len(line) || want[i][len(want[i])-len(line):] != line {
				got = append(got, have+"; Python says "+want[i])
			}
			i++
		}
	}
	if diff := cmp.Diff([]string(nil), got); diff != "" {
		t.Errorf("-Python +got\n%s", diff)
	}
}

func TestPatternsThatAreRefused(t *testing.T) {
	for _, p := range pythonRefused {
		if _, taken := inspection.Match(p, "a", false); taken {
			t.Errorf("%s is taken", p)
		}
	}
	if _, taken := inspection.Match("", "a", true); taken {
		t.Error("an empty pattern is taken by matches, whose Python fails")
	}
}

// Networks and addresses of one version are in each other as Python's own library has it.
func TestNetworksAreThoseOfPython(t *testing.T) {
	networks := []string{"10.0.0.0/8", "10.20.30.40/8", "10.20.0.17", "0.0.0.0/0", "10.20.0.17/32", "fd00::/16", "fd00::1", "::/0", "fd00::ffff/64", "::ffff:10.0.0.0/104"}
	addresses := []string{"10.20.0.17", "10.0.0.0", "11.0.0.0", "255.255.255.255", "fd00:20::17", "::1", "::ffff:10.0.0.1", "FD00::1"}
	var want, got []string
	python(t, `
networks, addresses = json.load(sys.stdin)
out = []
for n in networks:
    for a in addresses:
        net, addr = ipaddress.ip_network(n, strict=False), ipaddress.ip_address(a)
        out.append('%s in %s: %s' % (a, n, addr.version == net.version and addr in net))
json.dump(out, sys.stdout)`, [][]string{networks, addresses}, &want)
	for _, n := range networks {
		for _, a := range addresses {
			yes, taken := inspection.InNet(n, a)
			got = append(got, fmt.Sprintf("%s in %s: %s", a, n, orError(map[bool]string{true: "True", false: "False"}[yes], taken)))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-Python +got\n%s", diff)
	}
	for _, n := range []string{"", "10.0.0.0/33", "10.0.0/8", "10", "10.0.0.0/255.0.0.0", "not-a-net", "fd00::%eth0/64", "10.0.0.0/8 "} {
		if _, taken := inspection.InNet(n, "10.0.0.1"); taken {
			t.Errorf("network %q is taken", n)
		}
	}
	for _, a := range []string{"", "10.0.0", "fd00::1%eth0", "None", "10.0.0.1/32"} {
		if _, taken := inspection.InNet("10.0.0.0/8", a); taken {
			t.Errorf("address %q is taken", a)
		}
	}
}
