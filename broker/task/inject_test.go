package task

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"muster/broker/render"
)

// TestT18Injection: no text of a shipped task changes its structure for any of 10,000 hostile values. Each text is
// rendered with harmless values in all fields that it prints, and read by a parser of its format; then with hostile ones,
// which must be refused, or change nothing but the values that they are. Every value comes once into every template, the
// fields take turns.
func TestT18Injection(t *testing.T) {
	tasks, err := shippedOnce()
	if err != nil {
		t.Fatal(err)
	}
	values := hostile(10000)
	if testing.Short() {
		values = every(values, 10, 0)
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(tasks)) {
		if tasks[name].Abstract {
			continue
		}
		list := slices.DeleteFunc(documents(tasks[name]), func(d document) bool { // what a task has of another is tried once
			was := seen[d.source]
			seen[d.source] = true
			return was
		})
		for i, fixture := range Fixtures() {
			t.Run(name+"/"+fixture.Name, func(t *testing.T) {
				t.Parallel()
				v, err := fixture.For(tasks[name])
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range list {
					d.attack(t, v, every(values, len(Fixtures()), i))
				}
			})
		}
	}
}

// every gives each n-th member.
func every(list []string, n, from int) (some []string) {
	for i := from; i < len(list); i += n {
		some = append(some, list[i])
	}
	return some
}

// A document is one text of a task.
type document struct {
	name, format string
	of           func(v Values) (string, error)
	source       string
	task         *Task
}

func documents(t *Task) (list []document) {
	for _, r := range t.Recipes {
		format := orElse(r.Format, render.FormatOf(r.template()))
		if format == "ks" && t.Name == "esxi" {
			format = "esxi"
		}
		list = append(list, document{r.Name, format, func(v Values) (string, error) { return t.render(r.template(), v) }, t.texts[r.template()], t})
	}
	for _, f := range t.Files {
		if f.Template != "" {
			list = append(list, document{f.Path, orElse(f.Format, render.FormatOf(f.Template)), func(v Values) (string, error) { return t.render(f.Template, v) }, t.texts[f.Template], t})
		}
	}
	for _, s := range t.Stages {
		if s.Installer() {
			list = append(list, document{"step-" + s.Name, "step", func(v Values) (string, error) {
				step, err := t.step(s, v)
				text, lineErr := stepText(step)
				return text, errors.Join(err, lineErr)
			}, fmt.Sprint(s.Args, s.Kernel, s.Initrds, s.Chain, s.Inject), t})
		}
	}
	return list
}

// A field is a place of the values that a hostile machine, name or operator can fill.
type field struct {
	name string
	set  func(v *Values, s string)
	cut  string // characters that the field's methods split at: hostile values come without them
	tail string // what stands behind, so that they split there
}

// fieldsOf are all of them. A field that chooses (the version, a parameter with choices) is none: another branch of a
// template is no injection.
func fieldsOf(t *Task, v Values) []field {
	list := []field{
		{"Node.Hostname", func(v *Values, s string) { v.Node.Hostname = s }, ".", ".example.net"},
		{"Node.MAC", func(v *Values, s string) { v.Node.MAC = s }, ":", ""},
		{"Node.ID", func(v *Values, s string) { v.Node.ID = s }, "", ""},
		{"Node.Address", func(v *Values, s string) { v.Node.Address = s }, "", ""},
		{"Node.UUID", func(v *Values, s string) { v.Node.UUID = s }, "", ""},
		{"Node.Serial", func(v *Values, s string) { v.Node.Serial = s }, "", ""},
		{"Node.Tags", func(v *Values, s string) { v.Node.Tags = []string{s} }, "", ""},
		{"Disk.Name", func(v *Values, s string) { v.Disk.Name = s }, "", ""},
		{"Disk.ByID", func(v *Values, s string) { v.Disk.ByID = s }, "", ""},
		{"Disk.ByPath", func(v *Values, s string) { v.Disk.ByPath = s }, "", ""},
		{"Disk.Serial", func(v *Values, s string) { v.Disk.Serial = s }, "", ""},
		{"Disk.WWN", func(v *Values, s string) { v.Disk.WWN = s }, "", ""},
		{"Disk.Model", func(v *Values, s string) { v.Disk.Model = s }, "", ""},
		{"Repo.Name", func(v *Values, s string) { v.Repo.Name = s }, "", ""},
		{"Repo.URL", func(v *Values, s string) { v.Repo.URL = s }, "", ""},
		{"Policy", func(v *Values, s string) { v.Policy = s }, "", ""},
	}
	for name, p := range t.Parameters {
		set := func(v *Values, s string) { v.Param[name] = s }
		switch {
		case len(p.Choices) > 0 || p.kind() == Int || p.kind() == Bool:
			continue
		case p.kind() == List:
			set = func(v *Values, s string) { v.Param[name] = []any{s} }
		case p.kind() == Password: // hashed, unless it says that it is
			set = func(v *Values, s string) { v.Param[name] = "$" + s }
		}
		list = append(list, field{"Param." + name, set, "", ""})
	}
	for name, value := range v.Node.Metadata {
		if _, ok := value.(string); ok {
			list = append(list, field{"Node.Metadata." + name, func(v *Values, s string) { v.Node.Metadata[name] = s }, "", ""})
		}
	}
	slices.SortFunc(list, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return list
}

// filled is v with a text in each field.
func filled(v Values, fields []field, texts []string) Values {
	v.Param, v.Node.Metadata = maps.Clone(v.Param), maps.Clone(v.Node.Metadata)
	for i, f := range fields {
		f.set(&v, texts[i]+f.tail)
	}
	return v
}

func marks(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("Zq%03dzq", i))
	}
	return list
}

