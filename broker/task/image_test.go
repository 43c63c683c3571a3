package task

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"muster/agent/facts"
)

// imageFiles renders the files of the image task with these parameters.
func imageFiles(t *testing.T, given map[string]any) map[string]facts.File {
	t.Helper()
	tasks, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	image := tasks["image"]
	v := Values{Server: "http://10.0.0.1:8080", Node: Node{ID: "node7", Hostname: "osd007.example.net", MAC: "52:54:00:00:00:07"}, Token: "once", Next: "first-boot"}
	if v.Param, err = image.Params(given); err != nil {
		t.Fatal(err)
	}
	list, err := image.RenderFiles(v)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]facts.File{}
	for _, f := range list {
		files[f.Path] = f
	}
	return files
}

const nocloudSeed = "/var/lib/cloud/seed/nocloud/"

// cloud-init's own data source finds the seed, and in it what the operator wrote, whatever that is.
func TestNoCloudSeed(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "import cloudinit").Run(); err != nil {
		t.Skip("cloud-init is not installed")
	}
	for name, userData := range map[string]string{
		"cloud-config": "#cloud-config\nwrite_files:\n- path: /etc/x\n  content: |\n    ü: '{{ }}' \"$a\"\n",
		"a script":     "#!/bin/sh\necho 'Content-Type: text/html'\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, f := range imageFiles(t, map[string]any{"user_data": userData}) {
				if base, ok := strings.CutPrefix(path, nocloudSeed); ok {
					if err := os.WriteFile(filepath.Join(dir, base), []byte(f.Content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			out, err := exec.Command("/usr/bin/python3", "-c", nocloud, dir).Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			var got struct{ ID, Name, Kind, Data string }
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			kind := map[bool]string{true: "text/cloud-config", false: "text/x-shellscript"}[name == "cloud-config"]
			if got.ID != "node7" || got.Name != "osd007.example.net" || got.Data != userData || got.Kind != kind {
				t.Errorf("cloud-init reads %+v; want %s", got, kind)
			}
		})
	}
}

// nocloud runs the data source on a seed directory, and takes the parts of the user data as cloud-init's stages do.
const nocloud = `
import json, sys
from cloudinit import helpers, util
from cloudinit.sources import DataSourceNoCloud as nc
paths = helpers.Paths({"cloud_dir": sys.argv[1], "run_dir": sys.argv[1]})
d = nc.DataSourceNoCloud({"datasource": {"NoCloud": {"fs_label": None}}}, None, paths)
d.seed_dirs = [sys.argv[1]]
nc.dmi.read_dmi_data = lambda name: None
assert d.get_data(), "not found"
parts = [p for p in d.get_userdata().walk() if p.get_content_maintype() != "multipart"]
assert len(parts) == 1, parts
part = parts[0]
print(json.dumps({"ID": d.get_instance_id(), "Name": d.metadata["local-hostname"], "Kind": part.get_content_type(), "Data": part.get_payload(decode=True).decode()}))
`

