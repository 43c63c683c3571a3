package boot

import (
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot/kargs"
)

// The tokenizers below are second opinions: they are written from the loaders' rules (protocols 4.2) and share no
// code with the renderers.

// ipxeCommands splits a script as iPXE does: a backslash at the end joins lines, words end at white space, a word
// with "#" in front ends the line, and ||, && and ; stand between commands.
func ipxeCommands(script string) (commands [][]string) {
	script, _, _ = strings.Cut(script, "\x00")
	for _, line := range strings.Split(strings.ReplaceAll(script, "\\\n", ""), "\n") {
		var words []string
		for _, w := range strings.FieldsFunc(strings.TrimSuffix(line, "\r"), func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' }) {
			if w[0] == '#' {
				break
			}
			if w == "||" || w == "&&" || w == ";" {
				commands = append(commands, words)
				words = []string{}
				continue
			}
			words = append(words, w)
		}
		if words != nil {
			commands = append(commands, words)
		}
	}
	return commands
}

// grubCommands splits a configuration as GRUB does. An open quote and an expansion outside of single quotes are
// told, as our scripts have neither.
func grubCommands(script string) (commands [][]string, err error) {
	var words []string
	word, inWord, quoted, comment := "", false, false, false
	endWord := func() {
		if inWord {
			words = append(words, word)
		}
		word, inWord = "", false
	}
	for i := 0; i < len(script); i++ {
		c := script[i]
		switch {
		case comment && c != '\n':
		case quoted && c == '\'':
			quoted = false
		case quoted && c == '\n':
			return nil, fmt.Errorf("a line feed inside quotes at %d", i)
		case quoted:
			word += script[i : i+1]
		case c == '\'':
			quoted, inWord = true, true
		case c == '\n' || c == ';':
			comment = false
			endWord()
			if len(words) > 0 {
				commands = append(commands, words)
			}
			words = nil
		case c == ' ' || c == '\t':
			endWord()
		case c == '#' && !inWord:
			comment = true
		case strings.IndexByte("\\\"$`|&{}<>", c) >= 0:
			return nil, fmt.Errorf("character %q outside of quotes at %d", c, i)
		default:
			word, inWord = word+script[i:i+1], true
		}
	}
	if quoted || inWord {
		return nil, fmt.Errorf("the script ends inside a word or a quote")
	}
	return commands, nil
}

// pxelinuxCommands splits a configuration as PXELINUX does: a keyword, without case, and the rest of its line; lines
// end at CR or LF, and one of 4096 bytes is cut there and goes on as the next (core/readconfig.c).
func pxelinuxCommands(config string) (commands [][]string) {
	config, _, _ = strings.Cut(config, "\x00")
	for _, line := range strings.FieldsFunc(config, func(r rune) bool { return r == '\n' || r == '\r' }) {
		for line != "" {
			cut := line[:min(len(line), 4095)]
			line = line[len(cut):]
			verb, rest, _ := strings.Cut(strings.TrimLeft(cut, " \t"), " ")
			if verb != "" && verb[0] != '#' {
				commands = append(commands, []string{strings.ToLower(verb), strings.TrimLeft(rest, " \t")})
			}
		}
	}
	return commands
}

func TestTheTokenizersSeeWhatIsPutIn(t *testing.T) {
	if got, want := ipxeCommands("#!ipxe\necho a || reboot ; x #y\nz\\\ny\n"), [][]string{{"echo", "a"}, {"reboot"}, {"x"}, {"zy"}}; !cmp.Equal(got, want) {
		t.Errorf("ipxeCommands = %q; want %q", got, want)
	}
	if got, want := pxelinuxCommands("# x\nDEFAULT a b\r\n  label  c\n"), [][]string{{"default", "a b"}, {"label", "c"}}; !cmp.Equal(got, want) {
		t.Errorf("pxelinuxCommands = %q; want %q", got, want)
	}
	if got := pxelinuxCommands("APPEND " + strings.Repeat("x", 5000)); len(got) != 2 {
		t.Errorf("a line of 5,000 bytes is %d commands to pxelinuxCommands; want 2", len(got))
	}
	got, err := grubCommands("# x\necho 'a b' c; d\n")
	if want := [][]string{{"echo", "a b", "c"}, {"d"}}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("grubCommands = %q, %v; want %q", got, err, want)
	}
	for _, s := range []string{"echo 'it's'\n", "echo $x\n", "echo 'a\nb'\n", "a | b\n"} {
		if got, err := grubCommands(s); err == nil {
			t.Errorf("grubCommands(%q) = %q; want an error", s, got)
		}
	}
}

