package task

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/boot/pin/pintest"
)

// A caller is a broker that writes down what an installer tells it, as "PATH BODY" after the token.
type caller struct {
	*httptest.Server
	mu    sync.Mutex
	heard []string
}

func newCaller(t *testing.T, start func(*httptest.Server)) *caller {
	c := &caller{}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // one that breaks off shows in what it lacks
		_, what, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/node/v1/install/"), "/")
		c.mu.Lock()
		defer c.mu.Unlock()
		c.heard = append(c.heard, strings.TrimSpace(what+" "+string(body)))
		w.WriteHeader(http.StatusNoContent)
	}))
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	if start != nil {
		start(c.Server)
	} else {
		c.Start()
	}
	t.Cleanup(c.Close)
	return c
}

// told is what was heard so far.
func (c *caller) told() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard)
}

// sandbox runs a script of the debian task with its files in a folder: every absolute path that it uses lies below.
func sandbox(t *testing.T, dir, script string) (code int, out string) {
	t.Helper()
	script = strings.NewReplacer(" -m 20 ", " -m 0 ", " -T 20 ", " -T 0 ").Replace(script) // all the time they need
	for _, p := range []string{"/tmp/muster", "/dev/disk", "/sys/class", "/etc/", "/root", "/usr/local/", "/lib/systemd"} {
		script = strings.ReplaceAll(script, p, dir+p)
	}
	put(t, filepath.Join(dir, "bin", "sleep"), 0o755, "#!/bin/sh\n")
	put(t, filepath.Join(dir, "bin", "udevadm"), 0o755, "#!/bin/sh\n[ ! -e "+dir+"/udev ] || cat "+dir+"/udev\n")
	put(t, filepath.Join(dir, "script"), 0o755, script)
	cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "script"))
	cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin", "http_proxy=", "log=" + filepath.Join(dir, "log")}
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(b)
}

