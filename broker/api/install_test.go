package api_test

import (
	"bytes"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker/api"
)

const installerDocs = `kind: Task
name: site
files:
  task.yaml: |
    name: site
    summary: an installer for tests
    repo: tree
    disk: true
    parameters: {root_password: {type: password, summary: of root}}
    recipes: [{name: answers.sh}]
    stages:
      - {name: install, step: kernel, deadline: 1h, args: ["url={{.File \"answers.sh\" | arg}}"]}
      - {name: first-boot, step: local, deadline: 10m}
  answers.sh: |
    password {{.Param.root_password | sh}}
    tell {{.Log | sh}}
---
kind: Repo
name: mirror
url: http://192.0.2.9/debian/
kernel: linux
initrds: [initrd.gz]
---
kind: Policy
name: web
match: all
task: site
repo: mirror
approval: automatic
params: {root_password: canary-of-root}
`

// path gives the part of a URL that names no server.
func pathIn(t *testing.T, text, what string) string {
	t.Helper()
	m := regexp.MustCompile(`http://192\.0\.2\.10:8080(/node/v1/install/[A-Za-z0-9._-]+/` + what + `)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no URL of %s in\n%s", what, text)
	}
	return m[1]
}

// installer boots a machine into its installer, and gives the paths of its recipe and of its log.
func installer(t *testing.T, r *rig, mac string) (recipe, log string) {
	t.Helper()
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", installerDocs); a.Status != 200 {
		t.Fatalf("apply: %d %s", a.Status, a.Body)
	}
	r.agent(t, bootKey(1), mac)
	recipe = pathIn(t, r.call(t, "GET", "/boot/ipxe?platform=efi&mac="+mac, "", "", "").Body, "file/answers.sh")
	a := r.call(t, "GET", recipe, "", "", "")
	if a.Status != 200 || !strings.Contains(a.Body, "password 'canary-of-root'\n") || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("the recipe: %+v", a)
	}
	return recipe, pathIn(t, a.Body, "log/install")
}

// An installer tells by whatever it has: wget's GET, curl's forms, a file as the body.
func TestInstallersTell(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	r := newRig(t)
	_, log := installer(t, r, mac)
	at := strings.TrimSuffix(log, "log/install")
	for _, tt := range []struct {
		name, method, path, typ, body string
		status                        int
	}{
		{"a phase by wget", "GET", at + "phase/partition", "", "", 204},
		{"a line by wget", "GET", log + "?msg=one+line&severity=warn", "", "", 204},
		{"a line by curl", "POST", log, "application/x-www-form-urlencoded", "msg=another&severity=error", 204},
		{"a file by curl", "POST", log, "application/x-www-form-urlencoded", "first & line\nlast line of the log\n", 204},
		{"a file that is too long", "POST", log, "text/plain", strings.Repeat("x", 64<<10+1), 400},
		{"a phase with a name that is none", "GET", at + "phase/a%2fb", "", "", 404},
		{"another method", "DELETE", log, "", "", 404},
		{"the end, with words", "POST", at + "done/install", "application/x-www-form-urlencoded", "kernel=6.1", 204},
		{"the first boot", "GET", at + "done/first-boot?hostname=web1", "", "", 204},
	} {
		if a := r.call(t, tt.method, tt.path, "", tt.typ, tt.body); a.Status != tt.status {
			t.Errorf("%s: %d %s; want %d", tt.name, a.Status, a.Body, tt.status)
		}
	}
	events := r.call(t, "GET", "/api/v1/events", operatorToken, "", "").Body
	for _, want := range []string{`"node.phase"`, `"one line"`, `"severity":"error"`, `"last line of the log"`, `"kernel":"6.1"`, `"node.active"`} {
		if !strings.Contains(events, want) {
			t.Errorf("the journal has no %s:\n%s", want, events)
		}
	}
}

// TestT11InstallersCanary looks for what an installer is given in all that is kept and told.
func TestT11InstallersCanary(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	r := newRig(t)
	recipe, log := installer(t, r, mac)
	r.call(t, "GET", log+"?msg=hello", "", "", "")
	r.call(t, "GET", strings.Replace(recipe, "answers.sh", "none.sh", 1), "", "", "")
	told := r.log.String()
	for _, path := range []string{"/api/v1/nodes", "/api/v1/nodes/node1", "/api/v1/nodes/node1/explain", "/api/v1/nodes/node1/render", "/api/v1/nodes/node1/recipes",
		"/api/v1/nodes/node1/recipes/answers.sh", "/api/v1/events", "/api/v1/objects/Policy", "/api/v1/objects/Task", "/api/v1/objects/Policy/web"} {
		a := r.call(t, "GET", path, operatorToken, "", "")
		if a.Status != 200 {
			t.Errorf("GET %s = %d %s", path, a.Status, a.Body)
		}
		told += a.Body
	}
	if !strings.Contains(told, "fetched answers.sh") || !strings.Contains(told, "password '***'") {
		t.Errorf("neither the journal nor the recipe is told of: this test looks in the wrong place")
	}
	kept := everyByte(t, r.dir)
	proof := func(path string) string {
		token := strings.Split(path, "/")[4]
		return token[strings.LastIndex(token, ".")+1:]
	}
	for what, secret := range map[string]string{"the password": "canary-of-root", "the token of recipes": proof(recipe), "the token of reports": proof(log)} {
		if strings.Contains(told, secret) {
			t.Errorf("%s is told", what)
		}
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("%s is kept", what)
		}
	}
}

// T7: whoever asks for what is not his is told the same, whatever the cause.
func TestT7InstallersRefusalsAreEqual(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	r := newRig(t, func(c *api.Config) { c.PlainSecrets = false })
	recipe, log := installer(t, r, mac)
	fetch, report := strings.Split(recipe, "/")[4], strings.Split(log, "/")[4]
	want := r.call(t, "GET", "/node/v1/install/x/file/answers.sh", "", "", "")
	if want.Status != http.StatusNotFound {
		t.Fatalf("a stranger: %+v", want)
	}
	for _, path := range []string{report + "/file/answers.sh", fetch + "/file/task.yaml", fetch + "0/file/answers.sh", fetch + "/done/install", fetch + "/log/install", fetch + "/phase/x",
		fetch + "/failed/install", fetch + "/handoff/install", report + "/done/first-boot", report + "/done/none", report + "/log/none", report + "/handoff/first-boot", "node1.1.00/done/install"} {
		if diff := cmp.Diff(want, r.call(t, "GET", "/node/v1/install/"+path, "", "", "")); diff != "" {
			t.Errorf("%s (-a stranger +got):\n%s", path[strings.IndexByte(path, '/'):], diff)
		}
	}
	if diff := cmp.Diff(want, r.call(t, "GET", "/ks?mac="+mac, "", "", "")); diff != "" {
		t.Errorf("by the MAC, where the server was not told so (-a stranger +got):\n%s", diff)
	}
}