func verbs(commands [][]string) (list []string) {
	for _, c := range commands {
		verb := ""
		if len(c) > 0 {
			verb = c[0]
		}
		list = append(list, verb)
	}
	return list
}

// TestI7KernelScript: the verbs of a kernel step, in order.
func TestI7KernelScript(t *testing.T) {
	script, err := Render(IPXE, testBase, onBIOS, installer())
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("set :start kernel goto initrd goto initrd goto boot goto :retry imgfree inc iseq goto - sleep goto :fail echo sleep reboot")
	got := verbs(ipxeCommands(script))
	for i, v := range got {
		if v == "" {
			got[i] = "-" // the command after the last || of "iseq ... ||" is empty
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verbs (-want +got):\n%s", diff)
	}
}

// harmless is a value with the same blanks and nothing else that could mean something.
func harmless(v string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' {
			return r
		}
		return 'x'
	}, v)
}

// spots are the places where a value that others wrote stands in a step. Words after blanks belong to the value in
// an argument; a text for the screen may come out with fewer.
var spots = []struct {
	name string
	step func(value string) Step
}{
	{"argument value", func(v string) Step { s := installer(); s.Args[1].Value = v; return s }},
	{"last argument", func(v string) Step { s := installer(); s.Args = append(s.Args, kargs.Set("k", v)); return s }},
	{"argument name", func(v string) Step { s := installer(); s.Args[0] = kargs.Flag(v); return s }},
	{"kernel", func(v string) Step { s := installer(); s.Kernel = v; return s }},
	{"initrd", func(v string) Step { s := installer(); s.Initrds[1] = v; return s }},
	{"because", func(v string) Step { s := installer(); s.Because = v; return s }},
	{"because of local", func(v string) Step { return Step{Kind: StepLocal, Because: v} }},
	{"wait text", func(v string) Step { return Step{Kind: StepWait, After: time.Second, Text: v, Because: v} }},
	{"chain", func(v string) Step { return Step{Kind: StepChain, Chain: v, Because: v} }},
	{"chain path", func(v string) Step { return Step{Kind: StepChain, Chain: "tftp://h/" + v} }},
	{"chain word", func(v string) Step { s := mboot("mboot.efi"); s.Words[1] = v; return s }},
	{"wimboot's name", func(v string) Step { s := windows(); s.Kernel = v; return s }},
	{"wimboot argument", func(v string) Step { s := windows(); s.Args[0] = kargs.Flag(v); return s }},
	{"winpe folder", func(v string) Step { s := windows(); s.Initrds[1] = v + "/x"; return s }},
	{"winpe file", func(v string) Step { s := windows(); s.Initrds[1] = "x/" + strings.ReplaceAll(v, "/", ""); return s }},
	{"injected name", func(v string) Step { s := windows(); s.Inject[0].Name = v; return s }},
	{"injected url", func(v string) Step { s := windows(); s.Inject[0].URL = "http://h/" + v; return s }},
	{"because of winpe", func(v string) Step { s := windows(); s.Because = v; return s }},
	{"menu title", func(v string) Step { s := choices(false); s.Menu.Title = v; return s }},
	{"menu text", func(v string) Step { s := choices(true); s.Menu.Entries[1].Text = v; return s }},
	{"menu label", func(v string) Step { s := choices(true); s.Menu.Entries[1].Label = v; return s }},
	{"menu key", func(v string) Step { s := choices(true); s.Menu.Entries[1].Key = v; return s }},
	{"refuse text", func(v string) Step { return Step{Kind: StepRefuse, Text: v, Because: v} }},
}