// cloud-init makes of the seed's network what each of its renderers writes, on any image: the address of the NIC that
// booted, whatever its name was.
func TestNoCloudNetwork(t *testing.T) {
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Skip(err)
	}
	const mac = "52:54:00:00:00:07"
	static := map[string]any{"network": "static", "address": "192.0.2.20/24", "gateway": "192.0.2.1", "nameservers": []any{"192.0.2.2", "192.0.2.3"}}
	bare := map[string]any{"network": "static", "address": "192.0.2.20/24", "gateway": "192.0.2.1"}
	for _, c := range []struct {
		renderer, distro string
		given            map[string]any
		want             []string
	}{
		{"networkd", "debian", static, []string{"Address=192.0.2.20/24", "MACAddress=" + mac, "Gateway=192.0.2.1", "DNS=192.0.2.2 192.0.2.3"}},
		{"netplan", "ubuntu", static, []string{"- 192.0.2.20/24", "macaddress: '" + mac, "via: 192.0.2.1", "- 192.0.2.3"}},
		{"sysconfig", "rhel", static, []string{"IPADDR=192.0.2.20", "NETMASK=255.255.255.0", "HWADDR=" + mac, "GATEWAY=192.0.2.1", "DNS2=192.0.2.3"}},
		{"eni", "debian", static, []string{"iface boot0 inet static", "address 192.0.2.20/24", "gw 192.0.2.1", "dns-nameservers 192.0.2.2 192.0.2.3", `ATTR{address}=="` + mac + `", NAME="boot0"`}},
		{"networkd", "debian", bare, []string{"Address=192.0.2.20/24", "Gateway=192.0.2.1"}},
		{"networkd", "debian", map[string]any{"network": "dhcp"}, []string{"DHCP=ipv4", "MACAddress=" + mac}},
		{"sysconfig", "rhel", map[string]any{"network": "dhcp"}, []string{"BOOTPROTO=dhcp", "HWADDR=" + mac}},
	} {
		dir := t.TempDir()
		seed := filepath.Join(dir, "network-config")
		if err := os.WriteFile(seed, []byte(imageFiles(t, c.given)[nocloudSeed+"network-config"].Content), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("cloud-init", "devel", "net-convert", "-p", seed, "-k", "yaml", "-d", filepath.Join(dir, "etc"), "-D", c.distro, "-O", c.renderer).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c.renderer, err, out)
		}
		var all strings.Builder
		err = filepath.WalkDir(filepath.Join(dir, "etc"), func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.want {
			if !strings.Contains(all.String(), want) {
				t.Errorf("%s of %v has no %q:\n%s", c.renderer, c.given, want, &all)
			}
		}
	}
}

// A network alone starts cloud-init too, and one that could not work is refused.
func TestNoCloudNetworkNeedsAddressAndGateway(t *testing.T) {
	files := imageFiles(t, map[string]any{"network": "dhcp"})
	for _, name := range []string{"meta-data", "user-data", "network-config"} {
		if files[nocloudSeed+name].Content == "" {
			t.Errorf("there is no %s: cloud-init would not take the seed", name)
		}
	}
	image := shippedTask(t, "image")
	for _, given := range []map[string]any{{"network": "static", "gateway": "192.0.2.1"}, {"network": "static", "address": "192.0.2.2/24"}} {
		v := Values{Node: Node{ID: "node7", MAC: "52:54:00:00:00:07"}}
		var err error
		if v.Param, err = image.Params(given); err != nil {
			t.Fatal(err)
		}
		if _, err := image.RenderFiles(v); err == nil || !strings.Contains(err.Error(), "no address or no gateway") {
			t.Errorf("%v: %v; want a word of what is missing", given, err)
		}
	}
}

func TestNoSeedWithoutUserData(t *testing.T) {
	for path := range imageFiles(t, nil) {
		if strings.HasPrefix(path, nocloudSeed) {
			t.Errorf("%s is there: cloud-init would start in images that were made without it", path)
		}
	}
}

// The first-boot script grows the root file system when the policy says so, and is the same without that program.
func TestFirstBootGrows(t *testing.T) {
	const script = "/usr/local/sbin/muster-first-boot"
	if grows := strings.Contains(imageFiles(t, nil)[script].Content, "resize2fs"); grows {
		t.Error("it grows what nobody said should grow")
	}
	text := imageFiles(t, map[string]any{"grow": "last"})[script].Content
	_, text, _ = strings.Cut(text, "root=")
	text, _, _ = strings.Cut("root="+text, "\nwait=1")
	bin := t.TempDir()
	for name, body := range map[string]string{"findmnt": `case $2 in SOURCE) echo /dev/x1;; FSTYPE) cat $0.type;; esac`, "resize2fs": `echo resize2fs $*`, "btrfs": "exit 1"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for kind, want := range map[string]string{"ext4": "resize2fs /dev/x1\n", "zfs": "", "btrfs": "muster: the root file system did not grow\n", "xfs": "muster: the root file system did not grow\n"} {
		if err := os.WriteFile(filepath.Join(bin, "findmnt.type"), []byte(kind), 0o644); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("/bin/sh", "-c", text)
		c.Env = []string{"PATH=" + bin + ":/bin"}
		if out, err := c.Output(); err != nil || string(out) != want {
			t.Errorf("on %s: %q, %v; want %q", kind, out, err, want)
		}
	}
}
