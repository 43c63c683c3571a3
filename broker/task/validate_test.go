package task

import (
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// judge runs a program that judges a file by its exit status and its words. Without it the test is skipped: make deps
// installs what Debian has.
func judge(t *testing.T, r Rendered, words []string, args ...string) {
	t.Helper()
	program, err := exec.LookPath(args[0])
	if err != nil {
		t.Skipf("%s is not installed", args[0])
	}
	file := filepath.Join(t.TempDir(), filepath.Base(r.Name))
	put(t, file, 0o600, r.Text)
	cmd := exec.CommandContext(t.Context(), program, append(args[1:], file)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s of %s: %v\n%s", args[0], r.Name, err, out)
	}
	for _, w := range words {
		if strings.Contains(strings.ToLower(string(out)), w) {
			t.Errorf("%s of %s says\n%s", args[0], r.Name, out)
		}
	}
}

// texts gives those of a recipe on all fixtures.
func texts(t *testing.T, task, recipe string, f func(t *testing.T, task *Task, v Values, r Rendered)) {
	found := 0
	each(t, func(t *testing.T, of *Task, v Values, all []Rendered) {
		for _, r := range all {
			if of.Name == task && r.Name == recipe {
				found++
				f(t, of, v, r)
			}
		}
	})
	if found != len(Fixtures()) {
		t.Errorf("%s of %s was seen %d times", recipe, task, found)
	}
}

// TestZ16Preseed: debconf takes every line, and every question has one answer of a type that it may have.
func TestZ16Preseed(t *testing.T) {
	line := regexp.MustCompile(`^[a-z0-9-]+\s+[a-z0-9/_-]+\s+(string|password|select|multiselect|boolean|note)(\s.*)?$`)
	texts(t, "debian", "preseed.cfg", func(t *testing.T, _ *Task, _ Values, r Rendered) {
		answered := map[string]bool{}
		for _, l := range strings.Split(strings.TrimSpace(r.Text), "\n") {
			if l == "" || strings.HasPrefix(l, "#") {
				continue
			}
			m := line.FindStringSubmatch(l)
			if m == nil || m[1] == "boolean" && !regexp.MustCompile(` (true|false)$`).MatchString(l) {
				t.Errorf("line %q", l)
				continue
			}
			if question := strings.Fields(l)[1]; answered[question] {
				t.Errorf("%s is answered twice", question)
			} else {
				answered[question] = true
			}
		}
		judge(t, r, []string{"error", "warning"}, "debconf-set-selections", "-c")
	})
}

// TestZ17Autoinstall: cloud-init's schema takes the user-data, and the installer's own keys are those of its reference
// manual.
func TestZ17Autoinstall(t *testing.T) {
	keys := []string{"version", "early-commands", "error-commands", "late-commands", "locale", "keyboard", "timezone", "network", "proxy", "apt", "identity", "user-data", "ssh", "storage", "packages", "shutdown"}
	texts(t, "ubuntu", "user-data", func(t *testing.T, _ *Task, v Values, r Rendered) {
		var doc struct {
			Autoinstall map[string]any
		}
		d := yaml.NewDecoder(strings.NewReader(r.Text))
		d.KnownFields(true)
		if err := d.Decode(&doc); err != nil || !strings.HasPrefix(r.Text, "#cloud-config\n") {
			t.Fatalf("%v\n%s", err, r.Text)
		}
		for k := range doc.Autoinstall {
			if !slices.Contains(keys, k) {
				t.Errorf("the installer does not know %s", k)
			}
		}
		_, user := doc.Autoinstall["identity"]
		if layout := fmt.Sprint(doc.Autoinstall["storage"]); user != (v.Param["user"] != "") || !strings.Contains(layout, "match:map[path:/dev/muster-chosen]") {
			t.Errorf("identity %t, storage %s", user, layout)
		}
		judge(t, r, []string{"error", "deprecat"}, "cloud-init", "schema", "--config-file")
	})
}

// TestZ15Kickstart: ksvalidator takes the file for its release; it is no package of Debian's, so commands and options are
// held against a table first, which was written from memory and is no judge: it finds slips of ours only.
func TestZ15Kickstart(t *testing.T) {
	commands := map[string]string{ // by its options; a bare word means that arguments may follow
		"text": "", "reboot": "", "url": "url proxy", "repo": "name baseurl proxy", "lang": "arg", "keyboard": "xlayouts", "timezone": "arg utc ntpservers", "timesource": "ntp-server",
		"network": "activate onboot bootproto device ip netmask gateway nameserver hostname", "rootpw": "arg iscrypted lock", "user": "name iscrypted password lock", "firstboot": "disable",
		"firewall": "enabled service", "selinux": "enforcing", "services": "enabled", "ignoredisk": "only-use", "zerombr": "", "clearpart": "all initlabel drives", "autopart": "nohome type", "bootloader": "boot-drive",
	}
	for _, name := range []string{"rhel", "fedora"} {
		texts(t, name, "ks.cfg", func(t *testing.T, _ *Task, v Values, r Rendered) {
			if got := strings.Contains(r.Text, "timesource "); got != (v.Repo.Version != "8" && v.Param["ntp"] != nil && len(v.Param["ntp"].([]any)) > 0) {
				t.Errorf("timesource in a kickstart file of %s %s: %t", name, v.Repo.Version, got)
			}
			ks := parseKickstart(r.Text)
			for _, words := range ks.commands {
				options, ok := commands[words[0]]
				if !ok {
					t.Errorf("there is no command %s", words[0])
				}
				for _, w := range words[1:] {
					option, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
					if !slices.Contains(strings.Fields(options), option) && (strings.HasPrefix(w, "--") || !strings.Contains(options, "arg")) {
						t.Errorf("%s has no %s", words[0], w)
					}
				}
			}
			var heads []string
			for _, s := range ks.sections {
				heads = append(heads, strings.Fields(s.head)[0])
			}
			if got := strings.Join(heads, " "); got != "%packages %pre %pre-install %post %post %onerror" || ks.open {
				t.Errorf("sections %s, the last open: %t", got, ks.open)
			}
			version := "RHEL" + v.Repo.Version
			if name == "fedora" {
				version = "F" + v.Repo.Version
			}
			judge(t, r, nil, "ksvalidator", "-v", version)
		})
	}
}

// A kickstart file: commands as words, and sections.
type kickstart struct {
	commands [][]string
	sections []section
	open     bool
}

type section struct {
	head string
	body string
}

// parseKickstart reads a file as pykickstart does: sections go from their head to %end, other lines are split as shells
// do.
func parseKickstart(text string) (k kickstart) {
	for _, line := range strings.Split(text, "\n") {
		switch {
		case k.open && strings.TrimSpace(line) == "%end":
			k.open = false
		case k.open:
			k.sections[len(k.sections)-1].body += line + "\n"
		case strings.HasPrefix(line, "%"):
			k.sections, k.open = append(k.sections, section{head: line}), true
		default:
			if words := shlex(line); len(words) > 0 {
				k.commands = append(k.commands, words)
			}
		}
	}
	return k
}

// shlex splits a line as Python's module of that name does with comments (POSIX rules).
func shlex(line string) (words []string) {
	var word strings.Builder
	in, quote := false, rune(0)
	escaped := false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, in = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == '#' && !in:
			return words
		case r == ' ' || r == '\t':
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteRune(r)
			in = true
		}
	}
	if in {
		words = append(words, word.String())
	}
	return words
}

