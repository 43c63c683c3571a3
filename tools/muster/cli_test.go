package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"muster/agent/facts"
	"muster/broker"
)

// leaves are the commands that do something, by path.
func leaves(c *cobra.Command, path string, list map[string]*cobra.Command) {
	if c.Name() == "help" || c.Hidden {
		return
	}
	if !c.HasSubCommands() {
		list[strings.TrimSpace(path)] = c
	}
	for _, sub := range c.Commands() {
		leaves(sub, path+" "+sub.Name(), list)
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	root, all := rootCommand(), map[string]*cobra.Command{}
	finish(root)
	leaves(root, "", all)
	if len(all) < 35 {
		t.Errorf("%d commands: this test looks in the wrong place", len(all))
	}
	for path, c := range all {
		if !strings.Contains(c.Example, "muster "+strings.Fields(path)[0]) || c.Short == "" {
			t.Errorf("muster %s has the example %q", path, c.Example)
		}
	}
}

// called is one run of the program.
func called(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestWrongCallsAreStatusTwo(t *testing.T) {
	for _, args := range [][]string{{"bogus"}, {"node", "bogus"}, {"ramdisk", "bogus"}, {"get"}, {"get", "colours"}, {"get", "nodes", "a", "b"}, {"get", "nodes", "--bogus"},
		{"describe", "node"}, {"node", "hold"}, {"node", "register"}, {"node", "register", "--mac", "52:54:00:00:00:01", "-f", "x"}, {"node", "register", "--mac", "52:54:00:00:00:01", "--meta", "x"}, {"timeline"}, {"token", "create"}, {"apply"}, {"explain", "a", "b"}, {"get", "events", "--since", "never"}, {"get", "events", "--limit", "2"}, {"--server", "x", "get", "nodes"},
		{"token", "create", "x", "--expires", "-1h"}, {"hook", "dead"}, {"hook", "retry"}, {"hook", "retry", "h", "x"}, {"hook", "try", "h"}, {"task", "show"}, {"task", "lint"}, {"task", "list", "x"}} {
		code, out, errOut := called(t, args...)
		if code != 2 || !strings.HasPrefix(errOut, "muster: ") || out != "" {
			t.Errorf("muster %s = %d, %q, %q; want 2 and a word of why", strings.Join(args, " "), code, out, errOut)
		}
	}
	for _, args := range [][]string{{}, {"node"}, {"--help"}, {"get", "--help"}, {"completion", "bash"}, {"completion", "zsh"}, {"completion", "fish"}} {
		if code, out, errOut := called(t, args...); code != 0 || out == "" || errOut != "" {
			t.Errorf("muster %s = %d, %d bytes, %q", strings.Join(args, " "), code, len(out), errOut)
		}
	}
}

// noJSON are commands that -o json does not concern, and why.
var noJSON = map[string]string{
	"serve": "runs until it is stopped", "dhcp-config": "prints another program's configuration", "doctor": "needs a network; lab and doctor tests read it", "doctor client": "as doctor",
	"lab run": "shows a machine's screen", "lab build": "makes files", "lab bench-facts": "needs machines; has a form of its own", "lab planted": "needs a machine",
	"ramdisk build": "-o is its file", "ramdisk repack": "-o is its file", "ramdisk add": "-o is its file", "ramdisk remove": "-o is its file", "ramdisk sign": "makes files", "ramdisk unpack": "ramdisk tests read it",
	"ramdisk list": "ramdisk tests read it", "ramdisk diff": "ramdisk tests read it", "ramdisk check": "ramdisk tests read it", "ramdisk import": "the life story of ramdisks reads it", "repo import": "the life story of repos reads it",
	"repo verify":     "the life story of repos reads it",
	"completion bash": "a shell's program", "completion zsh": "a shell's program", "completion fish": "a shell's program", "completion powershell": "a shell's program",
	"backup": "makes a file", "restore": "reads a file; the life story of backups reads what it says",
	"events export": "lines of JSON, whatever is asked for",
}

// TestJSONOfEveryCommand: each command that asks the server prints one JSON document; a command that is new says how it
// is called here, or why not.
func TestJSONOfEveryCommand(t *testing.T) {
	b, url, token := serveBroker(t, "52:54:00:00:00:01")
	if _, err := b.CheckIn(t.Context(), strings.Repeat("k", 32), &facts.CheckIn{V: 1, Token: token, BootID: "b", Facts: &facts.Facts{Schema: 1}}); err != nil {
		t.Fatal(err)
	}
	_, secret, err := b.CreateToken(t.Context(), "tester", broker.Admin, time.Time{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_SERVER", url)
	t.Setenv("MUSTER_TOKEN", secret)
	file := t.TempDir() + "/tag.yaml"
	write(t, file, "kind: Tag\nname: a\nrule: 1 == 1\n---\nkind: Hook\nname: h\non: [node.active]\nurl: https://192.0.2.1/\nwhere: 1 == 2\n---\nkind: Handoff\nname: h\ntype: noop\n---\nkind: Repo\nname: m\nurl: https://192.0.2.1/m\nos: debian\nversion: \"12\"\narch: amd64\n")
	calls := []struct{ path, args string }{
		{"apply", "-f " + file}, {"get", "nodes"}, {"get", "nodes @a"}, {"get", "tags"}, {"get", "tag a"}, {"get", "events"}, {"get", "ramdisks"}, {"get", "hooks"}, {"get", "hook h"}, {"get", "handoffs"}, {"repo list", ""}, {"repo show", "m"}, {"repo delete", "m"}, {"describe", "hook h"}, {"describe", "handoff h"},
		{"describe", "node node1"}, {"describe", "tag a"},
		{"describe", "ramdisk r"}, {"explain", "node1"}, {"explain", "all"}, {"render", "node1"}, {"timeline", "node1"}, {"timeline", "all"},
		{"node protect", "node1"}, {"node unprotect", "all"}, {"node hold", "node1"}, {"node release", "node1"}, {"node resolve", "node1,node1"}, {"node abort", "node1,node1"}, {"node reinstall", "node1,node1"},
		{"plan", "-f " + file}, {"node meta", "node1 a=1 b-"}, {"node register", "--mac 52:54:00:00:00:77 --hostname r12n01 --installed"}, {"node pin", "node1,node1 --policy p"}, {"node unpin", "node1"}, {"node clean", "node1,node1"}, {"node inspect", "node1,node1"},
		{"node manage", "node1,node1"}, {"node provide", "node1,node1"}, {"node deploy", "node1,node1"}, {"node undeploy", "node1,node1"},
		{"hook dead", "h"}, {"hook retry", "h"}, {"hook try", "h node1"}, {"token create", "alice"}, {"token list", ""}, {"task list", ""}, {"task show", "debian"}, {"task lint", "debian"}, {"token revoke", "alice"}, {"node delete", "all --yes"}, {"delete", "tag a"},
	}
	root, all := rootCommand(), map[string]*cobra.Command{}
	finish(root)
	leaves(root, "", all)
	for path := range noJSON {
		delete(all, path)
	}
	for _, c := range calls {
		delete(all, c.path)
		args := append(append(strings.Fields(c.path), strings.Fields(c.args)...), "-o", "json")
		_, out, errOut := called(t, args...)
		if d := json.NewDecoder(strings.NewReader(out)); d.Decode(new(any)) != nil || d.More() {
			t.Errorf("muster %s prints %q, %q; want one JSON document", strings.Join(args, " "), out, errOut)
		}
	}
	for path := range all {
		t.Errorf("muster %s is called by no row of this test", path)
	}
}

func TestGridFitsTheTerminal(t *testing.T) {
	table := func(width int) string {
		var out bytes.Buffer
		g := &grid{out: &out, width: width}
		row(g, "NODE", "HOSTNAME", "STATE", "TAGS")
		row(g, "node1", "r12n001.example.net", "wait call-back (hold)", "gpu,large,rack-b,prod")
		row(g, "node1000", "機械機械機械機械機械機械", "active", "-")
		if err := g.flush(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for width, want := range map[int]string{
		0: "" +
			"NODE      HOSTNAME                  STATE                  TAGS\n" +
			"node1     r12n001.example.net       wait call-back (hold)  gpu,large,rack-b,prod\n" +
			"node1000  機械機械機械機械機械機械  active                 -\n",
		60: "" +
			"NODE      HOSTNAME      STATE                  TAGS\n" +
			"node1     r12n001.exa…  wait call-back (hold)  gpu,large,ra…\n" +
			"node1000  機械機械機…   active                 -\n",
		30: "" +
			"NODE      HOSTNAME  STATE\n" +
			"node1     r12n001…  wait ca…\n" +
			"node1000  機械機…   active\n",
	} {
		got := table(width)
		if got != want {
			t.Errorf("in %d columns\n%s\nwant\n%s", width, got, want)
		}
	}
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	for _, colour := range []bool{false, true} {
		var out bytes.Buffer
		g := &grid{out: &out, colour: colour}
		row(g, "node1", "deploy failed (protected)", "active", "activex", "available (hold)", "\x1b[2J")
		if err := g.flush(); err != nil {
			t.Fatal(err)
		}
		want := "node1  deploy failed (protected)  active  activex  available (hold)  ?[2J\n"
		if colour {
			want = "node1  \x1b[31mdeploy failed (protected)\x1b[0m  \x1b[32mactive\x1b[0m  activex  \x1b[31mavailable (hold)\x1b[0m  ?[2J\n"
		}
		if out.String() != want {
			t.Errorf("colour %v: %q\nwant %q", colour, out.String(), want)
		}
	}
}

// TestCompletionKnowsNames: what a shell is told when TAB is pressed.
func TestCompletionKnowsNames(t *testing.T) {
	b, url, _ := serveBroker(t, "52:54:00:00:00:01")
	objects, err := broker.ParseObjects([]byte("kind: Tag\nname: gpu\nrule: 1 == 1\n"))
	if err == nil {
		_, err = b.Apply(t.Context(), objects, "test")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := b.CreateToken(t.Context(), "tester", broker.Reader, time.Time{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MUSTER_SERVER", url)
	t.Setenv("MUSTER_TOKEN", secret)
	for line, want := range map[string]string{
		"node hold n":             "node1",
		"node hold node9,-no":     "node9,-node1",
		"timeline @":              "@gpu",
		"get nodes --tag ":        "gpu",
		"get nodes --state wait":  "wait call-back",
		"describe tag ":           "gpu",
		"get ":                    "policies",
		"token create x --role a": "admin",
	} {
		args := strings.SplitAfter(line, " ")
		for i := range args {
			args[i] = strings.TrimSpace(args[i])
		}
		_, out, _ := called(t, append([]string{"__complete"}, args...)...)
		if !strings.Contains("\n"+out, "\n"+want+"\n") {
			t.Errorf("muster %s[TAB] gives %q; want %s", line, out, want)
		}
	}
	t.Setenv("MUSTER_SERVER", "unix:/nowhere")
	if code, out, _ := called(t, "__complete", "node", "hold", ""); code != 0 || !strings.HasPrefix(out, ":") {
		t.Errorf("without a server TAB gives %d, %q", code, out)
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{"90m": "2026-11-27T10:30:00Z", "7d": "2026-11-20T12:00:00Z", "2026-11-01": "2026-11-01T00:00:00Z", "2026-11-01T08:00:00+02:00": "2026-11-01T06:00:00Z",
		"d": "", "7dd": "", "-1h": "", "-7d": "", "1w": ""} {
		got, err := moment(text, now, -1)
		if (err == nil) != (want != "") || err == nil && got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%s = %s, %v; want %s", text, got, err, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
