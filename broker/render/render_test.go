package render

import (
	"strings"
	"testing"
)

type values struct {
	X    any
	List []any
}

var refused = []struct{ format, text, want string }{
	{"sh", `echo {{.X}}`, "printed as it is"},
	{"sh", `echo "{{.X | sh}}"`, "quote is not closed"},
	{"sh", `echo "a {{.X | sh}} b"`, "quote is not closed"},
	{"sh", `echo 'a {{.X | sh}}`, "quote is not closed"},
	{"sh", "cat <<EOF\n{{.X | sh}}\nEOF\n", "here-document"},
	{"sh", "cat <<-'EOF'\n{{if .X}}{{end}}\nEOF\n", "here-document"},
	{"sh", "# {{.X | sh}}\n", "comment"},
	{"sh", `{{.X | json}}`, "printed as it is"},
	{"sh", `{{printf "%s" .X | sh}}`, "no function printf"},
	{"sh", `{{range .X.Y}}{{range .List}}{{range .List}}{{range .List}}{{end}}{{end}}{{end}}{{end}}`, "two deep"},
	{"sh", `{{range append .List}}{{. | sh}}{{end}}`, "range goes over a field"},
	{"sh", `{{define "x"}}{{end}}`, "define and block"},
	{"sh", `{{template "x"}}`, "no part"},
	{"yaml", "a: \"{{.X | yaml}}\"", "part of one"},
	{"yaml", "a: |\n  echo {{.X | yaml}}\n", "part of one"},
	{"yaml", "a: b{{.X | yaml}}", "part of one"},
	{"yaml", "a: {{.X | yaml}}{{.X | yaml}}", "part of one"},
	{"yaml", "# a {{.X | yaml}}", "part of one"},
	{"json", `{"a": "b {{.X | json}}"}`, "quote is not closed"},
	{"xml", `<a><![CDATA[{{.X | xml}}]]></a>`, "not closed"},
	{"xml", `<a><!-- {{.X | xml}} --></a>`, "not closed"},
	{"xml", `<{{.X | xml}}/>`, "a tag is not closed"},
	{"xml", `<a b={{.X | xml}}/>`, "a tag is not closed"},
	{"preseed", "d-i preseed/late_command string echo {{.X | preseed}}\n", "part of one"},
	{"preseed", "d-i preseed/late_command string {{.X | preseed}}\n", "part of one"},
	{"preseed", "d-i a/b string x {{.X | preseed}}\n", "part of one"},
	{"ps", `$x = "a {{.X | ps}}"`, "quote is not closed"},
	{"nonsense", "", `format "nonsense": want one of`},
}

func TestRefused(t *testing.T) {
	for _, tt := range refused {
		t.Run(tt.format+" "+tt.text, func(t *testing.T) {
			if _, err := Parse(tt.format, tt.text, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want an error with %q", err, tt.want)
			}
		})
	}
}