// TestZ17AutoYaST: the profile is well formed and has only elements that YaST knows, each of its type.
func TestZ17AutoYaST(t *testing.T) {
	texts(t, "suse", "autoinst.xml", func(t *testing.T, _ *Task, v Values, r Rendered) {
		if v.Repo.OS != "sles" {
			judge(t, r, nil, "xmllint", "--noout", "--nonet", "--relaxng", "testdata/autoyast.rng")
			v.Repo.OS = "sles"
			text, err := shippedTask(t, "suse").RenderRecipe(r.Name, v)
			if err != nil {
				t.Fatal(err)
			}
			r.Text = text
		}
		judge(t, r, nil, "xmllint", "--noout", "--nonet", "--relaxng", "testdata/autoyast.rng")
	})
}

// scripts are those for a shell in a text.
func scripts(r Rendered) (list []string, err error) {
	switch r.Format {
	case "sh":
		list = append(list, r.Text)
	case "ks":
		for _, s := range parseKickstart(r.Text).sections {
			if !strings.HasPrefix(s.head, "%packages") && !strings.Contains(s.head, "python") {
				list = append(list, s.body)
			}
		}
	case "preseed":
		for _, m := range regexp.MustCompile(`(?m)_command string (.*)$`).FindAllStringSubmatch(r.Text, -1) {
			list = append(list, m[1])
		}
	case "yaml", "json":
		var doc any
		err = yaml.Unmarshal([]byte(r.Text), &doc)
		list = embedded(doc)
	case "xml":
		var doc struct {
			Sources []string `xml:"scripts>pre-scripts>script>source"`
			Part    []string `xml:"scripts>postpartitioning-scripts>script>source"`
			Chroot  []string `xml:"scripts>chroot-scripts>script>source"`
		}
		err = xml.Unmarshal([]byte(r.Text), &doc)
		list = slices.Concat(doc.Sources, doc.Part, doc.Chroot)
	}
	return list, err
}

