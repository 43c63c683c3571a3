package task

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestESXiKickstart: commands and options are those of VMware's "Installation and Upgrade Script Commands" (8.0), each
// section has an interpreter that the installer has, and no line but these is there.
func TestESXiKickstart(t *testing.T) {
	commands := map[string]string{
		"vmaccepteula": "", "rootpw": "--iscrypted", "serialnum": "--esx", "reboot": "", "%include": "",
		"network": "--bootproto --device --hostname --ip --netmask --gateway --nameserver --vlanid",
	}
	texts(t, "esxi", "ks.cfg", func(t *testing.T, _ *Task, v Values, r Rendered) {
		head, rest, _ := strings.Cut(r.Text, "\n%pre ")
		seen := map[string]int{}
		for _, line := range strings.Split(head, "\n") {
			words := shlex(line)
			if len(words) == 0 {
				continue
			}
			seen[words[0]]++
			options, ok := commands[words[0]]
			for _, w := range words[1:] {
				name, _, _ := strings.Cut(w, "=")
				ok = ok && (!strings.HasPrefix(w, "--") || slices.Contains(strings.Fields(options), name))
			}
			if !ok {
				t.Errorf("line %q", line)
			}
		}
		for _, name := range []string{"vmaccepteula", "rootpw", "network", "%include", "reboot"} {
			if seen[name] != 1 {
				t.Errorf("%s is there %d times", name, seen[name])
			}
		}
		var heads []string
		for line := range strings.Lines("%pre " + rest) {
			if strings.HasPrefix(line, "%") {
				heads = append(heads, strings.TrimSpace(line))
			}
		}
		want := []string{"%pre --interpreter=busybox", "%post --interpreter=busybox --ignorefailure=true", "%firstboot --interpreter=busybox"}
		if diff := cmp.Diff(want, heads); diff != "" {
			t.Errorf("sections (-want +got):\n%s", diff)
		}
	})
}

// esxiDevices are names as ESXi gives them, with partitions and old names beside them.
const esxiDevices = "naa.5000c500a1b2c3d4\nnaa.5000c500a1b2c3d4:1\nt10.ATA_____QEMU_HARDDISK____________________________QM00001_____________\n" +
	"t10.NVMe____SAMSUNG_MZVL21T0HCLR2D00B00______________002538A1B2C3D4E5\nvml.0100000000514d3030303031\nmpx.vmhba32:C0:T0:L0\n"