// installerScript is a script of the debian task for the first fixture, whose broker is at a URL.
func installerScript(t *testing.T, name, server, ca string, change func(*Values)) string {
	t.Helper()
	v, err := Fixtures()[0].For(shippedTask(t, "debian"))
	if err != nil {
		t.Fatal(err)
	}
	v.Server, v.CA = server, ca
	if change != nil {
		change(&v)
	}
	text, err := shippedTask(t, "debian").render(name, v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestT52GuardOfInstallers runs the guard as installers do: with the wrong disk behind the name it stops, says why, and
// sends the end of the log.
func TestT52GuardOfInstallers(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	page80 := "\x00\x80\x00\x14             QM00001"
	for _, tt := range []struct {
		name  string
		files map[string]string // below /sys/class/block/sda
		udev  string
		user  string
		want  string // why it failed; "" if it did not
	}{
		{"the serial number of virtio and mmc", map[string]string{"size": "134217728\n", "serial": "QM00001"}, "", "", ""},
		{"that of NVMe, padded", map[string]string{"size": "134217728\n", "device/serial": "QM00001             \n"}, "", "", ""},
		{"that of SCSI's page 80", map[string]string{"size": "134217728\n", "device/vpd_pg80": page80}, "", "anna", ""},
		{"that of mmc with 0x", map[string]string{"size": "134217728\n", "device/serial": "0xQM00001\n"}, "", "", ""},
		{"what udev says", map[string]string{"size": "134217728\n"}, "ID_SERIAL=QEMU_HARDDISK_QM00001\nID_SERIAL_SHORT=QM00001\n", "", ""},
		{"another size", map[string]string{"size": "134217729\n", "serial": "QM00001"}, "", "", " has 68719477248 bytes, and the disk that was chosen 68719476736: no disk was touched"},
		{"another serial number", map[string]string{"size": "134217728\n", "serial": "QM000011"}, "ID_MODEL=QM00001\n", "", " has not the serial number QM00001 that was chosen: no disk was touched"},
		{"no serial number", map[string]string{"size": "134217728\n"}, "", "", " has not the serial number QM00001 that was chosen: no disk was touched"},
		{"no disk of that name", nil, "", "", "there is no disk"},
		{"a user that would be root", map[string]string{"size": "134217728\n", "serial": "QM00001"}, "", "root", "user is not a name of an account"},
		{"a user that sudo takes for all", map[string]string{"size": "134217728\n", "serial": "QM00001"}, "", "ALL", "user is not a name of an account"},
		{"a user that is two", map[string]string{"size": "134217728\n", "serial": "QM00001"}, "", "a,b", "user is not a name of an account"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			broker, dir := newCaller(t, nil), t.TempDir()
			put(t, filepath.Join(dir, "log"), 0o600, "the token node1.1.00ff00ff, the other node1.2.0f0f0f0f and $6$ab$cd.ef/gh= and $y$j9T$x; it ends here\n")
			if tt.files != nil {
				put(t, filepath.Join(dir, "dev/disk/by-id/sda"), 0o600, "")
				if err := os.Symlink("sda", filepath.Join(dir, "dev/disk/by-id/ata-QEMU_HARDDISK_QM00001")); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range tt.files {
				put(t, filepath.Join(dir, "sys/class/block/sda", name), 0o600, text)
			}
			if tt.udev != "" {
				put(t, filepath.Join(dir, "udev"), 0o600, tt.udev)
			}
			script := installerScript(t, "before.sh", broker.URL, "", func(v *Values) { v.Param["user"] = tt.user })
			code, out := sandbox(t, dir, script)
			want, heard := []string{"phase/partition"}, broker.told()
			if tt.want != "" {
				want = []string{"log/install the token TOKEN, the other TOKEN and HASH and HASH; it ends here"}
				last := len(heard) - 1
				if last < 0 || !strings.HasPrefix(heard[last], "failed/install msg=") || !strings.Contains(heard[last], tt.want) {
					t.Fatalf("the broker heard %q; want %q\n%s", heard, tt.want, out)
				}
				heard = heard[:last]
			}
			if diff := cmp.Diff(want, heard); diff != "" || (code == 0) != (tt.want == "") {
				t.Errorf("status %d, the broker heard (-want +got):\n%s\n%s", code, diff, out)
			}
		})
	}
}

// TestWhyAnInstallFailed: the reason arrives as it is, whatever stands in it.
func TestWhyAnInstallFailed(t *testing.T) {
	broker := newCaller(t, nil)
	const serial = `a&b=c+d%41;e'"$(x) é`
	script := installerScript(t, "before.sh", broker.URL, "", func(v *Values) { v.Disk.Serial = serial })
	dir := t.TempDir()
	put(t, filepath.Join(dir, "dev/disk/by-id/ata-QEMU_HARDDISK_QM00001"), 0o600, "")
	put(t, filepath.Join(dir, "sys/class/block/ata-QEMU_HARDDISK_QM00001/size"), 0o600, "134217728")
	sandbox(t, dir, script)
	heard := broker.told()
	if len(heard) != 1 {
		t.Fatalf("the broker heard %q", heard)
	}
	form, err := url.ParseQuery(strings.TrimPrefix(heard[0], "failed/install "))
	if err != nil || len(form) != 1 || !strings.Contains(form.Get("msg"), " has not the serial number "+serial+" that was chosen") {
		t.Errorf("%q is the form %v, %v", heard[0], form, err)
	}
}

// TestT13InstallersVerifyTheBroker: with curl, and with wget where there is no curl, an installer tells a broker whose
// certificate is of the CA in its recipe, and no other.
func TestT13InstallersVerifyTheBroker(t *testing.T) {
	ours, theirs := pintest.New(t, "ours"), pintest.New(t, "theirs")
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.Cert.Raw}))
	for _, program := range []string{"curl", "wget"} {
		real, err := exec.LookPath(program)
		if err != nil {
			t.Logf("%s is not installed", program)
			continue
		}
		for _, tt := range []struct {
			whose string
			by    *pintest.Authority
			want  []string
		}{{"ours", ours, []string{"done/install"}}, {"theirs", theirs, nil}} {
			t.Run(program+" "+tt.whose, func(t *testing.T) {
				broker := newCaller(t, func(s *httptest.Server) {
					s.TLS = &tls.Config{Certificates: []tls.Certificate{tt.by.Leaf(t, nil, "127.0.0.1")}}
					s.StartTLS()
				})
				dir := t.TempDir()
				for _, name := range []string{"mkdir", "sed", "tail", "rm", "cat"} {
					at, err := exec.LookPath(name)
					if err != nil {
						t.Fatal(err)
					}
					put(t, filepath.Join(dir, "only", name), 0o755, "#!/bin/sh\nexec "+at+" \"$@\"\n")
				}
				put(t, filepath.Join(dir, "only", program), 0o755, "#!/bin/sh\nexec "+real+" \"$@\"\n")
				script := strings.ReplaceAll(installerScript(t, "done.sh", broker.URL, ca, nil), " -t 5 ", " -t 1 ")
				script = strings.ReplaceAll(script, "--retry 5", "")
				script = "PATH=" + dir + "/only\n" + script
				code, out := sandbox(t, dir, script)
				if diff := cmp.Diff(tt.want, broker.told()); diff != "" || (code == 0) != (tt.want != nil) {
					t.Errorf("status %d, the broker heard (-want +got):\n%s\n%s", code, diff, out)
				}
			})
		}
	}
}

