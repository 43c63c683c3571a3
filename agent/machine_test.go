package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/boot/kargs"
)

func TestParseArgs(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       Args
	}{
		{"all of them", `quiet muster.server=http://192.0.2.10:8080/ muster.token=abc muster.fact.rack="b 7" muster.fact.site=par1 BOOTIF=01-52-54-00-AA-00-01 muster.disk_wait=3 muster.lldp=5 muster.debug muster.shell muster.sshd modprobe.blacklist=ast,mgag200`,
			Args{Server: "http://192.0.2.10:8080", Token: "abc", BootMAC: "52:54:00:aa:00:01", Custom: map[string]string{"rack": "b 7", "site": "par1"},
				DiskWait: 3 * time.Second, LLDPWait: 5 * time.Second, Debug: true, Shell: true, SSHD: true, Blacklist: []string{"ast", "mgag200"}}},
		{"the broker's word of the NIC goes before the loader's", "muster.mac=52:54:00:aa:00:02 BOOTIF=01-52-54-00-aa-00-01",
			Args{BootMAC: "52:54:00:aa:00:02", Custom: map[string]string{}, DiskWait: 15 * time.Second}},
		{"values that make no sense count as absent", "BOOTIF=01-zz muster.mac=1 muster.disk_wait=-1 muster.lldp=-1 muster.fact.flag",
			Args{Custom: map[string]string{}, DiskWait: 15 * time.Second}},
		{"waits have a limit", "muster.disk_wait=999999 muster.lldp=999999", Args{Custom: map[string]string{}, DiskWait: 10 * time.Minute, LLDPWait: 35 * time.Second}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, ParseArgs(kargs.Parse(row.line))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestArgsCheck(t *testing.T) {
	for server, ok := range map[string]bool{
		"http://192.0.2.10:8080": true, "https://muster.example.net/base": true,
		"": false, "192.0.2.10:8080": false, "ftp://x": false, "http://": false, "http://x?y": false, "http://x/%zz": false,
	} {
		if err := (Args{Server: server}).check(); (err == nil) != ok {
			t.Errorf("check of muster.server=%q: %v; want ok %t", server, err, ok)
		}
	}
}

func TestSettle(t *testing.T) {
	for _, row := range []struct {
		name    string
		files   map[string]string // at the start
		later   map[string]string // put after 3 s; "" removes
		quiet   time.Duration     // since when nothing came, at the start
		want    time.Duration
		console string
	}{
		{"a quiet machine is settled at once", nil, nil, time.Second, 0, ""},
		{"devices that still appear are waited for", map[string]string{"sys/bus/usb/devices/usb1/speed": "480\n"}, nil, 0, quietFor, ""},
		{"a machine whose disks come with their drivers is not waited for", map[string]string{"sys/bus/pci/devices/0000:00:1f.2/class": "0x010601\n"}, nil, 0, 0, ""},
		{"an NVMe controller that starts is waited for", map[string]string{"sys/class/nvme/nvme0/state": "connecting\n"}, map[string]string{"sys/class/nvme/nvme0/state": "live\n"},
			time.Second, 3 * time.Second, "waiting for disks: controller nvme0 is not ready, at most 15 s"},
		{"a dead NVMe controller is not waited for", map[string]string{"sys/class/nvme/nvme0/state": "dead\n"}, nil, time.Second, 0, ""},
		{"a USB stick shows its disk", map[string]string{"sys/bus/usb/devices/1-1:1.0/bInterfaceClass": "08\n"},
			map[string]string{"sys/bus/usb/devices/1-1:1.0/host2/target2:0:0/2:0:0:0/block/sda/size": "1"}, time.Second, 3 * time.Second, "USB storage 1-1:1.0 has no disk yet"},
		{"a card reader without a card is not waited for longer than 5 s", map[string]string{"sys/bus/usb/devices/1-1:1.0/bInterfaceClass": "08\n"}, nil, time.Second, 5 * time.Second, ""},
		{"the limit ends every wait", map[string]string{"sys/class/nvme/nvme0/state": "resetting\n"}, nil, time.Second, 15 * time.Second, "not waiting any longer for disks: controller nvme0 is not ready"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root := t.TempDir()
				for name, content := range row.files {
					put(t, filepath.Join(root, name), content)
				}
				began := time.Now()
				go func() {
					time.Sleep(3 * time.Second)
					for name, content := range row.later {
						put(t, filepath.Join(root, name), content)
					}
				}()
				s := &screen{}
				(&Settler{Root: root, Now: time.Now, Limit: 15 * time.Second, Console: &Console{W: s, Uptime: func() time.Duration { return 0 }},
					Quiet: func() time.Duration { return row.quiet + time.Since(began) }}).Wait(t.Context())
				if took := time.Since(began); took < row.want || took > row.want+100*time.Millisecond {
					t.Errorf("waited %v; want %v\n%s", took, row.want, s)
				}
				if !strings.Contains(s.String(), row.console) {
					t.Errorf("the console lacks %q:\n%s", row.console, s)
				}
				time.Sleep(5 * time.Second) // the goroutine above ends inside the test
			})
		})
	}
}

func TestParseUevent(t *testing.T) {
	msg := "add@/devices/pci0000:00/0000:00:03.0/virtio0\x00ACTION=add\x00DEVPATH=/devices/pci0000:00\x00SUBSYSTEM=virtio\x00MODALIAS=virtio:d00000001v00001AF4\x00SEQNUM=812\x00"
	got, ok := parseUevent([]byte(msg))
	if want := (Uevent{Action: "add", Subsystem: "virtio", Modalias: "virtio:d00000001v00001AF4"}); !ok || got != want {
		t.Errorf("parseUevent = %+v, %t; want %+v", got, ok, want)
	}
	if _, ok := parseUevent([]byte("libudev\x00\xfe\xed\xca\xfe")); ok {
		t.Error("a message of udev was taken for one of the kernel")
	}
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("add@/x\x00ACTION=add\x00MODALIAS=a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parseUevent(b); ok && len(e.Modalias) > len(b) {
			t.Error(e)
		}
	})
}

// F48: the child is started again with its cause, later each time.
func TestF48Supervise(t *testing.T) {
	s := &screen{}
	var causes []string
	ctx, cancel := context.WithCancel(t.Context())
	err := Supervise(ctx, &Console{W: s, Uptime: func() time.Duration { return 0 }}, func(cause string) *exec.Cmd {
		causes = append(causes, cause)
		if len(causes) == 3 {
			cancel()
		}
		if len(causes) == 2 {
			return exec.Command("/bin/false")
		}
		return exec.Command("/bin/sh", "-c", `echo "panic: nil map" >&2; exit 2`)
	})
	if err == nil || len(causes) != 3 {
		t.Fatalf("Supervise = %v after %q", err, causes)
	}
	if diff := cmp.Diff([]string{"", "panic: nil map", "exit status 1"}, causes); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
	if !strings.Contains(s.String(), "the agent ended: panic: nil map; starting it again in 1.") {
		t.Errorf("console: %s", s)
	}
}

func TestOpenDevice(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "secret"), "x")
	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../secret", "a/b", "none", "."} {
		if d, err := openDevice(root, name); err == nil {
			t.Errorf("openDevice(%q) opened %d bytes", name, d.Size)
		}
	}
}
