package kargs

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name string
		line string
		want Line
	}{
		{"an empty line has no words", "", nil},
		{"blanks alone are no words", " \t\n\v\f\r ", nil},
		{"words end at any white space", "a\tb\nc\vd\fe\rf", Line{Flag("a"), Flag("b"), Flag("c"), Flag("d"), Flag("e"), Flag("f")}},
		{"byte 0xa0 is white space to the kernel", "a\xa0b=1\xa0", Line{Flag("a"), Set("b", "1")}},
		{"an empty value is not a flag", "a= b", Line{Set("a", ""), Flag("b")}},
		{"the first equals sign ends the name", "root=UUID=1-2", Line{Set("root", "UUID=1-2")}},
		{"an equals sign in front belongs to the name", "=a =b=c", Line{Flag("=a"), Set("=b", "c")}},
		{"quotes around the whole word go (Z9)", `"m.q=a b"`, Line{Set("m.q", "a b")}},
		{"quotes around the value go (Z9)", `m.r="c d"`, Line{Set("m.r", "c d")}},
		{"inner quotes join blanks and stay (Z9)", `m.t=a"b c"d`, Line{Set("m.t", `a"b c"d`)}},
		{"a single quote is no quote (Z9)", `m.s='a b'`, Line{Set("m.s", "'a"), Flag("b'")}},
		{"a backslash escapes nothing", `a=b\ c`, Line{Set("a", `b\`), Flag("c")}},
		{"a quote that is never closed runs to the end", `a="b c d`, Line{Set("a", "b c d")}},
		{"a quote alone is an empty word", `" "`, Line{Flag(" ")}},
		{"a quoted name keeps its inner quote", `"k"=v`, Line{Set(`k"`, "v")}},
		{"a quoted word whose value opens a quote closes there", `"k="a b`, Line{Set("k", "a"), Flag("b")}},
		{"a NUL ends the line, as it ends the kernel's string", "a\x00b", Line{Flag("a")}},
		{"the same name may come twice", "console=tty0 console=ttyS0", Line{Set("console", "tty0"), Set("console", "ttyS0")}},
		{"two dashes are a word", "quiet -- single", Line{Flag("quiet"), Flag("--"), Flag("single")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Parse(tt.line)); diff != "" {
				t.Errorf("Parse(%q) (-want +got):\n%s", tt.line, diff)
			}
		})
	}
}

// TestI5ParseReadsEveryLoader: the four lines that a kernel was seen to get from one argument (protocols, golden I5).
func TestI5ParseReadsEveryLoader(t *testing.T) {
	for loader, line := range map[string]string{
		"iPXE on BIOS": `initrd=initrd0 initrd=initrd1 BOOTIF=01-52-54-00-12-34-56 muster.x="a b"`,
		"iPXE on EFI":  `kernel initrd=initrd0 initrd=initrd1 BOOTIF=01-52-54-00-12-34-56 muster.x="a b"`,
		"pxelinux":     `BOOT_IMAGE=::boot/f/vmlinuz muster.x="a b" initrd=::a,::b BOOTIF=01-52-54-00-12-34-56`,
		"GRUB":         `BOOT_IMAGE=/boot/f/vmlinuz BOOTIF=01-52-54-00-12-34-56 "muster.x=a b"`,
	} {
		l := Parse(line + "\n")
		if got := l.Get("muster.x"); got != "a b" {
			t.Errorf("%s: muster.x = %q; want %q", loader, got, "a b")
		}
		if got := l.Get("BOOTIF"); got != "01-52-54-00-12-34-56" {
			t.Errorf("%s: BOOTIF = %q", loader, got)
		}
	}
}

func TestLookupTakesTheLast(t *testing.T) {
	l := Parse("a=1 a=2 b c=")
	if v, ok := l.Lookup("a"); v != "2" || !ok {
		t.Errorf("Lookup(a) = %q, %v; want 2, true", v, ok)
	}
	if v, ok := l.Lookup("b"); v != "" || !ok {
		t.Errorf("Lookup(b) = %q, %v; want an empty value that is there", v, ok)
	}
	if _, ok := l.Lookup("A"); ok {
		t.Error("Lookup(A): names have a case")
	}
	if got := l.Get("none"); got != "" {
		t.Errorf("Get(none) = %q", got)
	}
}

func TestRender(t *testing.T) {
	for _, tt := range []struct {
		name string
		line Line
		want string
	}{
		{"nothing", nil, ""},
		{"flags and values", Line{Flag("quiet"), Set("console", "ttyS0,115200n8")}, "quiet console=ttyS0,115200n8"},
		{"a blank makes quotes", Line{Set("muster.x", "a b")}, `muster.x="a b"`},
		{"an empty value", Line{Set("a", "")}, "a="},
		{"what URLs are made of passes", Line{Set("u", "http://192.0.2.10:8080/a?b=c&d=%2F;e,f")}, "u=http://192.0.2.10:8080/a?b=c&d=%2F;e,f"},
		{"a hash inside a word passes (I4)", Line{Set("k", "a#b")}, "k=a#b"},
		{"letters beyond ASCII pass", Line{Set("k", "Zürich")}, "k=Zürich"},
		{"the marks of init's and the installer's arguments", Line{Flag("a"), Flag("---"), Flag("b"), Flag("--"), Flag("c")}, "a --- b -- c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.line.Render()
			if err != nil || got != tt.want {
				t.Fatalf("Render = %q, %v; want %q", got, err, tt.want)
			}
			if diff := cmp.Diff(tt.line, Parse(got)); diff != "" {
				t.Errorf("Parse(Render) (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRenderRefuses covers I1 to I4, T16 and T17: what another program on the way could read otherwise.
func TestRenderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		arg  Arg
		says string
	}{
		{"a line feed (I1)", Set("k", "a\nb"), "control character 0x0a"},
		{"a carriage return", Set("k", "a\rb"), "control character 0x0d"},
		{"a NUL", Set("k", "a\x00b"), "control character 0x00"},
		{"an escape", Set("k", "\x1b[2J"), "control character 0x1b"},
		{"a delete", Set("k", "a\x7f"), "control character 0x7f"},
		{"an iPXE setting (I2)", Set("k", "${net0/mac}"), `"${"`},
		{"an iPXE setting that is not closed", Set("k", "a${"), `"${"`},
		{"a second command (I3)", Set("k", "x || reboot"), `"||"`},
		{"a command if the first went well", Set("k", "x && reboot"), `"&&"`},
		{"a command after a semicolon", Set("k", "x ; reboot"), `";"`},
		{"a comment", Set("k", "x #y"), `"#y"`},
		{"a name that is a comment (I4)", Flag("#x"), "the name may hold"},
		{"a trailing backslash (I4)", Set("k", `a\`), `'\\'`},
		{"a single quote (G1)", Set("k", "it's"), `'\''`},
		{"a double quote", Set("k", `a"b`), `'"'`},
		{"a backquote", Set("k", "a`b"), "'`'"},
		{"two blanks", Set("k", "a  b"), "blanks"},
		{"a blank in front", Set("k", " a"), "blanks"},
		{"a blank behind", Set("k", "a "), "blanks"},
		{"bytes that are not UTF-8", Set("k", "a\xffb"), "not UTF-8"},
		{"a character with a byte that is a blank to the kernel", Set("k", "voilà"), "0xa0"},
		{"a no-break space", Set("k", "a\u00a0b"), "0xa0"},
		{"an empty name", Set("", "b"), "empty"},
		{"a name with a blank", Flag("a b"), "the name may hold"},
		{"a name with an equals sign", Flag("a=b"), "the name may hold"},
		{"a name with a semicolon", Flag("a;b"), "the name may hold"},
		{"a name that starts with a dash", Flag("-x"), "dash"},
		{"an option", Flag("--name"), "dash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Line{Flag("ok"), tt.arg}.Render()
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Render(%+v) = %q, %v; want an error with %s", tt.arg, got, err, tt.says)
			}
		})
	}
}

func TestRenderRefusesALineThatTheKernelWouldCut(t *testing.T) {
	fits := Line{Set("k", strings.Repeat("x", MaxLine-2))}
	if _, err := fits.Render(); err != nil {
		t.Errorf("a line of %d bytes: %v", MaxLine, err)
	}
	if _, err := append(fits, Flag("y")).Render(); err == nil || !strings.Contains(err.Error(), "2049 bytes") {
		t.Errorf("a line of %d bytes: %v; want an error with its length", MaxLine+2, err)
	}
}

// FuzzParse (Z9): whatever a boot loader hands over, no argument is invented or lost, and what Render takes of it
// reads back the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a b=c", `"m.q=a b"`, `m.r="c d"`, `m.t=a"b c"d`, `k="`, `"`, "=", "==", `"=a"`, "a\xa0b", "a\x00b", `"k="a b`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l := Parse(s)
		size := 0
		for _, a := range l {
			size += len(a.Key) + len(a.Value)
			if a.Flag && a.Value != "" {
				t.Fatalf("Parse(%q): flag %q has the value %q", s, a.Key, a.Value)
			}
		}
		if size > len(s) {
			t.Fatalf("Parse(%q) made %d bytes of %d", s, size, len(s))
		}
		if text, err := l.Render(); err == nil && !slices.Equal(l, Parse(text)) {
			t.Fatalf("Parse(%q) = %+v, which reads back from %q as %+v", s, l, text, Parse(text))
		}
	})
}

// FuzzRender (T16, T17): a value is refused or comes out as itself, alone, with nothing that ends a line.
func FuzzRender(f *testing.F) {
	for _, s := range []string{"", "a b", "a\nb", "${x}", "x || y", "#x", `a\`, "it's", "voilà", "\xa0", "a  b", "--"} {
		f.Add("k", s)
		f.Add(s, "v")
	}
	f.Fuzz(func(t *testing.T, key, value string) {
		in := Line{Flag("first"), Set(key, value), Flag("last")}
		text, err := in.Render()
		if err != nil {
			return
		}
		if len(text) > MaxLine || !utf8.ValidString(text) {
			t.Fatalf("Render(%+v) has %d bytes: %q", in, len(text), text)
		}
		if i := strings.IndexFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }); i >= 0 {
			t.Fatalf("Render(%+v) = %q with a control byte at %d", in, text, i)
		}
		if !slices.Equal(in, Parse(text)) {
			t.Fatalf("Render(%+v) = %q, which reads back as %+v", in, text, Parse(text))
		}
	})
}
