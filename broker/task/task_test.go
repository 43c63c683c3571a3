package task

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/boot/pin/pintest"
)

// shippedOnce is Shipped, which no test changes.
var shippedOnce = sync.OnceValues(Shipped)

func shippedTask(t *testing.T, name string) *Task {
	t.Helper()
	tasks, err := shippedOnce()
	if err != nil {
		t.Fatal(err)
	}
	if tasks[name] == nil {
		t.Fatalf("there is no shipped task %s", name)
	}
	return tasks[name]
}

func TestShippedTasks(t *testing.T) {
	image := shippedTask(t, "image")
	if image.Repo != RepoImage || !image.Disk || len(image.Stages) != 2 || image.Stages[0].Order != facts.OrderWriteImage || image.Stages[1].Step != boot.StepLocal ||
		time.Duration(image.Stages[0].Deadline) != time.Hour {
		t.Errorf("image = %+v", image)
	}
	if keep := shippedTask(t, "discover-only"); keep.Repo != RepoNone || len(keep.Stages) != 0 || len(keep.Files) != 0 || keep.Summary == "" {
		t.Errorf("discover-only = %+v", keep)
	}
}

// file gives one rendered file of the image task.
func file(t *testing.T, v Values, path string) facts.File {
	t.Helper()
	files := filesOf(t, v)
	i := slices.IndexFunc(files, func(f facts.File) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("the image task has no file %s", path)
	}
	return files[i]
}

// filesOf are those of the image task, with its own parameters.
func filesOf(t *testing.T, v Values) []facts.File {
	t.Helper()
	var err error
	if v.Param, err = shippedTask(t, "image").Params(nil); err != nil {
		t.Fatal(err)
	}
	files, err := shippedTask(t, "image").RenderFiles(v)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

var valueSets = []struct {
	name     string
	values   Values
	hostname string
	hosts    string
}{
	{"a fully qualified name", Values{Server: "http://192.0.2.10:8080", Node: Node{ID: "node1", Hostname: "osd001.example.net"}, Token: "node1.1.00ff", Next: "first-boot"}, "osd001\n",
		"127.0.0.1\tlocalhost\n127.0.1.1\tosd001.example.net osd001\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"a short name", Values{Server: "https://muster.example.net", Node: Node{ID: "node2", Hostname: "osd002"}, Token: "node2.7.aa", Next: "first-boot"}, "osd002\n",
		"127.0.0.1\tlocalhost\n127.0.1.1\tosd002\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
	{"a node without a name of its own", Values{Server: "http://[2001:db8::1]:80", Node: Node{ID: "node3", Hostname: "node3"}, Token: "node3.2.bb", Next: "second-boot"}, "node3\n",
		"127.0.0.1\tlocalhost\n127.0.1.1\tnode3\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
}

func TestImageFiles(t *testing.T) {
	for _, tt := range valueSets {
		t.Run(tt.name, func(t *testing.T) {
			if got := file(t, tt.values, "/etc/hostname").Content; got != tt.hostname {
				t.Errorf("/etc/hostname = %q; want %q", got, tt.hostname)
			}
			if got := file(t, tt.values, "/etc/hosts").Content; got != tt.hosts {
				t.Errorf("/etc/hosts = %q; want %q", got, tt.hosts)
			}
			token := file(t, tt.values, "/etc/muster/token")
			if token.Content != tt.values.Token+"\n" || token.Mode != 0o600 {
				t.Errorf("/etc/muster/token = %q, mode %o", token.Content, token.Mode)
			}
			script := file(t, tt.values, "/usr/local/sbin/muster-first-boot")
			if !strings.Contains(script.Content, "server='"+tt.values.Server+"'\nstage='"+tt.values.Next+"'\n") || strings.Contains(script.Content, tt.values.Token) || script.Mode != 0o755 {
				t.Errorf("the first-boot script, mode %o:\n%s", script.Mode, script.Content)
			}
			sh := exec.Command("sh", "-n")
			sh.Stdin = strings.NewReader(script.Content)
			if out, err := sh.CombinedOutput(); err != nil {
				t.Errorf("sh -n: %v\n%s", err, out)
			}
			if link := file(t, tt.values, "/etc/systemd/system/multi-user.target.wants/muster-first-boot.service"); link.Link != "../muster-first-boot.service" || link.Content != "" {
				t.Errorf("the unit is not enabled: %+v", link)
			}
		})
	}
}

// call is what the broker hears of a first boot.
type call struct {
	method, path, token string
	form                map[string]string
}

// TestFirstBootScript runs the script as it stands, against a server that gives these answers in a row.
func TestFirstBootScript(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []int
	}{
		{"204 is the end", []int{204}},
		{"404 is final too", []int{404}},
		{"503 is tried again", []int{503, 503, 204}},
		{"so is anything else that is no answer of ours", []int{500, 401, 302, 404}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var calls []call
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				_ = r.ParseForm() // a broken form shows in what it lacks
				c := call{r.Method, r.URL.Path, r.Header.Get("Authorization"), map[string]string{}}
				for k := range r.PostForm {
					c.form[k] = r.PostForm.Get(k)
				}
				calls = append(calls, c)
				w.WriteHeader(tt.answers[min(len(calls), len(tt.answers))-1])
			}))
			defer srv.Close()
			const secret = "node1.1.canary0123456789"
			args, out := firstBoot(t, "", Values{Server: srv.URL, Node: Node{ID: "node1", Hostname: "node1"}, Token: secret, Next: "first-boot"})
			if bytes.Contains(args, []byte(secret)) || bytes.Contains(out, []byte(secret)) {
				t.Errorf("the token is seen in arguments or output:\n%s%s", args, out)
			}
			if len(calls) != len(tt.answers) {
				t.Fatalf("%d calls; want %d\n%s", len(calls), len(tt.answers), out)
			}
			host, _ := os.ReadFile("/proc/sys/kernel/hostname")
			for _, c := range calls {
				if c.method != "POST" || c.path != "/node/v1/stage/first-boot" || c.token != "Bearer "+secret || c.form["hostname"] != strings.TrimSpace(string(host)) || len(c.form["boot_id"]) != 36 {
					t.Errorf("the broker heard %+v", c)
				}
			}
			if n := bytes.Count(args, []byte("sleep ")); n != len(tt.answers)-1 {
				t.Errorf("%d pauses between %d calls", n, len(calls))
			}
		})
	}
}