// checkStructure says how a rendered value changed the script that a harmless one makes, or nil. A refused value
// changes none.
func checkStructure(c Client, step func(string) Step, v string) error {
	s, plain := step(v), step(harmless(v))
	if script, err := Render(IPXE, testBase, c, s); err == nil {
		want, err := Render(IPXE, testBase, c, plain)
		if err != nil {
			return fmt.Errorf("%q is rendered, but %q is not: %w", v, harmless(v), err)
		}
		if err := sameIPXE(ipxeCommands(want), ipxeCommands(script), s); err != nil {
			return fmt.Errorf("iPXE with %q: %w\n%s", v, err, script)
		}
		if strings.Count(script, "${") != strings.Count(want, "${") || strings.ContainsAny(script, "\r\x00\x1b") {
			return fmt.Errorf("iPXE with %q expands or holds control bytes:\n%s", v, script)
		}
	}
	if script, err := Render(GRUB, testBase, c, s); err == nil {
		want, err := Render(GRUB, testBase, c, plain)
		if err != nil {
			return fmt.Errorf("%q is rendered, but %q is not: %w", v, harmless(v), err)
		}
		if err := sameGRUB(want, script, s); err != nil {
			return fmt.Errorf("GRUB with %q: %w\n%s", v, err, script)
		}
	}
	if script, err := Render(PXELINUX, testBase, c, s); err == nil {
		want, err := Render(PXELINUX, testBase, c, plain)
		if err != nil {
			return fmt.Errorf("%q is rendered, but %q is not: %w", v, harmless(v), err)
		}
		if err := samePXELINUX(pxelinuxCommands(want), pxelinuxCommands(script), s); err != nil {
			return fmt.Errorf("pxelinux with %q: %w\n%s", v, err, script)
		}
	}
	return nil
}

// samePXELINUX looks at the verbs, at INITRD, which a comma splits, and at APPEND, which the kernel reads.
func samePXELINUX(want, got [][]string, s Step) error {
	if w, g := verbs(want), verbs(got); !slices.Equal(w, g) {
		return fmt.Errorf("verbs %q; want %q", g, w)
	}
	for i, g := range got {
		switch g[0] {
		case "append":
			if err := readBack(g[1], "", s.Args); err != nil {
				return err
			}
		case "linux", "initrd", "config":
			if strings.Count(g[1], ",") != strings.Count(want[i][1], ",") || strings.ContainsAny(g[1], " \t") {
				return fmt.Errorf("%q names other files than %q", g[1], want[i][1])
			}
		}
	}
	return nil
}