var rendered = []struct {
	format, text string
	x            any
	want         string
}{
	{"sh", `a={{.X | sh}}/b "$a" # it's` + "\n", "don't", `a='don'\''t'/b "$a" # it's` + "\n"},
	{"sh", "# don't\n{{.X | sh}}\n", 7, "# don't\n'7'\n"},
	{"sh", "cat <<'EOF'\nit's\nEOF\n{{.X | sh}}", 1.5e9, "cat <<'EOF'\nit's\nEOF\n'1500000000'"},
	{"yaml", "- {{.X | yaml}}\n", "a: [b", `- "a: [b"` + "\n"},
	{"yaml", "a-b: {{.X | yaml}}\n", "\u2028 é", `a-b: "\u2028 é"` + "\n"},
	{"yaml", "k: {{.X | yaml}}", []any{"a", 1}, `k: ["a",1]`},
	{"json", `{"a": {{.X | json}}}`, nil, `{"a": ""}`},
	{"xml", `<a b="{{.X | xml}}">{{.X | xml}}</a>`, `]]>&"`, `<a b="]]&gt;&amp;&#34;">]]&gt;&amp;&#34;</a>`},
	{"preseed", "d-i a/b string {{.X | preseed}}\n", "a $(b) 'c", "d-i a/b string a $(b) 'c\n"},
	{"preseed", "d-i preseed/late_command string echo {{.X | sh}}\n", "a $(b) 'c", `d-i preseed/late_command string echo 'a $(b) '\''c'` + "\n"},
	{"ks", "user --name={{.X | ks}}\n", "a b", "user --name='a b'\n"},
	{"ps", `$x = {{.X | ps}}`, "a'b’c", "$x = 'a''b’’c'"},
	{"arg", "x={{.X | arg}}", "a;b", "x=a;b"},
	{"text", "{{.X | line}}", "a b", "a b"},
	{"sh", `{{template "p" .}}`, "q", "part 'q'"},
	{"preseed", `d-i a/b string {{join (append .X "c" "d") " " | preseed}}`, []any{"a", "b"}, "d-i a/b string a b c d"},
	{"preseed", `d-i a/b string {{join (append .X "c") " " | preseed}}`, nil, "d-i a/b string c"},
	{"ks", `--ip={{address .X | ks}} --netmask={{netmask .X | ks}}`, "192.0.2.20/22", "--ip='192.0.2.20' --netmask='255.255.252.0'"},
	{"xml", `<a>{{address .X | xml}}</a>`, "2001:db8::2/64", "<a>2001:db8::2</a>"},
	{"ks", "%packages\n{{.X | word}}\n%end\n", "@core", "%packages\n@core\n%end\n"},
}

func TestRendered(t *testing.T) {
	for _, tt := range rendered {
		t.Run(tt.format+" "+tt.text, func(t *testing.T) {
			parts := map[string]string{}
			if tt.format == "sh" {
				parts["p"] = "part {{.X | sh}}"
			}
			tpl, err := Parse(tt.format, tt.text, parts)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := tpl.Execute(values{X: tt.x}); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestValuesThatNoFormatHolds(t *testing.T) {
	for _, tt := range []struct{ format, text, x, want string }{
		{"sh", "{{.X | sh}}", "a\x00", "zero byte"},
		{"sh", "{{.X | sh}}", "\xff", "not UTF-8"},
		{"ks", "a {{.X | ks}}", "a\n%end", "more than one line"},
		{"preseed", "d-i a/b string {{.X | preseed}}", `a\`, "debconf drops"},
		{"preseed", "d-i a/b string {{.X | preseed}}", " a", "debconf drops"},
		{"preseed", "d-i a/b string {{.X | preseed}}", "a\nd-i c/d string e", "more than one line"},
		{"xml", "<a>{{.X | xml}}</a>", "\x1b", "XML has not"},
		{"cmd", "{{.X | word}}", "a%b", "want letters"},
		{"cmd", "{{.X | word}}", "a&b", "want letters"},
		{"text", "{{.X | line}}", "a\nb", "more than one line"},
		{"text", `{{fail "no disk"}}`, "", "no disk"},
		{"arg", "x={{.X | arg}}", "${x}", ""},
		{"ks", "%packages\n{{.X | word}}\n%end\n", "%end", "want letters"},
		{"text", "{{address .X | line}}", "192.0.2.1", "with its prefix length"},
		{"text", "{{netmask .X | line}}", "2001:db8::1/64", "an IPv4 address"},
		{"text", "{{netmask .X | line}}", "192.0.2.1/33", "an IPv4 address"},
		{"text", "{{join (append .X) .X | line}}", "a", "want a list"},
		{"yaml", "a: {{.X | yaml}}", "\xff", "not UTF-8"},
	} {
		tpl, err := Parse(tt.format, tt.text, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tpl.Execute(values{X: tt.x}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s of %q: %q, %v; want an error with %q", tt.format, tt.x, got, err, tt.want)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	tpl, err := Parse("text", `{{range .List}}{{$.X | line}}{{end}}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpl.Execute(values{X: strings.Repeat("x", 1<<16), List: make([]any, 17)}); err == nil || !strings.Contains(err.Error(), "is over") {
		t.Errorf("%v; want an error for what is too long", err)
	}
}
