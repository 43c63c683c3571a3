package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
	"muster/broker/api"
	"muster/broker/repo"
	"muster/broker/store"
)

const operatorToken = "operator-token-0123456789abcdef"

// rig is a whole broker over HTTPS on a data directory of its own.
type rig struct {
	dir     string
	url     string
	http    *http.Client
	handler http.Handler
	broker  *broker.Broker
	files   *repo.Files
	trees   *repo.Trees
	log     *bytes.Buffer
}

func newRig(t *testing.T, change ...func(*api.Config)) *rig {
	t.Helper()
	return newRigAt(t, time.Now, change...)
}

// newRigAt is newRig with a clock of its own.
func newRigAt(t *testing.T, now func() time.Time, change ...func(*api.Config)) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), log: &bytes.Buffer{}}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := store.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	images, err := repo.Open(filepath.Join(r.dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	const base = "http://192.0.2.10:8080"
	if r.files, err = repo.OpenFiles(filepath.Join(r.dir, "ramdisks"), nil); err != nil {
		t.Fatal(err)
	}
	if r.trees, err = repo.OpenTrees(filepath.Join(r.dir, "trees"), nil); err != nil {
		t.Fatal(err)
	}
	mirrors, err := repo.OpenMirrors(repo.MirrorConfig{Dir: filepath.Join(r.dir, "mirror"), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if r.broker, err = broker.New(t.Context(), broker.Config{Store: s, Key: broker.Key{7}, BaseURL: base, Held: r.files.Held, HeldTree: r.trees.Held, Log: log, Now: now}); err != nil {
		t.Fatal(err)
	}
	r.importRamdisk(t, "a kernel", "an initrd")
	repos := &api.Repos{Broker: r.broker, Trees: r.trees, Mirrors: mirrors}
	boots, err := boot.New(boot.Config{BaseURL: base, Source: r.broker, Files: r.files, Repo: repos.Open, Log: log, Observe: r.broker.Observe})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(operatorToken))
	cfg := api.Config{Broker: r.broker, Images: images, Files: r.files, Repos: repos, Boot: boots, TokenHash: hex.EncodeToString(sum[:]), BaseURL: base, Log: log}
	for _, f := range change {
		f(&cfg)
	}
	h, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	r.url, r.http, r.handler = srv.URL, srv.Client(), h
	return r
}

// importRamdisk replaces the ramdisk that every machine boots.
func (r *rig) importRamdisk(t *testing.T, kernel, initrd string) {
	t.Helper()
	k, err := r.files.Import(strings.NewReader(kernel), "")
	if err != nil {
		t.Fatal(err)
	}
	i, err := r.files.Import(strings.NewReader(initrd), "")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := broker.ParseObjects(fmt.Appendf(nil, `{"kind": "Ramdisk", "name": "standard", "arch": "amd64",
		"kernel": {"name": "vmlinuz", "sha256": %q, "size_bytes": %d}, "initrds": [{"name": "initrd", "sha256": %q, "size_bytes": %d}]}`,
		k.SHA256, k.SizeBytes, i.SHA256, i.SizeBytes))
	if err == nil {
		_, err = r.broker.Apply(t.Context(), objects, "tester")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// answer is what a caller can see, without the date.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (r *rig) call(t *testing.T, method, path, token, typ, body string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if typ != "" {
		req.Header.Set("Content-Type", typ)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	return answer{resp.StatusCode, resp.Header, string(b)}
}

var scriptToken = regexp.MustCompile(`muster\.token=(\S+)`)

// bootToken boots a machine by iPXE and reads the token of its script.
func (r *rig) bootToken(t *testing.T, mac string) string {
	t.Helper()
	script := r.call(t, "GET", "/boot/ipxe?platform=efi&mac="+mac, "", "", "").Body
	m := scriptToken.FindStringSubmatch(script)
	if m == nil {
		t.Fatalf("no token in the script of %s:\n%s", mac, script)
	}
	return m[1]
}

func checkIn(token, mac string) string {
	return fmt.Sprintf(`{"v":1,"token":%q,"boot_id":"b","seq":1,"agent":{"version":"1"},"facts":{"schema":1,"disks":[{"id":"virtio-a","name":"vda","size_bytes":2147483648,"transport":"virtio"}],"nics":[{"name":"eth0","mac":%q,"bus":"pci"}]}}`, token, mac)
}

// agent checks a machine in and gives its reply; key is its boot key.
func (r *rig) agent(t *testing.T, key, mac string) facts.CheckInReply {
	t.Helper()
	a := r.call(t, "POST", "/node/v1/checkin", key, "application/json", checkIn(r.bootToken(t, mac), mac))
	var reply facts.CheckInReply
	if err := json.Unmarshal([]byte(a.Body), &reply); err != nil || a.Status != 200 {
		t.Fatalf("check-in: %d %s, %v", a.Status, a.Body, err)
	}
	return reply
}

func bootKey(n int) string { return fmt.Sprintf("canary-boot-key-%016d", n) }

// operation is one row of the OpenAPI document.
type operation struct{ method, path, role string }

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// operations reads every route out of the OpenAPI document.
func (r *rig) operations(t *testing.T) []operation {
	t.Helper()
	a := r.call(t, "GET", "/api/v1/openapi.json", operatorToken, "", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(a.Body), &doc); err != nil || a.Status != 200 {
		t.Fatalf("openapi.json: %d, %v", a.Status, err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") || len(doc.Paths) < 7 {
		t.Fatalf("OpenAPI %q with %d paths; want 3.1 with the operators' routes", doc.OpenAPI, len(doc.Paths))
	}
	list := []operation{{"GET", "/api/v1/openapi.json", "reader"}, {"GET", "/api/v1/openapi.yaml", "reader"}}
	for path, methods := range doc.Paths {
		for m, raw := range methods {
			var x struct {
				Role string `json:"x-role"`
			}
			if err := json.Unmarshal(raw, &x); err != nil {
				t.Fatal(err)
			}
			list = append(list, operation{strings.ToUpper(m), parameter.ReplaceAllString(path, "x"), x.Role})
		}
	}
	return list
}

// TestT45ScopesMatrix: every operators' route, with every kind of caller.
func TestT45ScopesMatrix(t *testing.T) {
	r := newRig(t)
	token := r.bootToken(t, "52:54:00:00:00:01")
	reply := r.agent(t, bootKey(1), "52:54:00:00:00:01")
	sum := sha256.Sum256([]byte(operatorToken))
	strangers := map[string]string{"nobody": "", "a boot key": bootKey(1), "a boot token": token, "a node's id": reply.Node, "a shorter token": operatorToken[1:], "a longer token": operatorToken + "0",
		"the hash itself": hex.EncodeToString(sum[:]), "a token with another end": operatorToken[:len(operatorToken)-1] + "x", "a blank": " ", "a very long one": strings.Repeat("x", 8000)}
	for _, op := range r.operations(t) {
		for who, bearer := range strangers {
			a := r.call(t, op.method, op.path, bearer, "application/json", "{}")
			if a.Status != http.StatusUnauthorized || a.Header.Get("WWW-Authenticate") != "Bearer" || !strings.Contains(a.Body, "an operator token is needed") {
				t.Errorf("%s %s as %s = %d %s; want 401", op.method, op.path, who, a.Status, a.Body)
			}
		}
		if got := r.status(t, op, operatorToken); got == http.StatusUnauthorized || got == http.StatusForbidden {
			t.Errorf("%s %s with the operators' token = %d", op.method, op.path, got)
		}
	}
	for _, path := range []string{"/api/v1/nodes", "/api/v1/nodes/" + reply.Node, "/api/v1/nodes/" + reply.Node + "/explain", "/api/v1/nodes/" + reply.Node + "/render?dialect=grub",
		"/api/v1/nodes/52:54:00:00:00:01", "/api/v1/events", "/api/v1/objects/Tag", "/healthz"} {
		if a := r.call(t, "GET", path, operatorToken, "", ""); a.Status != 200 {
			t.Errorf("GET %s = %d %s", path, a.Status, a.Body)
		}
	}
	for _, path := range []string{"/node/v1/order?after=0", "/node/v1/image/" + strings.Repeat("0", 64)} {
		if a := r.call(t, "GET", path, operatorToken, "", ""); a.Status != http.StatusNotFound {
			t.Errorf("the operators' token on GET %s = %d; it is no node's", path, a.Status)
		}
	}
}

// Whoever collects metrics has no token, and a broker without metrics has no such page.
func TestMetricsAreForEveryone(t *testing.T) {
	told := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "up 1") })
	for _, row := range []struct {
		metrics http.Handler
		method  string
		status  int
		body    string
	}{
		{told, http.MethodGet, http.StatusOK, "up 1\n"},
		{told, http.MethodPost, http.StatusMethodNotAllowed, ""},
		{nil, http.MethodGet, http.StatusNotFound, "404 page not found\n"},
	} {
		r := newRig(t, func(c *api.Config) { c.Metrics = row.metrics })
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest(row.method, "http://192.0.2.10/metrics", nil)) // in clear
		if w.Code != row.status || w.Body.String() != row.body {
			t.Errorf("%s /metrics, there: %t: %d %q; want %d %q", row.method, row.metrics != nil, w.Code, w.Body, row.status, row.body)
		}
	}
}