// attack renders a document with the values in the fields that it prints.
func (d document) attack(t *testing.T, v Values, values []string) {
	fields, picky := d.printed(t, v)
	if len(fields) == 0 {
		return
	}
	a := attack{document: d, v: v, fields: fields, marks: marks(len(fields))}
	text, err := d.of(filled(v, fields, a.marks))
	if err != nil {
		t.Fatalf("%s with harmless values: %v", d.name, err)
	}
	if a.harmless, err = tokens(d.format, text); err != nil {
		t.Fatalf("%s with harmless values: %v\n%s", d.name, err, text)
	}
	for at := 0; at < len(values) && !t.Failed(); at += len(fields) {
		texts := slices.Clone(a.marks)
		for i, f := range fields {
			texts[i] = cutAll(values[(at+i)%len(values)], f.cut)
		}
		a.try(t, 0, len(fields), texts)
	}
	if a.kept == 0 && len(values) > 100 {
		t.Errorf("%s took none of the values in %d fields: this proves nothing", d.name, len(fields))
	}
	for _, f := range picky {
		for _, s := range every(values, 16, 0) {
			if text, err := d.of(filled(v, []field{f}, []string{s})); err == nil {
				t.Errorf("%s took %q in %s, where it took no harmless word:\n%s", d.name, s, f.name, text)
			}
		}
	}
}

func cutAll(s, characters string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(characters, r) {
			return '_'
		}
		return r
	}, s)
}

// printed are the fields that change the text, and those that take no word at all, as an address.
func (d document) printed(t *testing.T, v Values) (fields, picky []field) {
	was, err := d.of(v)
	if err != nil {
		t.Fatalf("%s: %v", d.name, err)
	}
	for _, f := range fieldsOf(d.task, v) {
		text, err := d.of(filled(v, []field{f}, []string{"Zq000zq"}))
		other, otherErr := d.of(filled(v, []field{f}, []string{"Zq111zq"}))
		switch {
		case err != nil || otherErr != nil:
			picky = append(picky, f)
		case text != was && text != other:
			fields = append(fields, f)
		}
	}
	return fields, picky
}

type attack struct {
	document
	v        Values
	fields   []field
	marks    []string
	harmless []token
	kept     int
}

