package task

import (
	"encoding/xml"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"muster/boot"
)

// TestAnswerFile: components stand in the passes that read them, named by their whole identity, and values come back as
// they were given.
func TestAnswerFile(t *testing.T) {
	texts(t, "windows", "answers.xml", func(t *testing.T, _ *Task, v Values, r Rendered) {
		var doc struct {
			Name string `xml:"settings>component>ComputerName"`
			Zone string `xml:"settings>component>TimeZone"`
		}
		if err := xml.Unmarshal([]byte(r.Text), &doc); err != nil {
			t.Fatal(err)
		}
		name, err := v.Node.NetBIOS()
		if err != nil || doc.Name != name || doc.Zone != v.Param["timezone"] {
			t.Errorf("computer %q in %q; want %q in %q (%v)", doc.Name, doc.Zone, name, v.Param["timezone"], err)
		}
		judge(t, r, nil, "xmllint", "--noout", "--nonet", "--relaxng", "testdata/unattend.rng")
	})
}

// TestAdministratorPassword: iconv and base64 make the same of the same words.
func TestAdministratorPassword(t *testing.T) {
	for _, password := range []string{"Passw0rd!", "it's \"so\" & <b>", "Zürich機😀", ""} {
		got, err := Values{}.AdministratorPassword(password)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", "iconv -f UTF-8 -t UTF-16LE | base64 -w 0")
		cmd.Stdin = strings.NewReader(password + "AdministratorPassword")
		want, err := cmd.Output()
		if err != nil {
			t.Skipf("iconv and base64: %v", err)
		}
		if got != string(want) {
			t.Errorf("of %q: %s; want %s", password, got, want)
		}
	}
	if got, err := (Values{}).AdministratorPassword("$6$salt$hash"); err == nil {
		t.Errorf("a hash became the password %s", got)
	}
	if got, err := (Values{}).AdministratorPassword(hidden); err != nil || got != hidden {
		t.Errorf("a hidden password is shown as %q, %v", got, err)
	}
}

func TestNetBIOSNames(t *testing.T) {
	for _, tt := range []struct{ host, want, says string }{
		{"osd001.example.net", "osd001", ""}, {"node1", "*", ""}, {"exactly-fifteen.x", "exactly-fifteen", ""}, {"one-of-sixteen-x.example.net", "", "at most 15"},
	} {
		got, err := Node{ID: "node1", Hostname: tt.host}.NetBIOS()
		if got != tt.want || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %q, %v; want %q, %s", tt.host, got, err, tt.want, tt.says)
		}
	}
}

// A psToken is a word of PowerShell: a string with its quotes, a bracket, or what stands between.
type psToken struct{ kind, text string }

// psTokens splits a script as the language's specification says (3.0, chapter 2): the second opinion on
// quoting, as there is no PowerShell here. Strings in double quotes may hold $( ), which is split in its turn.
func psTokens(s string) (list []psToken, err error) {
	for i := 0; i < len(s); {
		n, kind := 1, "char"
		switch c := s[i]; {
		case c == '`':
			n = min(2, len(s)-i)
		case c == '#':
			n, kind = strings.IndexByte(s[i:]+"\n", '\n'), "comment"
		case strings.HasPrefix(s[i:], "'") || regexp.MustCompile("^[\u2018-\u201b]").MatchString(s[i:]):
			n, kind = singleQuoted(s[i:]), "literal"
		case c == '"':
			n, kind = doubleQuoted(s[i:]), "string"
		case strings.IndexByte("(){}[]", c) >= 0:
			kind = "bracket"
		}
		if n <= 0 || i+n > len(s) {
			return nil, fmt.Errorf("a %s that begins at %d does not end", kind, i)
		}
		list = append(list, psToken{kind, s[i : i+n]})
		i += n
	}
	var open []byte
	for _, tok := range list {
		if tok.kind != "bracket" {
			continue
		}
		at := strings.IndexByte(")}]", tok.text[0])
		switch {
		case at < 0:
			open = append(open, tok.text[0])
		case len(open) == 0 || open[len(open)-1] != "({["[at]:
			return nil, fmt.Errorf("%s closes nothing", tok.text)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("%s is not closed", open)
	}
	return list, nil
}

// singleQuoted is the length of a string in single quotes, of which PowerShell has five kinds; doubled ones stand for one.
func singleQuoted(s string) int {
	quote := regexp.MustCompile("['\u2018-\u201b]")
	at := quote.FindStringIndex(s)[1]
	for {
		m := quote.FindStringIndex(s[at:])
		if m == nil {
			return -1
		}
		at += m[1]
		if next := quote.FindStringIndex(s[at:]); next == nil || next[0] != 0 {
			return at
		} else {
			at += next[1]
		}
	}
}

func doubleQuoted(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '`':
			i++
		case s[i] == '"':
			return i + 1
		case strings.HasPrefix(s[i:], "$("):
			end := strings.IndexByte(s[i:], ')')
			for end >= 0 && strings.Count(s[i:i+end+1], "(") > strings.Count(s[i:i+end+1], ")") {
				next := strings.IndexByte(s[i+end+1:], ')')
				if next < 0 {
					return -1
				}
				end += 1 + next
			}
			if end < 0 {
				return -1
			}
			i += end
		}
	}
	return -1
}