// TestFirstBootRunsTheHandoff: what takes over is fetched until it can be run, run until it is done, and told of before
// the stage ends. The network cuts one answer short: half a script is not run.
func TestFirstBootRunsTheHandoff(t *testing.T) {
	const secret = "node1.1.canary0123456789"
	ran := filepath.Join(t.TempDir(), "ran")
	scripts := []string{"", "#!/bin/sh\necho run >>" + ran + "\necho no key; echo \"of canary9876\\000\" >&2; exit 3\n", "cut", "#!/bin/sh\ncat\necho $HOME $PWD >>" + ran + "\n"}
	var mu sync.Mutex
	var heard []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_ = r.ParseForm() // a broken form shows in what it lacks
		if r.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s %s by %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		heard = append(heard, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.PostForm.Get("status")+" "+r.PostForm.Get("log")))
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		switch script := scripts[0]; script {
		case "":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "#!/bin/sh\necho cut >>"+ran+"\n") // the rest never comes
		default:
			_, _ = io.WriteString(w, script)
		}
		scripts = scripts[1:]
	}))
	defer srv.Close()
	args, out := firstBoot(t, "", Values{Server: srv.URL, Node: Node{ID: "node1", Hostname: "node1"}, Token: secret, Next: "first-boot", Handoff: "puppet"})
	want := []string{"GET /node/v1/handoff/first-boot", "GET /node/v1/handoff/first-boot", "POST /node/v1/handoff/first-boot 3 no key\nof canary9876\x00",
		"GET /node/v1/handoff/first-boot", "GET /node/v1/handoff/first-boot", "POST /node/v1/handoff/first-boot 0", "POST /node/v1/stage/first-boot"}
	if diff := cmp.Diff(want, heard); diff != "" {
		t.Errorf("the broker heard (-want +got):\n%s\n%s", diff, out)
	}
	if did, err := os.ReadFile(ran); err != nil || string(did) != "run\n/root /\n" {
		t.Errorf("the scripts did %q, %v", did, err)
	}
	if bytes.Contains(args, []byte("canary")) {
		t.Errorf("what only the broker should hear is seen in arguments:\n%s", args)
	}
}

// A handoff that is no more is no reason to stay.
func TestFirstBootWithoutAHandoffGoesOn(t *testing.T) {
	for _, code := range []int{http.StatusNoContent, http.StatusNotFound} {
		var heard []string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			heard = append(heard, r.Method+" "+r.URL.Path)
			w.WriteHeader(code)
		}))
		_, out := firstBoot(t, "", Values{Server: srv.URL, Node: Node{ID: "node1", Hostname: "node1"}, Token: "node1.1.00", Next: "first-boot", Handoff: "puppet"})
		srv.Close()
		if diff := cmp.Diff([]string{"GET /node/v1/handoff/first-boot", "POST /node/v1/stage/first-boot"}, heard); diff != "" {
			t.Errorf("%d: the broker heard (-want +got):\n%s\n%s", code, diff, out)
		}
	}
}