// TestESXiFindsTheDisk runs %pre with stubs of what ESXi has: one device alone fits, and has the size, or nothing is
// chosen and the broker is told.
func TestESXiFindsTheDisk(t *testing.T) {
	for _, tt := range []struct {
		name   string
		disk   Disk
		mib    int64
		chosen string
		told   string
	}{
		{"by its serial number", Disk{ByID: "x", Serial: "QM00001", SizeBytes: 64 << 30}, 65536, "t10.ATA_____QEMU_HARDDISK____________________________QM00001_____________", "phase/install"},
		{"by its WWN", Disk{ByID: "x", WWN: "0x5000c500a1b2c3d4", Serial: "unlike", SizeBytes: 64 << 30}, 65536, "naa.5000c500a1b2c3d4", "phase/install"},
		{"an NVMe by its EUI", Disk{ByID: "x", WWN: "eui.002538a1b2c3d4e5", Serial: "S4EVNF0M", SizeBytes: 64 << 30}, 65536, "t10.NVMe____SAMSUNG_MZVL21T0HCLR2D00B00______________002538A1B2C3D4E5", "phase/install"},
		{"another size", Disk{ByID: "x", Serial: "QM00001", SizeBytes: 64 << 30}, 65535, "", "failed/install?msg=the+disk+that+was+chosen+has+65535+MiB+now"},
		{"none fits", Disk{ByID: "x", Serial: "QM00002", SizeBytes: 64 << 30}, 65536, "", "failed/install?msg=0+devices+fit"},
		{"two fit", Disk{ByID: "x", Serial: "0", SizeBytes: 64 << 30}, 65536, "", "failed/install?msg=2+devices+fit"},
		{"nothing is known of it", Disk{ByID: "x", SizeBytes: 64 << 30}, 65536, "", "failed/install?msg=0+devices+fit"},
		{"a serial number that is a pattern", Disk{ByID: "x", Serial: "*", SizeBytes: 64 << 30}, 65536, "", "failed/install?msg=0+devices+fit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			task := shippedTask(t, "esxi")
			v, err := Fixtures()[0].For(task)
			if err != nil {
				t.Fatal(err)
			}
			v.Disk = tt.disk
			ks, err := task.RenderRecipe("ks.cfg", v)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(ks, "%pre --interpreter=busybox\n")
			body, _, _ = strings.Cut(body, "\n%post ")
			dir := t.TempDir()
			put(t, filepath.Join(dir, "devices"), 0o600, esxiDevices)
			stub := func(name, text string) { put(t, filepath.Join(dir, "bin", name), 0o755, "#!/bin/sh\n"+text+"\n") }
			stub("ls", "cat "+dir+"/devices")
			stub("wget", "echo \"$4\" >>"+dir+"/told")
			stub("esxcli", fmt.Sprintf("printf '%%s\\n' \"   Display Name: $6\" '   Size: %d' '   Queue Full Sample Size: 0'", tt.mib))
			put(t, filepath.Join(dir, "pre"), 0o600, strings.ReplaceAll(body, "/tmp/disk.ks", dir+"/disk.ks"))
			cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(dir, "pre"))
			cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin"}
			out, err := cmd.CombinedOutput()
			if (err == nil) != (tt.chosen != "") {
				t.Errorf("%%pre: %v\n%s", err, out)
			}
			line, _ := os.ReadFile(filepath.Join(dir, "disk.ks"))
			want := ""
			if tt.chosen != "" {
				want = "install --disk=/vmfs/devices/disks/" + tt.chosen + " --overwritevmfs\n"
			}
			if string(line) != want {
				t.Errorf("disk.ks = %q; want %q\n%s", line, want, out)
			}
			if told, _ := os.ReadFile(filepath.Join(dir, "told")); !strings.Contains(string(told), tt.told) || strings.Count(string(told), "\n") != 1 {
				t.Errorf("the broker heard %q; want %q", told, tt.told)
			}
		})
	}
}

// TestMboot: the names of the medium's boot.cfg are taken, and none that leads out of it or is a line of its own.
func TestMboot(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       Mboot
		says       string
	}{
		{"ESXi 8's", mbootSample, Mboot{"b.b00", "jumpstrt.gz --- useropts.gz --- k.b00 --- s.v00 --- imgdb.tgz", "8.0.3-0.0.24022510"}, ""},
		{"with a carriage return and blanks", "kernel = /b.b00\r\nmodules = /a.gz  --- b.gz\r\n", Mboot{"b.b00", "a.gz --- b.gz", ""}, ""},
		{"none", "hello\n", Mboot{}, "names no kernel"},
		{"a name that climbs", "kernel=/../b.b00\nmodules=a\n", Mboot{}, `file name "../b.b00"`},
		{"a name with a blank", "kernel=b\nmodules=a b --- c\n", Mboot{}, `file name "a b"`},
		{"a module of nothing", "kernel=b\nmodules=a ---  --- c\n", Mboot{}, `file name ""`},
		{"one without end", strings.Repeat("x", maxMboot+1), Mboot{}, "ESXi's has 2 KiB"},
	} {
		got, err := parseMboot(tt.text)
		if tt.says != "" {
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s: %v; want an error with %s", tt.name, err, tt.says)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
	if _, err := (Values{}).Mboot(); err == nil || !strings.Contains(err.Error(), "import the ISO") {
		t.Errorf("without files: %v", err)
	}
}

// FuzzMboot: whatever lies in an ISO, boot.cfg has as many lines as it should, and no name leads out.
func FuzzMboot(f *testing.F) {
	f.Add(mbootSample)
	f.Add("kernel=/../b\nmodules=a --- \x00\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseMboot(text)
		if err != nil {
			return
		}
		for _, name := range append(strings.Split(m.Modules, " --- "), m.Kernel) {
			if name == "" || strings.HasPrefix(name, "/") || strings.Contains(name, "..") || strings.ContainsAny(name, " \n\r\x00=") {
				t.Errorf("name %q", name)
			}
		}
	})
}