var literalSet = regexp.MustCompile(`(?m)^\$(\w+) = (?:\[uint64\])?$`)

// literals are the variables of a script that are set to a string in single quotes, read back.
func literals(list []psToken) map[string]string {
	set := map[string]string{}
	before := ""
	for _, tok := range list {
		if tok.kind == "literal" {
			if m := literalSet.FindAllStringSubmatch(before, -1); m != nil && strings.HasSuffix(before, m[len(m)-1][0]) {
				body := tok.text[1 : len(tok.text)-1]
				set[m[len(m)-1][1]] = regexp.MustCompile("(['\u2018-\u201b])['\u2018-\u201b]").ReplaceAllString(body, "$1")
			}
		}
		if before += tok.text; strings.HasSuffix(before, "\n") {
			before = ""
		}
	}
	return set
}

// TestPowerShell: strings and brackets close, and what was given comes back.
func TestPowerShell(t *testing.T) {
	for _, name := range []string{"install.ps1", "disk.ps1", "first-boot.ps1"} {
		texts(t, "windows", name, func(t *testing.T, _ *Task, v Values, r Rendered) {
			list, err := psTokens(r.Text)
			if err != nil {
				t.Fatalf("%s: %v", r.Name, err)
			}
			wants := map[string]map[string]string{
				"install.ps1": {"share": v.Param["share"].(string), "user": v.Param["share_user"].(string), "drivers": v.Param["drivers"].(string), "repo": v.Repo.URL, "done": v.Done()},
				"disk.ps1":    {"serial": v.Disk.Serial, "wwn": v.Disk.WWN, "size": fmt.Sprint(v.Disk.SizeBytes)},
			}[name]
			got := literals(list)
			for variable, want := range wants {
				if got[variable] != want {
					t.Errorf("$%s = %q; want %q", variable, got[variable], want)
				}
			}
		})
	}
	for _, broken := range []string{"'it's'\n", "\"a $(b\"\n", "if (1) { 2\n", "x)\n", "'a\u2019\n'"} {
		if list, err := psTokens(broken); err == nil {
			t.Errorf("%q is split into %q", broken, list)
		}
	}
}

// TestWindowsPrograms: lines end as cmd and winpeshl want them, and hold no value: neither has quotes for one.
func TestWindowsPrograms(t *testing.T) {
	for _, name := range []string{"SetupComplete.cmd", "winpeshl.ini"} {
		first := ""
		texts(t, "windows", name, func(t *testing.T, _ *Task, _ Values, r Rendered) {
			if first == "" {
				first = r.Text
			}
			if r.Text != first || strings.Count(r.Text, "\r\n") != strings.Count(r.Text, "\n") || !strings.HasSuffix(r.Text, "\r\n") {
				t.Errorf("%s:\n%q", name, r.Text)
			}
			for line := range strings.Lines(r.Text) {
				if strings.Count(line, `"`)%2 != 0 || strings.Count(line, "%")%2 != 0 {
					t.Errorf("line %q", line)
				}
			}
		})
	}
}

// TestStepsThatLoadersTake: what ESXi and Windows boot can be said to iPXE on every fixture, and W1 holds.
func TestStepsThatLoadersTake(t *testing.T) {
	for _, name := range []string{"esxi", "windows", "memtest"} {
		task := shippedTask(t, name)
		for _, f := range Fixtures() {
			v, err := f.For(task)
			if err != nil {
				t.Fatal(err)
			}
			step, err := task.RenderStep(task.Stages[0], v)
			if err != nil {
				t.Fatal(err)
			}
			c := boot.Client{Kind: boot.KindIPXE, MAC: boot.MAC{2, 0, 0, 0, 0, 1}}
			if v.Node.EFI {
				c.Arch = boot.ArchX64
			}
			if script, err := boot.Render(boot.IPXE, "http://192.0.2.10:8080", c, step); err != nil {
				t.Errorf("%s on %s: %v\n%s", name, f.Name, err, script)
			}
		}
	}
}