// firstBoot runs the script as it stands until it ends, with files of its own, and gives what it ran and said. Every
// program that it starts is written down with its arguments; sleep takes no time; curl has all the time it needs and gets
// one more option.
func firstBoot(t *testing.T, option string, v Values) (args, out []byte) {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	dir := t.TempDir()
	token, script := filepath.Join(dir, "etc/muster/token"), file(t, v, "/usr/local/sbin/muster-first-boot").Content
	if !strings.Contains(script, "token=/etc/muster/token\n") || strings.Contains(script, "ca=/etc/muster/ca.pem\n") != (v.CA != "") {
		t.Fatalf("the script does not name its files where this test puts others:\n%s", script)
	}
	put(t, token, 0o600, v.Token+"\n")
	if v.CA != "" {
		put(t, filepath.Join(dir, "etc/muster/ca.pem"), 0o644, file(t, v, "/etc/muster/ca.pem").Content)
	}
	here := strings.NewReplacer("=/etc/muster/", "="+dir+"/etc/muster/", " /var/", " "+dir+"/var/", " /root/", " "+dir+"/root/")
	put(t, filepath.Join(dir, "script"), 0o755, here.Replace(script))
	recipe := filepath.Join(dir, "var/log/installer/autoinstall-user-data")
	put(t, recipe, 0o644, "password: $6$")
	put(t, filepath.Join(dir, "bin", "curl"), 0o755, fmt.Sprintf("#!/bin/sh\necho \"curl $*\" >>%s/args\nexec %s \"$@\" -m 0 %s\n", dir, curl, option))
	put(t, filepath.Join(dir, "bin", "sleep"), 0o755, fmt.Sprintf("#!/bin/sh\necho \"sleep $*\" >>%s/args\n", dir))
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "script"))
	cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin:/usr/sbin:/sbin", "http_proxy="}
	if out, err = cmd.CombinedOutput(); err != nil {
		t.Fatalf("the script: %v\n%s", err, out)
	}
	if st, err := os.Stat(recipe); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("what the installer left: %v, %v; want it for root alone", st.Mode(), err)
	}
	if args, err = os.ReadFile(filepath.Join(dir, "args")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(token); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the token is still there: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "etc/muster/handoff*")); len(left) > 0 {
		t.Errorf("the handoff left %v (%v)", left, err)
	}
	return args, out
}

// TestT13FirstBootVerifiesTheBroker: real curl believes the CA that was put beside the script and no other, not even
// those of the system, and tells others nothing. The first two to answer are others.
func TestT13FirstBootVerifiesTheBroker(t *testing.T) {
	ours, theirs := pintest.New(t, "ours"), pintest.New(t, "theirs")
	shown := []tls.Certificate{theirs.Leaf(t, nil, "127.0.0.1"), ours.Leaf(t, nil, "127.0.0.2"), ours.Leaf(t, nil, "127.0.0.1")}
	var mu sync.Mutex
	var told []int // by how many handshakes there were before
	hands := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, hands)
		w.WriteHeader(http.StatusNoContent)
	}))
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		hands++
		return &tls.Config{Certificates: []tls.Certificate{shown[min(hands, len(shown))-1]}}, nil
	}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.Cert.Raw}))
	_, out := firstBoot(t, "-v", Values{Server: srv.URL, CA: ca, Node: Node{ID: "node1", Hostname: "node1"}, Token: "node1.1.00", Next: "first-boot"})
	if diff := cmp.Diff([]int{3}, told); diff != "" {
		t.Errorf("the call came through after these handshakes (-want +got):\n%s\n%s", diff, out)
	}
	for _, want := range []string{"self-signed certificate in certificate chain", "no alternative certificate subject name matches target", "CApath: /dev/null", "first-boot is done"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the script did not say %q:\n%s", want, out)
		}
	}
}

func TestNoCANoFile(t *testing.T) {
	files := filesOf(t, valueSets[0].values)
	if i := slices.IndexFunc(files, func(f facts.File) bool { return f.Path == "/etc/muster/ca.pem" }); i >= 0 {
		t.Errorf("without a CA there is %+v", files[i])
	}
}