// try renders with the texts of some fields, the others harmless; when that is refused, with each half, so that one that
// is refused hides no other.
func (a *attack) try(t *testing.T, from, to int, texts []string) {
	some := slices.Clone(a.marks)
	copy(some[from:to], texts[from:to])
	text, err := a.of(filled(a.v, a.fields, some))
	if err != nil {
		if to-from > 1 {
			half := (from + to) / 2
			a.try(t, from, half, texts)
			a.try(t, half, to, texts)
		}
		return
	}
	a.kept++
	got, err := tokens(a.format, text)
	if err != nil {
		t.Errorf("%s with %q in %s does not parse: %v\n%s", a.name, some[from:to], names(a.fields[from:to]), err, text)
		return
	}
	pairs := make([]string, 0, 2*len(some))
	for i, m := range a.marks {
		pairs = append(pairs, m, some[i])
	}
	if why := differ(a.harmless, got, strings.NewReplacer(pairs...)); why != "" {
		if to-from > 1 { // tell by which
			for i := from; i < to && !t.Failed(); i++ {
				a.try(t, i, i+1, texts)
			}
		}
		t.Errorf("%s with %q in %s: %s", a.name, some[from:to], names(a.fields[from:to]), why)
	}
}

func names(fields []field) (list []string) {
	for _, f := range fields {
		list = append(list, f.name)
	}
	return list
}

// differ says how what was read differs from what was harmless, but for the values.
func differ(harmless, got []token, replace *strings.Replacer) string {
	for i, h := range harmless {
		switch {
		case i >= len(got):
			return fmt.Sprintf("it ends before %q", h)
		case h.kind != got[i].kind:
			return fmt.Sprintf("%q became %q", h, got[i])
		case h.text == got[i].text || replace.Replace(h.text) == got[i].text:
		default:
			if why := differInside(h.text, got[i].text, replace); why != "" {
				return why
			}
		}
	}
	if len(got) > len(harmless) {
		return fmt.Sprintf("%q was added", got[len(harmless)])
	}
	return ""
}

var base64Form = regexp.MustCompile(`^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}=*)?$`)