// TestZ27SpellingsReachNoOperatorRoute: however a path is written, a stranger gets nothing of the operators'.
func TestZ27SpellingsReachNoOperatorRoute(t *testing.T) {
	r := newRig(t)
	r.agent(t, bootKey(1), "52:54:00:00:00:01")
	for _, path := range []string{"//api/v1/nodes", "/api//v1/nodes", "/api/v1/./nodes", "/node/v1/../../api/v1/nodes", "/boot/../api/v1/nodes", "/boot/%2e%2e/api/v1/nodes", "/node/v1/%2e%2e/%2e%2e/api/v1/nodes",
		"/api%2fv1%2fnodes", "/API/v1/nodes", "/api/v1/nodes/", "/api/v1/nodes;x", "/healthz/../api/v1/nodes", "/grub/../api/v1/events"} {
		if a := r.call(t, "GET", path, bootKey(1), "", ""); a.Status == 200 || strings.Contains(a.Body, "52:54:00:00:00:01") {
			t.Errorf("GET %s = %d %s", path, a.Status, a.Body)
		}
	}
}

// TestT7RefusalsAreEqual (T7, T9): whoever calls without the right, and why it has none, the answer is the same.
func TestT7RefusalsAreEqual(t *testing.T) {
	r := newRig(t)
	traded := r.bootToken(t, "52:54:00:00:00:01")
	r.agent(t, bootKey(1), "52:54:00:00:00:01")
	other := r.bootToken(t, "52:54:00:00:00:02")
	sum := strings.Repeat("0", 64)
	refused := map[string]answer{}
	for _, key := range []string{"", "x", bootKey(2), operatorToken, strings.Repeat("k", 64), strings.Repeat("k", 500), "node1", "node1.1.00", traded, other} {
		for what, token := range map[string]string{"no token": "", "a wrong one": "node1.1.00000000000000000000000000000000", "another shape": "a.b", "a token that was traded": traded,
			"a node that is not there": "node99.1.00000000000000000000000000000000", "a number too big": "node1.99999999999999999999.00", "one cut short": other[:len(other)-1]} {
			refused["check-in with "+what+" and key "+key] = r.call(t, "POST", "/node/v1/checkin", key, "application/json", checkIn(token, "52:54:00:00:00:01"))
		}
		refused["order with key "+key] = r.call(t, "GET", "/node/v1/order?after=-1", key, "", "")
		refused["report with key "+key] = r.call(t, "POST", "/node/v1/report", key, "application/json", `{"order":1,"status":"done"}`)
		refused["image with key "+key] = r.call(t, "GET", "/node/v1/image/"+sum, key, "", "")
		for _, stage := range []string{"first-boot", "write", "none"} {
			refused["handoff of "+stage+" with key "+key] = r.call(t, "GET", "/node/v1/handoff/"+stage, key, "", "")
			refused["report of "+stage+" with key "+key] = r.call(t, "POST", "/node/v1/handoff/"+stage, key, "application/x-www-form-urlencoded", "status=0")
			refused["stage "+stage+" with key "+key] = r.call(t, "POST", "/node/v1/stage/"+stage, key, "application/x-www-form-urlencoded", "hostname=x")
		}
	}
	refused["an image that is not of its order"] = r.call(t, "GET", "/node/v1/image/"+sum, bootKey(1), "", "")
	want := refused["order with key "]
	if want.Status != http.StatusNotFound || !strings.Contains(want.Body, "no such node or token") {
		t.Fatalf("a refusal is %+v", want)
	}
	for what, got := range refused {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

// TestT46Bodies: what is too large, too deep or misspelt is refused with a class that says so.
func TestT46Bodies(t *testing.T) {
	r := newRig(t)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	in := func(facts string) string {
		return `{"v":1,"boot_id":"b","seq":1,"agent":{"version":"1"},"facts":` + facts + `}`
	}
	for _, tt := range []struct {
		name, path, token, typ, body string
		status                       int
	}{
		{"a check-in over 1 MiB", "/node/v1/checkin", "", "application/json", `{"token":"` + strings.Repeat("x", 1<<20) + `"}`, 413},
		{"a report over 1 MiB", "/node/v1/report", "", "application/json", strings.Repeat(" ", 1<<20+1), 413},
		{"facts nested past 32", "/node/v1/checkin", "", "application/json", in(deep(40)), 400},
		{"nested without end", "/node/v1/checkin", "", "application/json", strings.Repeat("[", 500_000), 400},
		{"an unknown field", "/node/v1/checkin", "", "application/json", in(`{"schema":1,"colour":"red"}`), 400},
		{"a key twice", "/node/v1/checkin", "", "application/json", `{"v":1,"v":1}`, 400},
		{"no JSON", "/node/v1/checkin", "", "application/json", "hello", 400},
		{"nothing", "/node/v1/report", "", "application/json", "", 400},
		{"a form over 16 KiB", "/node/v1/stage/first-boot", "", "application/x-www-form-urlencoded", "hostname=" + strings.Repeat("x", 20<<10), 400},
		{"a report of a handoff over 64 KiB", "/node/v1/handoff/first-boot", "", "application/x-www-form-urlencoded", "log=" + strings.Repeat("x", 64<<10), 400},
		{"objects over 1 MiB", "/api/v1/apply", operatorToken, "application/yaml", strings.Repeat("#", 1<<20+2048), 413},
		{"objects just over the limit", "/api/v1/apply", operatorToken, "application/yaml", strings.Repeat("#", 1<<20+1), 422},
		{"YAML that could explode", "/api/v1/apply", operatorToken, "application/yaml", "a: &x\n  - 1\nb: *x\n", 422},
		{"an unknown field of an object", "/api/v1/apply", operatorToken, "application/yaml", "kind: Tag\nname: a\nrule: 1 == 1\ncolour: red\n", 422},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.call(t, "POST", tt.path, tt.token, tt.typ, tt.body)
			if a.Status != tt.status || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("= %d %s %.300s; want %d", a.Status, a.Header.Get("Content-Type"), a.Body, tt.status)
			}
		})
	}
}