func put(t *testing.T, file string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// oneTemplate is a task with one template.
func oneTemplate(yaml, template string) fstest.MapFS {
	return fstest.MapFS{"task.yaml": {Data: []byte(yaml)}, "x": {Data: []byte(template)}}
}

const oneFile = "name: t\nfiles:\n  - {path: /x, mode: 0o644, template: x}\n"

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name     string
		yaml     string
		template string
		says     []string
	}{
		{"an unknown field, with its line", "name: t\nsummary: s\nsteps: []\n", "", []string{"[3:1]", "steps"}},
		{"an unknown field of a stage", "name: t\nstages:\n  - {name: a, step: local, deadline: 1m, retry: 3}\n", "", []string{"[3:", "retry"}},
		{"a wrong type", "name: t\nrepo: perhaps\n", "", []string{"want image or tree"}},
		{"no name", "summary: s\n", "", []string{"name is missing"}},
		{"a stage without a deadline", "name: t\nstages:\n  - {name: a, step: local}\n", "", []string{"stage 1", "deadline"}},
		{"a deadline that is none", "name: t\nstages:\n  - {name: a, step: local, deadline: soon}\n", "", []string{"deadline", "soon"}},
		{"a deadline in the past", "name: t\nstages:\n  - {name: a, step: local, deadline: -1m}\n", "", []string{"deadline"}},
		{"a step that is none", "name: t\nstages:\n  - {name: a, step: disk, deadline: 1m}\n", "", []string{`step "disk"`}},
		{"an order that is none", "name: t\nstages:\n  - {name: a, step: ramdisk, order: burn, deadline: 1m}\n", "", []string{"write_image"}},
		{"a path that climbs", "name: t\nfiles:\n  - {path: /a/../../x, mode: 0o644, template: x}\n", "", []string{"/a/../../x"}},
		{"a path that is not absolute", "name: t\nfiles:\n  - {path: x, mode: 0o644, template: x}\n", "", []string{"absolute"}},
		{"a template and a link", "name: t\nfiles:\n  - {path: /x, template: x, link: y}\n", "", []string{"either template or link"}},
		{"a template that is not there", "name: t\nfiles:\n  - {path: /x, template: y}\n", "", []string{"there is no template"}},
		{"a template from elsewhere", "name: t\nfiles:\n  - {path: /x, template: ../x}\n", "", []string{"there is no template"}},
		{"a template that does not parse, with its line", oneFile, "a\n{{.Node}\n", []string{"template:2"}},
		{"a function that is not ours", oneFile, "{{env \"HOME\"}}", []string{`"env" not defined`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(oneTemplate(tt.yaml, tt.template), nil)
			if err == nil {
				t.Fatal("it was loaded")
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("Load: %v; want %s in it", err, s)
				}
			}
		})
	}
	if _, err := Load(fstest.MapFS{}, nil); err == nil {
		t.Error("a folder without task.yaml was loaded")
	}
}

func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		versions []string
		version  string
		want     bool
	}{
		{nil, "9.4", true}, {[]string{"8", "9"}, "9.4", true}, {[]string{"8", "9"}, "9", true}, {[]string{"9"}, "90", false}, {[]string{"9"}, "10.9", false},
		{[]string{"22.04"}, "22.04.3", true}, {[]string{"22.04"}, "22.10", false}, {[]string{"15"}, "15-SP6", true}, {[]string{"15.6"}, "15", false},
	} {
		if got := (&Task{Versions: tt.versions}).For(tt.version); got != tt.want {
			t.Errorf("a task for %q is for %s: %t", tt.versions, tt.version, got)
		}
	}
	for version, want := range map[string]string{"9.4": "9", "15-SP6": "15", "12": "12", "": ""} {
		if got := (Repo{Version: version}).Major(); got != want {
			t.Errorf("Major of %q = %q", version, got)
		}
	}
}

// TestT19TemplatesAreBounded: a template that could run or print without end is refused when it is read, and one that
// asks for more than its values fails with an error that names it.
func TestT19TemplatesAreBounded(t *testing.T) {
	for name, template := range map[string]string{
		"one that prints without end":    `{{range 1000000000}}xxxxxxxxxxxxxxxx{{end}}`,
		"one that prints much at a time": `{{printf "%900000d" 1 | line}}`,
		"one that calls itself":          `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`,
	} {
		if _, err := Load(oneTemplate(oneFile, template), nil); err == nil || !strings.Contains(err.Error(), "x: ") {
			t.Errorf("%s: Load: %v; want an error that names the template", name, err)
		}
	}
	for name, template := range map[string]string{
		"one that asks for more":      `{{.Secret | line}}`,
		"one that reaches the server": `{{.Key | line}}`,
		"one that takes in itself":    `{{.Include "x" | line}}`,
		"one that prints much":        `{{range .Node.Tags}}{{$.Node.ID | line}}{{end}}`,
		"one that gives up":           `{{fail "no disk for this"}}`,
	} {
		task, err := Load(oneTemplate(oneFile, template), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		v := Values{Node: Node{ID: strings.Repeat("x", 4<<10), Tags: make([]string, 257)}}
		if files, err := task.RenderFiles(v); err == nil || !strings.Contains(err.Error(), "task t: render /x") {
			t.Errorf("%s: RenderFiles = %d files, %v; want an error that names the task and the file", name, len(files), err)
		}
	}
}