// differInside looks into a value that is a text of its own: a script, or one in base64.
// fromUTF16 is Windows' text of a password, or the bytes as they are.
func fromUTF16(b []byte) string {
	if len(b)%2 != 0 || !bytes.HasSuffix(b, []byte("P\x00a\x00s\x00s\x00w\x00o\x00r\x00d\x00")) {
		return string(b)
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

func differInside(harmless, got string, replace *strings.Replacer) string {
	if base64Form.MatchString(harmless) && base64Form.MatchString(got) {
		h, hErr := base64.StdEncoding.DecodeString(harmless)
		g, gErr := base64.StdEncoding.DecodeString(got)
		if hErr == nil && gErr == nil {
			harmless, got = fromUTF16(h), fromUTF16(g)
		}
	}
	if replace.Replace(harmless) == got {
		return ""
	}
	if !strings.HasPrefix(harmless, "#!/") {
		return fmt.Sprintf("%q became %q", harmless, got)
	}
	h, err := tokens("sh", harmless)
	if err != nil {
		return err.Error()
	}
	g, err := tokens("sh", got)
	if err != nil {
		return fmt.Sprintf("a script inside it does not parse: %v", err)
	}
	return differ(h, g, replace)
}

// nasty are what hostile values are made of.
var nasty = []string{
	"'", `"`, "`", "$(reboot)", "${IFS}", "$PATH", "`id`", "\\", "\\'", `\"`, "'\\''", "'; reboot; '", `"; reboot; "`, "&& reboot", "|| true", "; reboot", "| sh", "> /dev/sda", "<(x)", "$((1))", "!x", "*", "?", "[a-z]", "~root", "{a,b}",
	"\n", "\r", "\r\n", "\t", "\v", "\x00", "\x1b[2J", "\x7f", "\u0085", "\u2028", "\u2029", "\u00a0", "\u200b", "\u202e", "\u2066", "\ufeff", "\ufffe", "\U0001f4a9", "\U000e0041", "é", "機械", "\xff", "\xc3\x28",
	"#", " # x", "# x", "%", "%end", "\n%end\n", "%%", "%PATH%", "%include /etc/passwd", "&", "&amp;", "&lt;x&gt;", "<!--", "-->", "<![CDATA[", "]]>", "<x/>", "</script>", "</profile>", `" x="y`, "<?x?>", "<!ENTITY a SYSTEM 'file:///etc/passwd'>",
	": ", ":", "- ", "-", "--", "---", "...", "--nochroot", "[", "]", "{", "}", "{{.Token}}", "}}", ",", "|", ">", "|-", "!!python/object", "&anchor", "*alias", "<<: *x", "@x", "? x", "null", "~", "true", "yes", "no", "on", "0", "007", "0x1f", "1e9", "1_000", ".inf", "-1", "2001-01-01", "12:30:45",
	"d-i passwd/root-password password x", "\nd-i a/b string c", "string", "root:x:0:0", "\\\n", " ", "  ", " x", "x ", "=", "a=b", "init=/bin/sh", "|| boot", "-- init", "../../etc", "/", "//", "a b", "EOF", "\nEOF\n", "@'\n", "'@", "\u2018", "\u2019", "\u201b", "''", "^", "^&", "%~dp0", "REM", "\"\"",
}

// hostile makes values of them, the same each time; some are very long.
func hostile(n int) []string {
	r := rand.New(rand.NewPCG(18, 2026))
	list := slices.Clone(nasty)
	for len(list) < n {
		var s strings.Builder
		for range 1 + r.IntN(4) {
			s.WriteString(nasty[r.IntN(len(nasty))])
			if r.IntN(3) == 0 {
				s.WriteString("word")
			}
		}
		if len(list)%500 == 0 {
			s.WriteString(strings.Repeat(s.String()+" x", 200))
		}
		list = append(list, s.String())
	}
	// Those with more than one line come last: many formats refuse them, and one that is refused costs its neighbours
	// another try.
	slices.SortStableFunc(list, func(a, b string) int { return strings.Count(a, "\n") - strings.Count(b, "\n") })
	return list
}

// TestInjectionIsSeen: the test above can fail. Each text is what a template without its quoting function would give.
func TestInjectionIsSeen(t *testing.T) {
	for _, tt := range []struct{ format, harmless, got string }{
		{"sh", "echo Zq000zq\n", "echo a; b\n"},
		{"sh", "echo 'Zq000zq'\n", "echo 'a'b'\n"},
		{"sh", "echo 'Zq000zq'\n", "echo \"a; b\"$x\n"},
		{"sh", "x='Zq000zq'\n", "x='a; c'\n"},
		{"ks", "user --name=Zq000zq\n", "user --name=a; b\n"},
		{"ks", "%pre\necho 'Zq000zq'\n%end\n", "%pre\necho 'a; b'\n%end\nreboot\n"},
		{"ks", "%packages\nZq000zq\n%end\n", "%packages\na; b\n-x\n%end\n"},
		{"preseed", "d-i a/b string Zq000zq\n", "d-i a/b string a; b\nd-i c/d string x\n"},
		{"preseed", "d-i a/late_command string echo 'Zq000zq'\n", "d-i a/late_command string echo a; b\n"},
		{"yaml", "a: Zq000zq\n", "a: [a; b]\n"},
		{"yaml", "a: Zq000zq\n", "a: a; b\nc: d\n"},
		{"yaml", "a: 'Zq000zq'\n", "a: !!int a; b\n"},
		{"json", `{"a":"Zq000zq"}`, `{"a":"a; b","c":1}`},
		{"xml", "<a>Zq000zq</a>", "<a>a; b<b/></a>"},
		{"xml", `<a b="Zq000zq"/>`, `<a b="a; b" c=""/>`},
		{"ps", "$x = 'Zq000zq'\n", "$x = 'a; b'; c\n"},
		{"cmd", "set x=Zq000zq\r\n", "set x=a; b\r\ndel x\r\n"},
		{"text", "Zq000zq\n", "a; b\nc\n"},
		{"step", "kernel\narg a=Zq000zq\n", "kernel\narg a=a; b\narg c\n"},
	} {
		h, err := tokens(tt.format, tt.harmless)
		if err != nil {
			t.Fatalf("%s: %v", tt.harmless, err)
		}
		replace := strings.NewReplacer("Zq000zq", "a; b")
		if why := differ(h, h, strings.NewReplacer()); why != "" {
			t.Errorf("%q differs from itself: %s", tt.harmless, why)
		}
		g, err := tokens(tt.format, tt.got)
		if err == nil && differ(h, g, replace) == "" {
			t.Errorf("%s: %q passes for %q", tt.format, tt.got, tt.harmless)
		}
	}
	if n := len(hostile(10000)); n != 10000 || !slices.Equal(hostile(500), hostile(500)) {
		t.Errorf("%d hostile values, or other ones each time", n)
	}
}
