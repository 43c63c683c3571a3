package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/broker"
	"muster/broker/api"
	"muster/broker/repo"
)

// source reads a tree with these files.
func source(t *testing.T, fold bool, files map[string]string) *repo.Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	src, err := repo.ReadSource(t.Context(), repo.ReadDir(root), func(int64) {})
	if err == nil {
		err = src.Name(fold)
	}
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// client calls the rig with the operator's token, over plain HTTP on loopback.
func (r *rig) client(t *testing.T) *api.Client {
	t.Helper()
	srv := httptest.NewServer(r.handler)
	t.Cleanup(srv.Close)
	c, err := api.NewClient(srv.URL, operatorToken, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// importTree stores a tree and names it.
func (r *rig) importTree(t *testing.T, name string, src *repo.Source, more string) (sent int64) {
	t.Helper()
	c := r.client(t)
	if err := c.ImportTree(t.Context(), src, func(int64) {}, func(n int64) { sent += n }); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), fmt.Appendf(nil, "kind: Repo\nname: %s\ntree: %s\n%s", name, src.Sum, more)); err != nil {
		t.Fatal(err)
	}
	return sent
}

// get asks as an installer does: without a token, following no redirect.
func (r *rig) get(t *testing.T, method, path string, head ...string) answer {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "http://192.0.2.10:8080"+path, nil)
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// TestTreesAreServed: as installers, package tools and people ask for them.
func TestTreesAreServed(t *testing.T) {
	r := newRig(t)
	src := source(t, true, map[string]string{"images/pxeboot/vmlinuz": "a kernel", "images/pxeboot/initrd.img": "an initrd", "Sources/Boot.wim": "wim",
		"Packages/a b+c.rpm": "rpm", "boot/grub/grub.cfg": "menu", "index.html": "<script>alert(1)</script>", ".treeinfo": "[general]", "EFI/BOOT/BOOTX64.EFI": "MZ"})
	r.importTree(t, "rocky-9", src, "kernel: images/pxeboot/vmlinuz\ninitrds: [images/pxeboot/initrd.img]\n")
	sum := func(p string) string {
		for _, e := range src.Manifest.Entries {
			if e.Path == p {
				return e.SHA256
			}
		}
		return ""
	}
	for _, tt := range []struct {
		method, path string
		head         []string
		status       int
		body, typ    string
	}{
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", nil, 200, "a kernel", "application/octet-stream"},
		{"GET", "/repo/rocky-9//images/./pxeboot/vmlinuz", nil, 200, "a kernel", "application/octet-stream"},
		{"HEAD", "/repo/rocky-9/images/pxeboot/vmlinuz", nil, 200, "", "application/octet-stream"},
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", []string{"Range", "bytes=2-"}, 206, "kernel", "application/octet-stream"},
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", []string{"Range", "bytes=2-", "If-Range", `"` + sum("images/pxeboot/vmlinuz") + `"`}, 206, "kernel", "application/octet-stream"},
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", []string{"Range", "bytes=2-", "If-Range", `"` + sum(".treeinfo") + `"`}, 200, "a kernel", "application/octet-stream"},
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", []string{"Range", "bytes=99-"}, 416, "invalid range: failed to overlap\n", "text/plain; charset=utf-8"},
		{"GET", "/repo/rocky-9/images/pxeboot/vmlinuz", []string{"If-None-Match", `"` + sum("images/pxeboot/vmlinuz") + `"`}, 304, "", ""},
		{"GET", "/repo/rocky-9/sources/BOOT.wim", nil, 200, "wim", "application/octet-stream"},
		{"GET", "/repo/rocky-9/Packages/a%20b+c.rpm", nil, 200, "rpm", "application/x-rpm"},
		{"GET", "/repo/rocky-9/.treeinfo", nil, 200, "[general]", "text/plain; charset=utf-8"},
		{"GET", "/repo/rocky-9/efi/boot/bootx64.efi", nil, 200, "MZ", "application/efi"},
		{"GET", "/repo/rocky-9/boot/grub/grub.cfg", nil, 200, "menu", "text/plain; charset=utf-8"},
		{"GET", "/repo/rocky-9/index.html", nil, 200, "<script>alert(1)</script>", "text/plain; charset=utf-8"}, // T24
		{"GET", "/boot/f/repo/rocky-9/images/pxeboot/vmlinuz", nil, 200, "a kernel", "application/octet-stream"},
		{"GET", "/boot/f/repo/rocky-9/boot/grub/grub.cfg", nil, 200, "menu", ""},
	} {
		got := r.get(t, tt.method, tt.path, tt.head...)
		if got.Status != tt.status || got.Body != tt.body || tt.typ != "" && got.Header.Get("Content-Type") != tt.typ {
			t.Errorf("%s %s %v = %d %q %q; want %d %q %q", tt.method, tt.path, tt.head, got.Status, got.Body, got.Header.Get("Content-Type"), tt.status, tt.body, tt.typ)
		}
	}
	got := r.get(t, "GET", "/repo/rocky-9/images/pxeboot/vmlinuz").Header
	want := http.Header{"Etag": {`"` + sum("images/pxeboot/vmlinuz") + `"`}, "Cache-Control": {"no-cache"}, "Content-Length": {"8"}, "Accept-Ranges": {"bytes"},
		"Content-Type": {"application/octet-stream"}, "X-Content-Type-Options": {"nosniff"}, "Content-Security-Policy": {"sandbox; default-src 'none'"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestT26NothingOutsideATreeIsServed.
func TestT26NothingOutsideATreeIsServed(t *testing.T) {
	r := newRig(t)
	src := source(t, false, map[string]string{"a/b": "in", "c": "in"})
	r.importTree(t, "tree", src, "")
	outside := filepath.Join(r.dir, "trees", src.Sum) // the manifest, which no path of the tree is
	if _, err := os.Stat(outside); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/repo/tree/../trees/" + src.Sum, "/repo/tree/" + src.Sum, "/repo/tree/%2e%2e/" + src.Sum, "/repo/tree/a/../../" + src.Sum, "/repo/tree/..%2f" + src.Sum,
		"/repo/tree/" + outside, "/repo/tree//" + outside, `/repo/tree/..\` + src.Sum, "/repo/tree/a%00b", "/repo/tree/x", "/repo/other/c", "/repo/", "/repo/tree/c/", "/repo/tree/c/d", "/repo/TREE/c",
		"/boot/f/repo/tree/../" + src.Sum, "/boot/f/repo/other/c", "/boot/f/repo/tree/a", "/repo/tree/" + strings.Repeat("a/", 3000)} {
		if got := r.get(t, "GET", p); got.Status != 404 {
			t.Errorf("GET %s = %d %q", p, got.Status, got.Body)
		}
	}
	for _, m := range []string{"PUT", "POST", "DELETE"} {
		if got := r.get(t, m, "/repo/tree/c"); got.Status < 400 {
			t.Errorf("%s = %d", m, got.Status)
		}
	}
}

func TestDirectoriesAreListedForPeople(t *testing.T) {
	r := newRig(t)
	r.importTree(t, "tree", source(t, false, map[string]string{"a/<b>": "12345", "a/javascript:x": "", "z": "1"}), "")
	for path, want := range map[string]string{"/repo/tree": "/repo/tree/", "/repo/tree/a": "/repo/tree/a/"} {
		if got := r.get(t, "GET", path); got.Status != 302 || got.Header.Get("Location") != want {
			t.Errorf("%s = %d, %q", path, got.Status, got.Header.Get("Location"))
		}
	}
	top, a := r.get(t, "GET", "/repo/tree/"), r.get(t, "GET", "/repo/tree/a/")
	for _, want := range []string{`<a href="./a/">a/</a>`, `<a href="./z">z</a>  1`} {
		if !strings.Contains(top.Body, want) {
			t.Errorf("%q is not in %s", want, top.Body)
		}
	}
	for _, want := range []string{`<a href="../">../</a>`, `<a href="./%3Cb%3E">&lt;b&gt;</a>  5`, `<a href="./javascript:x">javascript:x</a>`} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("%q is not in %s", want, a.Body)
		}
	}
}

// TestARepoIsSwitchedWhenAllIsThere: half a tree is named by no repo, and the old one is served on until then.
func TestARepoIsSwitchedWhenAllIsThere(t *testing.T) {
	r := newRig(t)
	old, next := source(t, false, map[string]string{"kernel": "old", "same": "same"}), source(t, false, map[string]string{"kernel": "new", "same": "same", "more": "more"})
	if sent := r.importTree(t, "os", old, ""); sent != 7 {
		t.Errorf("%d bytes were sent of a new tree; want 7", sent)
	}
	c := r.client(t)
	apply := fmt.Appendf(nil, "kind: Repo\nname: os\ntree: %s\n", next.Sum)
	if _, err := c.Apply(t.Context(), apply); err == nil || !strings.Contains(err.Error(), "is not stored (muster repo import sends it)") {
		t.Errorf("a tree that is not there is named: %v", err)
	}
	if err := c.Do(t.Context(), "PUT", "/api/v1/trees/"+next.Sum, strings.NewReader(string(next.Encoded)), "", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Apply(t.Context(), apply); err == nil || !strings.Contains(err.Error(), "2 of its 3 files are missing") {
		t.Errorf("half a tree is named: %v", err)
	}
	if got := r.get(t, "GET", "/repo/os/kernel"); got.Body != "old" {
		t.Errorf("meanwhile the kernel is %d %q", got.Status, got.Body)
	}
	if sent := r.importTree(t, "os", next, ""); sent != 7 {
		t.Errorf("%d bytes were sent of a tree that shares a file; want 7", sent)
	}
	if got := r.get(t, "GET", "/repo/os/kernel"); got.Body != "new" {
		t.Errorf("then the kernel is %d %q", got.Status, got.Body)
	}
	if _, err := c.Apply(t.Context(), append(apply, "kernel: nothing\n"...)); err == nil || !strings.Contains(err.Error(), `"nothing"`) {
		t.Errorf("a kernel that is not there is named: %v", err)
	}
	for _, body := range []string{"", "{}", `{"tree":1}` + "\n"} {
		if a := r.call(t, "PUT", "/api/v1/trees/"+old.Sum, operatorToken, "", body); a.Status != 422 {
			t.Errorf("the manifest %q = %d %s", body, a.Status, a.Body)
		}
	}
	if a := r.call(t, "GET", "/api/v1/trees/"+strings.Repeat("0", 64), operatorToken, "", ""); a.Status != 404 {
		t.Errorf("a tree that is not there = %d %s", a.Status, a.Body)
	}
}

func TestVerifySaysWhatIsSpoilt(t *testing.T) {
	r := newRig(t)
	src := source(t, false, map[string]string{"a": "kernel", "b": "fine"})
	r.importTree(t, "os", src, "size_bytes: 10\n")
	c := r.client(t)
	if spoilt, err := c.VerifyRepo(t.Context(), "os", func(api.Verified) {}); len(spoilt) != 0 || err != nil {
		t.Errorf("a whole tree: %v, %v", spoilt, err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "trees", src.Manifest.Entries[0].SHA256), []byte("kernem"), 0o600); err != nil {
		t.Fatal(err)
	}
	spoilt, err := c.VerifyRepo(t.Context(), "os", func(api.Verified) {})
	if diff := cmp.Diff([]string{"a"}, spoilt); diff != "" || err != nil {
		t.Errorf("%s %v", diff, err)
	}
	if got := r.get(t, "GET", "/repo/os/a"); got.Status != 500 {
		t.Errorf("a spoilt file is served: %d %q", got.Status, got.Body)
	}
	if _, err := c.VerifyRepo(t.Context(), "nothing", func(api.Verified) {}); err == nil || !strings.Contains(err.Error(), "there is no repo") {
		t.Error(err)
	}
}

// TestMirrorsAreFetchedThroughForLoaders: the kernel and initrds that the repo names, once, and nothing else.
func TestMirrorsAreFetchedThroughForLoaders(t *testing.T) {
	r := newRig(t)
	var asked atomic.Int32
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked.Add(1)
		if req.URL.Path != "/debian/dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64/linux" {
			http.NotFound(w, req)
			return
		}
		w.Write([]byte("the mirror's kernel"))
	}))
	defer mirror.Close()
	if _, err := r.client(t).Apply(t.Context(), fmt.Appendf(nil, "kind: Repo\nname: debian-12\nurl: %s/debian/\nos: debian\nversion: \"12\"\narch: amd64\n", mirror.URL)); err != nil {
		t.Fatal(err)
	}
	x, _ := r.broker.Repo("debian-12")
	kernel, initrds := x.Boot()
	for _, path := range []string{"/boot/f/" + kernel, "/" + kernel, "/boot/f/" + kernel} {
		if got := r.get(t, "GET", path); got.Status != 200 || got.Body != "the mirror's kernel" || got.Header.Get("ETag") == "" {
			t.Errorf("%s = %d %q", path, got.Status, got.Body)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the mirror was asked %d times", n)
	}
	if got := r.get(t, "GET", "/boot/f/"+initrds[0]); got.Status != 404 {
		t.Errorf("what the mirror has not = %d %q", got.Status, got.Body)
	}
	before := asked.Load()
	if got := r.get(t, "GET", "/boot/f/repo/debian-12/pool/a.deb"); got.Status != 404 {
		t.Errorf("a loader gets %d %q of what no repo names", got.Status, got.Body)
	}
	got := r.get(t, "GET", "/repo/debian-12/pool/a%20b+c.deb")
	if want := mirror.URL + "/debian/pool/a%20b+c.deb"; got.Status != 302 || got.Header.Get("Location") != want {
		t.Errorf("a package is at %d %q; want %q", got.Status, got.Header.Get("Location"), want)
	}
	for _, p := range []string{"../secret", "a/../../secret", "//evil.example.net/x"} {
		if got := r.get(t, "GET", "/repo/debian-12/"+p); got.Status != 404 {
			t.Errorf("%s = %d %q", p, got.Status, got.Header.Get("Location"))
		}
	}
	if asked.Load() != before {
		t.Error("the mirror was asked for what no repo names")
	}
}

// TestRepoForms: what an operator may write, and what is refused with what to do.
func TestRepoForms(t *testing.T) {
	sum := strings.Repeat("a", 64)
	image := "sha256: " + sum + "\nsize_bytes: 1\nraw_bytes: 1\ncompression: none\n"
	mirror := "url: https://mirror.example.net/rocky/9\nos: rocky\nversion: \"9\"\narch: amd64\n"
	for doc, want := range map[string]string{
		image: "", mirror: "", "tree: " + sum + "\n": "",
		"":                                   "it has 0 of sha256, tree and url",
		image + mirror:                       "it has 2 of sha256, tree and url",
		image + "tree: " + sum:               "it has 2 of",
		"tree: abc\n":                        "64 lower-case hexadecimal digits",
		"url: https://mirror.example.net/\n": "os, version and arch must be given",
		strings.Replace(mirror, "https", "file", 1):       "want http://HOST/PATH",
		strings.Replace(mirror, "mirror.", "me:pw@m.", 1): "user and password",
		strings.Replace(mirror, "/9", "/9?x=1", 1):        "want http://HOST/PATH",
		mirror + "kernel: ../x\n":                         "want letters, digits",
		mirror + "kernel: a b\n":                          "want letters, digits",
		mirror + "initrds: [/x]\n":                        "want letters, digits",
		mirror + "task: two words\n":                      "single words",
		"tree: " + sum + "\ncolour: red\n":                "unknown field",
	} {
		_, err := broker.ParseObjects([]byte("kind: Repo\nname: x\n" + doc))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", doc, err, want)
		}
	}
	var x broker.Repo
	if err := json.Unmarshal([]byte(`{"name":"suse","url":"http://m/s","os":"opensuse","version":"15.6","arch":"amd64"}`), &x); err != nil {
		t.Fatal(err)
	}
	kernel, initrds := x.Boot()
	if kernel != "repo/suse/boot/x86_64/loader/linux" || len(initrds) != 1 || initrds[0] != "repo/suse/boot/x86_64/loader/initrd" {
		t.Errorf("a mirror boots %q, %q", kernel, initrds)
	}
}