// TestT11Canary takes a node from its first boot to active, and looks for its secrets in all that is kept and told.
func TestT11Canary(t *testing.T) {
	r := newRig(t)
	image := bytes.Repeat([]byte("muster image "), 1<<14)
	if a := r.call(t, "PUT", "/api/v1/repos/debian/image", operatorToken, "application/octet-stream", string(image)); a.Status != 200 {
		t.Fatalf("import: %d %s", a.Status, a.Body)
	}
	if a := r.call(t, "POST", "/api/v1/apply", operatorToken, "application/yaml", "kind: Policy\nname: all\nmatch: all\ntask: image\nrepo: debian\napproval: automatic\nhostname: osd{{.Seq}}.example.net\n"); a.Status != 200 {
		t.Fatalf("apply: %d %s", a.Status, a.Body)
	}
	const mac = "52:54:00:00:00:01"
	token := r.bootToken(t, mac)
	reply := r.agent(t, bootKey(1), mac)
	if reply.Order.Image == nil {
		t.Fatalf("the order is %+v; want the image", reply.Order)
	}
	stage := ""
	for _, f := range reply.Order.Image.Files {
		if f.Path == "/etc/muster/token" {
			stage = strings.TrimSpace(f.Content)
		}
	}
	if got := r.call(t, "GET", reply.Order.Image.Path, bootKey(1), "", ""); got.Status != 200 || got.Body != string(image) {
		t.Fatalf("the image: %d, %d bytes", got.Status, len(got.Body))
	}
	chunks := reply.Order.Image.Chunks
	if got := r.call(t, "GET", chunks.Path, bootKey(1), "", ""); got.Status != 200 || int64(len(got.Body)) != chunks.SizeBytes || sumOf(got.Body) != chunks.SHA256 {
		t.Fatalf("the list of its chunks: %d, %d bytes; the order says %+v", got.Status, len(got.Body), chunks)
	}
	if a := r.call(t, "POST", "/node/v1/report", bootKey(1), "application/json", fmt.Sprintf(`{"order":%d,"status":"done"}`, reply.Order.ID)); a.Status != 204 {
		t.Fatalf("report: %d %s", a.Status, a.Body)
	}
	stranger := r.call(t, "POST", "/node/v1/stage/first-boot", "", "", "")
	refused := func(why, stageName string) {
		t.Helper()
		got := r.call(t, "POST", "/node/v1/stage/"+stageName, stage, "application/x-www-form-urlencoded", "")
		if diff := cmp.Diff(stranger, got); diff != "" || got.Status != 404 {
			t.Errorf("%s (-a stranger +got):\n%s", why, diff)
		}
	}
	refused("a stage the token was not made for", "write")
	if a := r.call(t, "POST", "/node/v1/stage/first-boot", stage, "application/x-www-form-urlencoded", "hostname=osd1&root=x"); a.Status != 204 {
		t.Fatalf("stage: %d %s", a.Status, a.Body)
	}
	refused("a token that was used (T9)", "first-boot")
	if a := r.call(t, "POST", "/api/v1/nodes/"+reply.Node+"/acts", operatorToken, "application/json", `{"verb":"reinstall","wipe":true}`); a.Status != 200 {
		t.Fatalf("reinstall: %d %s", a.Status, a.Body)
	}
	refused("a token of the install before (T9)", "first-boot")
	told := r.log.String()
	for _, path := range []string{"/api/v1/nodes", "/api/v1/nodes/" + reply.Node, "/api/v1/nodes/" + reply.Node + "/explain", "/api/v1/nodes/" + reply.Node + "/render", "/api/v1/events",
		"/api/v1/objects/Policy", "/api/v1/objects/Repo"} {
		a := r.call(t, "GET", path, operatorToken, "", "")
		if a.Status != 200 {
			t.Errorf("GET %s = %d", path, a.Status)
		}
		told += a.Body
	}
	if !strings.Contains(told, "osd1.example.net is installed") {
		t.Errorf("the journal does not tell of the install: this test looks in the wrong place")
	}
	kept := everyByte(t, r.dir)
	if !bytes.Contains(kept, []byte("52:54:00:00:00:01")) {
		t.Error("the data directory does not hold the node: this test looks in the wrong place")
	}
	for what, secret := range map[string]string{"the boot key": bootKey(1), "the boot token": token, "the stage token": stage, "the operators' token": operatorToken,
		"the boot token's proof": token[strings.LastIndex(token, ".")+1:], "the stage token's proof": stage[strings.LastIndex(stage, ".")+1:]} {
		if len(secret) < 16 {
			t.Fatalf("%s is %q", what, secret)
		}
		if strings.Contains(told, secret) {
			t.Errorf("%s is told", what)
		}
		if bytes.Contains(kept, []byte(secret)) {
			t.Errorf("%s is kept", what)
		}
	}
}

// everyByte reads all files of a directory, the store's log included.
func everyByte(t *testing.T, dir string) (all []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestT44ABrokenTokenFileStopsTheServer: nobody is let in by a hash that is none.
func TestT44ABrokenTokenFileStopsTheServer(t *testing.T) {
	for _, hash := range []string{"", "00", strings.Repeat("g", 64), strings.Repeat("0", 63), strings.Repeat("0", 66)} {
		if _, err := api.New(api.Config{TokenHash: hash}); err == nil {
			t.Errorf("a server with the token hash %q was made", hash)
		}
	}
}

func TestTheLocalSocketNeedsNoToken(t *testing.T) {
	r := newRig(t)
	sum := sha256.Sum256([]byte(operatorToken))
	h, err := api.New(api.Config{Broker: r.broker, TokenHash: hex.EncodeToString(sum[:])})
	if err != nil {
		t.Fatal(err)
	}
	for want, ctx := range map[int]context.Context{403: t.Context(), 200: api.LocalContext(t.Context(), nil)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/nodes", nil).WithContext(ctx))
		if w.Code != want {
			t.Errorf("= %d; want %d", w.Code, want)
		}
	}
}
