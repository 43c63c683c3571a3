package task

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_4"
	"github.com/google/go-cmp/cmp"
	"github.com/vincent-petithory/dataurl"
)

// TestIgnitionTakesItsConfigurations: Ignition's own parser has nothing to say of what is rendered, not even a warning,
// and every file is in it as it was meant.
func TestIgnitionTakesItsConfigurations(t *testing.T) {
	for _, name := range []string{"coreos", "flatcar"} {
		for recipe, want := range map[string][]string{
			"live.ign":      {"/etc/muster/install", "/etc/muster/installed.ign"},
			"installed.ign": {"/etc/hostname", "/etc/muster/token", "/etc/muster/first-boot"},
		} {
			texts(t, name, recipe, func(t *testing.T, _ *Task, v Values, r Rendered) {
				files, want := ignitionFiles(t, r), slices.Clone(want)
				if v.CA != "" {
					want = append(want, "/etc/muster/ca.pem")
				}
				if got := slices.Sorted(maps.Keys(files)); !cmp.Equal(got, slices.Sorted(slices.Values(want))) {
					t.Errorf("%s has %q; want %q", recipe, got, want)
				}
				if inner, ok := files["/etc/muster/installed.ign"]; ok {
					ignitionFiles(t, Rendered{Name: "installed.ign in live.ign", Text: inner})
				}
				if host, ok := files["/etc/hostname"]; ok && host != v.Node.Hostname {
					t.Errorf("the host is called %q", host)
				}
			})
		}
	}
	if _, report, err := v3_4.Parse([]byte(`{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"x"}]}}`)); err == nil && !report.IsFatal() {
		t.Error("Ignition takes a file without a path")
	}
}

// ignitionFiles are the files of a configuration.
func ignitionFiles(t *testing.T, r Rendered) map[string]string {
	t.Helper()
	c, report, err := v3_4.Parse([]byte(r.Text))
	if err != nil || len(report.Entries) > 0 {
		t.Fatalf("%s: %v %s\n%s", r.Name, err, report.String(), r.Text)
	}
	files := map[string]string{}
	for _, f := range c.Storage.Files {
		u, err := dataurl.DecodeString(*f.Contents.Source)
		if err != nil {
			t.Fatalf("%s: %s: %v", r.Name, f.Path, err)
		}
		files[f.Path] = string(u.Data)
	}
	return files
}

// TestLiveInstall runs the script of the live system, with stubs of what writes, against a server that gives these
// answers to the call that ends the stage.
func TestLiveInstall(t *testing.T) {
	const size = 34359738368
	for _, tt := range []struct {
		name, task string
		has        int64 // bytes of the disk that is there; 0: none
		writes     int   // exit status of the installer
		answers    []int
		ran        string
		heard      []string
	}{
		{"all is well", "coreos", size, 0, []int{204}, "coreos-installer install /dev/disk/by-id/virtio-web3 --ignition-file /etc/muster/installed.ign",
			[]string{"POST phase/write", "POST phase/written", "POST done/install"}},
		{"so is Flatcar, from its release", "flatcar", size, 0, []int{204}, "flatcar-install -d /dev/disk/by-id/virtio-web3 -i /etc/muster/installed.ign -b SERVER/repo -V tree",
			[]string{"POST phase/write", "POST phase/written", "POST done/install"}},
		{"the end is told until it is heard", "coreos", size, 0, []int{503, 500, 404}, "coreos-installer",
			[]string{"POST phase/write", "POST phase/written", "POST done/install", "POST done/install", "POST done/install"}},
		{"another disk has its name", "coreos", size - 512, 0, nil, "", []string{"POST failed/install disk /dev/disk/by-id/virtio-web3 has 34359737856 bytes, and the one that was chosen has 34359738368: nothing was written"}},
		{"there is no such disk", "flatcar", 0, 0, nil, "", []string{"POST failed/install disk /dev/disk/by-id/virtio-web3 is not there"}},
		{"it can not be written", "coreos", size, 1, nil, "coreos-installer",
			[]string{"POST phase/write", "POST log/install", "POST failed/install the system could not be written to /dev/disk/by-id/virtio-web3: no room"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			var heard []string
			done := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				_ = r.ParseForm() // a broken form shows in what it lacks
				_, what, _ := strings.Cut(r.URL.Path, "/install/node3.1.00ff00ff/")
				heard = append(heard, strings.TrimSpace(r.Method+" "+what+" "+r.PostForm.Get("msg")))
				if answers := append(tt.answers, http.StatusNotFound); strings.HasPrefix(what, "done/") { // the last ends every script
					w.WriteHeader(answers[min(done, len(answers)-1)])
					done++
				}
			}))
			defer srv.Close()
			ran, out := runInstall(t, tt.task, srv.URL, tt.has, tt.writes)
			for i, h := range heard {
				heard[i] = strings.Replace(h, "GET phase", "POST phase", 1) // curl without data asks
			}
			if diff := cmp.Diff(tt.heard, heard); diff != "" {
				t.Errorf("the broker heard (-want +got):\n%s\n%s", diff, out)
			}
			if want := strings.ReplaceAll(tt.ran, "SERVER", srv.URL); !strings.HasPrefix(ran, want) || want == "" && ran != "" {
				t.Errorf("it ran %q; want %q", ran, want)
			}
			if restarts := strings.Contains(ran, "systemctl reboot"); restarts != (tt.answers != nil) {
				t.Errorf("it restarts: %t\n%s", restarts, ran)
			}
		})
	}
}

// runInstall gives the lines of programs that it ran to write or to restart.
func runInstall(t *testing.T, task, server string, has int64, writes int) (ran, out string) {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	of := shippedTask(t, task)
	v, err := Fixtures()[2].For(of)
	if err != nil {
		t.Fatal(err)
	}
	v.Server, v.CA, v.Repo.URL, v.task = server, "", server+"/repo/tree", of
	script, err := of.render("install.sh", v)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stub := func(name, body string) { put(t, filepath.Join(dir, "bin", name), 0o755, "#!/bin/sh\n"+body+"\n") }
	writer := fmt.Sprintf("echo \"$(basename $0) $*\" >>%s/ran; echo no room; exit %d", dir, writes)
	stub("coreos-installer", writer)
	stub("flatcar-install", writer)
	stub("systemctl", fmt.Sprintf("echo \"systemctl $*\" >>%s/ran", dir))
	stub("udevadm", "")
	stub("sleep", "")
	stub("blockdev", fmt.Sprintf("[ %d != 0 ] || exit 1; echo %d", has, has))
	stub("curl", "exec "+curl+" \"$@\" -m 0")
	put(t, filepath.Join(dir, "ran"), 0o600, "")
	put(t, filepath.Join(dir, "install"), 0o600, script)
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(dir, "install"))
	cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin", "TMPDIR=" + dir, "http_proxy="}
	said, err := cmd.CombinedOutput()
	if failed := err != nil; failed != (has == 0 || has != 34359738368 || writes != 0) {
		t.Errorf("the script: %v\n%s", err, said)
	}
	did, err := os.ReadFile(filepath.Join(dir, "ran"))
	if err != nil {
		t.Fatal(err)
	}
	return string(did), string(said)
}