func sameIPXE(want, got [][]string, s Step) error {
	if w, g := verbs(want), verbs(got); !slices.Equal(w, g) {
		return fmt.Errorf("verbs %q; want %q", g, w)
	}
	for i := range got {
		if len(got[i]) > 0 && !slices.Contains([]string{"echo", "menu", "item"}, got[i][0]) && len(got[i]) != len(want[i]) {
			return fmt.Errorf("%q has %d words; want %d", got[i], len(got[i]), len(want[i]))
		}
		if len(got[i]) > 1 && strings.HasPrefix(got[i][1], "-") != strings.HasPrefix(want[i][1], "-") {
			return fmt.Errorf("%q has another option than %q", got[i], want[i])
		}
		if len(got[i]) > 4 && got[i][0] == "kernel" {
			loaders := "initrd=initrd0 initrd=initrd1 BOOTIF=01-52-54-00-12-34-56"
			if s.Kind == StepWinPE {
				loaders = ""
			}
			if err := readBack(strings.Join(got[i][4:], " "), loaders, s.Args); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameGRUB(want, got string, s Step) error {
	// The words of blocks are commands of their own: "if ...; then" and "menuentry ... {".
	blocks := strings.NewReplacer("; then", " then", " {\n", "\nbegin\n", "\n}", "\nend")
	wants, err := grubCommands(blocks.Replace(want))
	if err != nil {
		return err
	}
	gots, err := grubCommands(blocks.Replace(got))
	if err != nil {
		return err
	}
	if w, g := verbs(wants), verbs(gots); !slices.Equal(w, g) {
		return fmt.Errorf("verbs %q; want %q", g, w)
	}
	for i, g := range gots {
		if len(g) != len(wants[i]) {
			return fmt.Errorf("%q has %d words; want %d", g, len(g), len(wants[i]))
		}
		if g[0] == "linux" {
			line := ""
			for _, w := range g[2:] {
				if strings.Contains(w, " ") {
					w = `"` + w + `"` // as GRUB's linux command does
				}
				line += w + " "
			}
			return readBack(line, "BOOTIF=01-52-54-00-12-34-56", s.Args)
		}
	}
	return nil
}

func readBack(line, loader string, args kargs.Line) error {
	if want, got := append(kargs.Parse(loader), args...), kargs.Parse(line); !slices.Equal(want, got) {
		return fmt.Errorf("the kernel reads %+v; want %+v", got, want)
	}
	return nil
}

// hostile is a corpus of values: each dangerous piece alone, in every pair, and in random rows.
func hostile(count int) []string {
	pieces := []string{"", "a", " ", "  ", "\n", "\r", "\r\n", "\t", "\x00", "\x1b[2J", "\x7f", "${", "}", "${net0/mac}", "||", " || ", " && ", " ; ", "&&", ";",
		"#", " #x", "#x", "\\", "\\\n", "'", "\"", "`", "$", "$(x)", "{", "|", "&", "<", ">", "(", ")", "../", "/", "-", "--name", "=", ",", "%2F", "?", ":start", "goto",
		"reboot", "echo", "\xff", "\xa0", "à", "ü", "\u2028", "\u0085", "😀", "\u202e", strings.Repeat("x", 300), "a\nreboot\n", "a'; reboot; echo '"}
	list := append([]string{strings.Repeat("y", 3000)}, pieces...)
	for _, a := range pieces {
		for _, b := range pieces {
			list = append(list, a+b, "x"+a+"y"+b+"z")
		}
	}
	rng := rand.New(rand.NewSource(16))
	for len(list) < count {
		v := ""
		for range 1 + rng.Intn(6) {
			v += pieces[rng.Intn(len(pieces))]
		}
		list = append(list, v)
	}
	return list
}

// TestT16BootScriptStructure (T16, T17, I10, Z13, Z14): no value adds, ends or changes a command; it is refused, or
// stands for itself.
func TestT16BootScriptStructure(t *testing.T) {
	values := hostile(5_000)
	for _, spot := range spots {
		t.Run(spot.name, func(t *testing.T) {
			bad := 0
			for _, v := range values {
				for _, c := range []Client{onBIOS, onUEFI} {
					if err := checkStructure(c, spot.step, v); err != nil && bad < 5 {
						bad++
						t.Error(err)
					}
				}
			}
		})
	}
}

// TestLegalValuesStillPass: a refusal that goes too far breaks installs.
func TestLegalValuesStillPass(t *testing.T) {
	for _, v := range []string{"", "a b", "http://192.0.2.10/x%2Fy?a=b&c=d", "a;b", "a,b", "a#b", "ttyS0,115200n8", "UUID=1234-ab", "Zürich", "a||b", "$x", "{a}", "~/*"} {
		s := spots[0].step(v)
		for _, d := range []Dialect{IPXE, GRUB, PXELINUX} {
			if _, err := Render(d, testBase, onBIOS, s); err != nil {
				t.Errorf("%s: %q: %v", d, v, err)
			}
		}
	}
}

func fuzzSpots(f *testing.F) {
	for i := range spots {
		for _, v := range []string{"a b", "a\nreboot", "x || reboot", "${x}", "it's", `a\`, "#x", "à"} {
			f.Add(i, v)
		}
	}
}

// FuzzIPXE is Z13; FuzzGRUB is Z14.
func FuzzIPXE(f *testing.F) {
	fuzzSpots(f)
	f.Fuzz(func(t *testing.T, spot int, v string) {
		if err := checkStructure(onUEFI, spots[uint(spot)%uint(len(spots))].step, v); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzGRUB has the BIOS client, for which iPXE and GRUB have other words; pxelinux is looked at by both.
func FuzzGRUB(f *testing.F) {
	fuzzSpots(f)
	f.Fuzz(func(t *testing.T, spot int, v string) {
		if err := checkStructure(onBIOS, spots[uint(spot)%uint(len(spots))].step, v); err != nil {
			t.Fatal(err)
		}
	})
}