// TestTargetScript runs what an installer runs in the installed system, and looks at what is there then.
func TestTargetScript(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "bin", "getent"), 0o755, "#!/bin/sh\necho \"$2:x:0:0::"+dir+"/home/$2:/bin/sh\"\n")
	put(t, filepath.Join(dir, "bin", "chown"), 0o755, "#!/bin/sh\necho \"chown $*\" >>"+dir+"/chowned\n")
	put(t, filepath.Join(dir, "lib/systemd/system/systemd-timesyncd.service"), 0o600, "")
	keys := []any{`ssh-ed25519 AAAA it's "$(x)"`, "ssh-rsa BBBB"}
	script := installerScript(t, "target.sh", "http://192.0.2.10", "", func(v *Values) {
		v.CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		v.Param["user"], v.Param["ssh_keys"], v.Param["ntp"] = "anna", keys, []any{"192.0.2.1", "192.0.2.2"}
		v.Param["post"] = "echo \"it's $HOME\" >" + strconv.Quote(ran) + "\n"
	})
	code, out := sandbox(t, dir, script)
	if code != 0 {
		t.Fatalf("status %d\n%s", code, out)
	}
	for _, f := range []struct {
		path string
		mode os.FileMode
		want string
	}{
		{"etc/muster/token", 0o600, "node1.1.00ff00ff\n"},
		{"etc/muster/ca.pem", 0o644, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		{"etc/sudoers.d/muster", 0o440, "anna ALL=(ALL:ALL) NOPASSWD: ALL\n"},
		{"etc/systemd/timesyncd.conf.d/muster.conf", 0o644, "[Time]\nNTP=192.0.2.1 192.0.2.2\n"},
		{"home/anna/.ssh/authorized_keys", 0o600, fmt.Sprintf("%s\n%s\n", keys...)},
		{"usr/local/sbin/muster-first-boot", 0o755, ""},
		{"etc/systemd/system/muster-first-boot.service", 0o644, ""},
		{"etc/systemd/system/multi-user.target.wants/muster-first-boot.service", 0o644, ""},
	} {
		got, err := os.ReadFile(filepath.Join(dir, f.path))
		st, statErr := os.Stat(filepath.Join(dir, f.path))
		if err != nil || statErr != nil || st.Mode() != f.mode || f.want != "" && string(got) != f.want {
			t.Errorf("%s: %v, %v, %q", f.path, err, st.Mode(), got)
		}
	}
	if did, err := os.ReadFile(ran); err != nil || !strings.HasPrefix(string(did), "it's "+dir+"/root") {
		t.Errorf("post did %q, %v", did, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "root")); err != nil || len(left) != 0 {
		t.Errorf("post left %v, %v", left, err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, "usr/local/sbin/muster-first-boot"))
	if err != nil || !strings.Contains(string(whole), "stage='first-boot'") {
		t.Errorf("the script of the first boot: %v\n%s", err, whole)
	}
}