// embedded are the scripts among the strings of a document.
func embedded(doc any) (list []string) {
	switch doc := doc.(type) {
	case string:
		if strings.HasPrefix(doc, "#!/bin/sh") {
			list = append(list, doc)
		}
	case []any:
		for _, v := range doc {
			list = append(list, embedded(v)...)
		}
	case map[string]any:
		for _, v := range doc {
			list = append(list, embedded(v)...)
		}
	}
	return list
}

// TestZ18Scripts: every script in every text is one to dash, which installers have, and to bash.
func TestZ18Scripts(t *testing.T) {
	seen := map[string]bool{} // most scripts are in several texts
	perTask := map[string]int{}
	each(t, func(t *testing.T, task *Task, _ Values, all []Rendered) {
		for _, r := range all {
			list, err := scripts(r)
			if err != nil {
				t.Errorf("%s: %v", r.Name, err)
			}
			perTask[task.Name] += len(list)
			for _, s := range list {
				for _, shell := range []string{"dash", "bash"} {
					if program, err := exec.LookPath(shell); err == nil && !seen[shell+s] {
						cmd := exec.CommandContext(t.Context(), program, "-n")
						cmd.Stdin = strings.NewReader(s)
						if out, err := cmd.CombinedOutput(); err != nil {
							t.Errorf("%s: %s -n: %v\n%s\n%s", r.Name, shell, err, out, s)
						}
						seen[shell+s] = true
					}
				}
			}
		}
	})
	for name, least := range map[string]int{"debian": 12, "ubuntu": 12, "rhel": 15, "fedora": 15, "suse": 9} {
		if perTask[name] < least {
			t.Errorf("%s has %d scripts on all fixtures; want %d at least", name, perTask[name], least)
		}
	}
}

// TestNobodyLocksHimselfOut: what could not work is refused, with a word that says what to give.
func TestNobodyLocksHimselfOut(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params map[string]any
		disk   Disk
		want   string
	}{
		{"no password and no key", map[string]any{}, Disk{ByID: "/dev/disk/by-id/x"}, "nobody could log in"},
		{"a user without a password or key", map[string]any{"user": "anna"}, Disk{ByID: "/dev/disk/by-id/x"}, "nobody could log in"},
		{"a password of nobody", map[string]any{"ssh_keys": []any{"k"}, "user_password": "x"}, Disk{ByID: "/dev/disk/by-id/x"}, "user_password is of no user"},
		{"static without an address", map[string]any{"ssh_keys": []any{"k"}, "network": "static", "gateway": "192.0.2.1"}, Disk{ByID: "/dev/disk/by-id/x"}, "no address or no gateway"},
		{"static without a gateway", map[string]any{"ssh_keys": []any{"k"}, "network": "static", "address": "192.0.2.2/24"}, Disk{ByID: "/dev/disk/by-id/x"}, "no address or no gateway"},
		{"a disk without a sure name", map[string]any{"ssh_keys": []any{"k"}}, Disk{Name: "sda"}, "no name of it is sure"},
		{"a key is enough", map[string]any{"ssh_keys": []any{"k"}}, Disk{ByPath: "/dev/disk/by-path/x"}, ""},
		{"a user with a password is enough", map[string]any{"user": "anna", "user_password": "x"}, Disk{ByID: "/dev/disk/by-id/x"}, ""},
	} {
		for _, name := range []string{"debian", "ubuntu", "rhel", "fedora", "suse"} {
			v, err := Fixtures()[0].For(shippedTask(t, name))
			if err != nil {
				t.Fatal(err)
			}
			given := tt.params
			if name == "ubuntu" {
				given = map[string]any{"iso": "http://192.0.2.1/x.iso"}
				for k, v := range tt.params {
					given[k] = v
				}
			}
			if v.Param, err = shippedTask(t, name).Params(given); err != nil {
				t.Fatal(err)
			}
			v.Disk = tt.disk
			_, errs := shippedTask(t, name).RenderAll(v)
			if err := errors.Join(errs...); tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%s of %s: %v; want an error with %q", tt.name, name, err, tt.want)
			}
		}
	}
}
