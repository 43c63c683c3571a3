package repo

import (
	"encoding/binary"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// wim is the header and the XML of a WIM file, as DISM writes them.
func wim(xml string) string {
	u := utf16.Encode([]rune(xml))
	b := binary.LittleEndian.AppendUint16(nil, 0xfeff)
	for _, c := range u {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	head := make([]byte, 208)
	copy(head, "MSWIM\x00\x00\x00")
	binary.LittleEndian.PutUint64(head[72:], uint64(len(b)))
	head[79] = 2 // metadata
	binary.LittleEndian.PutUint64(head[80:], 208)
	return string(head) + string(b)
}

const server2022 = `<WIM><TOTALBYTES>5</TOTALBYTES><IMAGE INDEX="1"><NAME>Windows Server 2022 SERVERSTANDARDCORE</NAME><WINDOWS><ARCH>9</ARCH><VERSION><MAJOR>10</MAJOR><BUILD>20348</BUILD></VERSION></WINDOWS></IMAGE>` +
	`<IMAGE INDEX="2"><NAME>Windows Server 2022 SERVERSTANDARD</NAME><WINDOWS><ARCH>9</ARCH></WINDOWS></IMAGE></WIM>`

const rockyTreeinfo = "[header]\ntype = productmd.treeinfo\nversion = 1.2\n\n[general]\narch = x86_64\nfamily = Rocky Linux\nname = Rocky Linux 9.4\nversion = 9.4\n\n" +
	"[release]\nname = Rocky Linux\nshort = Rocky\nversion = 9.4\n\n[tree]\narch = x86_64\nplatforms = x86_64,xen\n\n[images-x86_64]\nefiboot.img = images/efiboot.img\ninitrd = images/pxeboot/initrd.img\nkernel = images/pxeboot/vmlinuz\n"

const esxiBootCfg = "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\nmodules=/jumpstrt.gz --- /useropts.gz --- /k.b00\nbuild=8.0.2-0.0.22380479\nupdated=0\n"

// TestRecognize: one row for each kind, by the files that its media have. What the marks say is as the media say it.
func TestRecognize(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  OS
	}{
		{"Rocky 9", map[string]string{".treeinfo": rockyTreeinfo, "images/pxeboot/vmlinuz": "", "images/pxeboot/initrd.img": ""},
			OS{Name: "rocky", Version: "9.4", Arch: "amd64", Kernel: "images/pxeboot/vmlinuz", Initrds: []string{"images/pxeboot/initrd.img"}, Task: "rhel"}},
		{"AlmaLinux 10 for arm64, whose treeinfo names no images", map[string]string{".treeinfo": "[release]\nname = AlmaLinux\nversion = 10.0\n[tree]\narch = aarch64\n", "images/pxeboot/vmlinuz": "", "images/pxeboot/initrd.img": ""},
			OS{Name: "almalinux", Version: "10.0", Arch: "arm64", Kernel: "images/pxeboot/vmlinuz", Initrds: []string{"images/pxeboot/initrd.img"}, Task: "rhel"}},
		{"CentOS Stream 9", map[string]string{".treeinfo": strings.ReplaceAll(rockyTreeinfo, "Rocky Linux", "CentOS Stream")},
			OS{Name: "centos-stream", Version: "9.4", Arch: "amd64", Kernel: "images/pxeboot/vmlinuz", Initrds: []string{"images/pxeboot/initrd.img"}, Task: "rhel"}},
		{"RHEL 8", map[string]string{".treeinfo": "[general]\nfamily = Red Hat Enterprise Linux\nversion = 8.10\narch = x86_64\n[images-x86_64]\nkernel = images/pxeboot/vmlinuz\ninitrd = images/pxeboot/initrd.img\n"},
			OS{Name: "rhel", Version: "8.10", Arch: "amd64", Kernel: "images/pxeboot/vmlinuz", Initrds: []string{"images/pxeboot/initrd.img"}, Task: "rhel"}},
		{"Fedora", map[string]string{".treeinfo": "[general]\nfamily = Fedora\nversion = 41\narch = x86_64\n", "images/pxeboot/vmlinuz": ""},
			OS{Name: "fedora", Version: "41", Arch: "amd64", Kernel: "images/pxeboot/vmlinuz", Task: "fedora"}},
		{"openSUSE Leap", map[string]string{"media.1/media": "openSUSE - openSUSE-Leap-15.6-DVD-x86_64-Build709.1-Media\nopenSUSE-Leap-15.6-DVD-x86_64-Build709.1\n1\n", "boot/x86_64/loader/linux": "", "boot/x86_64/loader/initrd": ""},
			OS{Name: "opensuse", Version: "15.6", Arch: "amd64", Kernel: "boot/x86_64/loader/linux", Initrds: []string{"boot/x86_64/loader/initrd"}, Task: "suse"}},
		{"SLES 15 for arm64", map[string]string{"media.1/media": "SUSE - SLE-15-SP5-Full-aarch64-Build102.2-Media\n", "boot/aarch64/linux": "", "boot/aarch64/initrd": ""},
			OS{Name: "sles", Version: "15-SP5", Arch: "arm64", Kernel: "boot/aarch64/linux", Initrds: []string{"boot/aarch64/initrd"}, Task: "suse"}},
		{"Ubuntu server", map[string]string{".disk/info": "Ubuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)", "casper/vmlinuz": "", "casper/initrd": ""},
			OS{Name: "ubuntu", Version: "24.04.1", Arch: "amd64", Kernel: "casper/vmlinuz", Initrds: []string{"casper/initrd"}, Task: "ubuntu"}},
		{"Debian's CD", map[string]string{".disk/info": "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 NETINST with firmware 20240210-11:27", "install.amd/vmlinuz": "", "install.amd/initrd.gz": ""},
			OS{Name: "debian", Version: "12.5.0", Arch: "amd64", Kernel: "install.amd/vmlinuz", Initrds: []string{"install.amd/initrd.gz"}, Task: "debian"}},
		{"Debian's netboot files", map[string]string{"version.info": "Debian version:  12 (bookworm)\nInstaller build: 20230607+deb12u8\n", "debian-installer/amd64/linux": "", "debian-installer/amd64/initrd.gz": ""},
			OS{Name: "debian", Version: "12", Arch: "amd64", Kernel: "debian-installer/amd64/linux", Initrds: []string{"debian-installer/amd64/initrd.gz"}, Task: "debian"}},
		{"Flatcar", map[string]string{"version.txt": "FLATCAR_BUILD=3815\nFLATCAR_VERSION=3815.2.0\nFLATCAR_BOARD=amd64-usr\n", "flatcar_production_pxe.vmlinuz": "", "flatcar_production_pxe_image.cpio.gz": ""},
			OS{Name: "flatcar", Version: "3815.2.0", Arch: "amd64", Kernel: "flatcar_production_pxe.vmlinuz", Initrds: []string{"flatcar_production_pxe_image.cpio.gz"}, Task: "flatcar"}},
		{"Fedora CoreOS, which has a treeinfo's paths", map[string]string{"coreos/igninfo.json": "{}", "EFI/fedora/grub.cfg": "linux /images/pxeboot/vmlinuz coreos.liveiso=fedora-coreos-41.20250105.3.0 ignition.firstboot", "images/pxeboot/vmlinuz": "", "images/pxeboot/initrd.img": "", "images/pxeboot/rootfs.img": ""},
			OS{Name: "fedora-coreos", Version: "41.20250105.3.0", Arch: "amd64", Kernel: "images/pxeboot/vmlinuz", Initrds: []string{"images/pxeboot/initrd.img", "images/pxeboot/rootfs.img"}, Task: "fedora-coreos"}},
		{"ESXi 8", map[string]string{"boot.cfg": esxiBootCfg},
			OS{Name: "esxi", Version: "8.0.2", Arch: "amd64", Kernel: "b.b00", Initrds: []string{"jumpstrt.gz", "useropts.gz", "k.b00"}, Task: "esxi", Fold: true}},
		{"ESXi 7 with a prefix", map[string]string{"boot.cfg": "title=Loading ESXi installer\nprefix=/esx7\nkernel=b.b00\nmodules=jumpstrt.gz\nbuild=7.0.3-0.0.19193900\n"},
			OS{Name: "esxi", Version: "7.0.3", Arch: "amd64", Kernel: "esx7/b.b00", Initrds: []string{"esx7/jumpstrt.gz"}, Task: "esxi", Fold: true}},
		{"Windows Server 2022", map[string]string{"sources/boot.wim": wim("<WIM></WIM>"), "sources/install.wim": wim(server2022), "bootmgr": "", "boot/bcd": "", "boot/boot.sdi": ""},
			OS{Name: "windows", Version: "2022", Arch: "amd64", Initrds: []string{"bootmgr", "boot/bcd", "boot/boot.sdi", "sources/boot.wim"},
				Editions: []string{"1 Windows Server 2022 SERVERSTANDARDCORE", "2 Windows Server 2022 SERVERSTANDARD"}, Task: "windows", Fold: true}},
		{"something else", map[string]string{"README": "hello", "boot.cfg": "title=my menu\n", ".disk/info": "Linux Mint 22 \"Wilma\" - Release amd64"}, OS{}},
		{"nothing", nil, OS{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for name, text := range tt.files {
				tree[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, err := Recognize(tree)
			got.Note = ""
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
}

// TestMarksThatLie: what a tree says of itself is a stranger's word.
func TestMarksThatLie(t *testing.T) {
	long := strings.Repeat("x", maxMark+1)
	huge := wim("")
	huge = huge[:72] + "\xff\xff\xff\xff\xff\xff\xff\x02" + huge[80:]
	far := wim("")
	far = far[:80] + "\x00\x00\x00\x00\x00\x00\x00\x10" + far[88:]
	for name, tt := range map[string]struct{ mark, text, want string }{
		"a kernel out of the tree": {".treeinfo", strings.ReplaceAll(rockyTreeinfo, "images/pxeboot/vmlinuz", "../../etc/shadow"), "want one within the tree"},
		"an unknown family":        {".treeinfo", "[general]\nfamily = Best Linux\n", `"Best Linux", which is not known`},
		"a mark without end":       {".treeinfo", long, "larger than"},
		"modules that climb":       {"boot.cfg", strings.ReplaceAll(esxiBootCfg, "/k.b00", "/a\x00b"), "want one within the tree"},
		"a WIM that is none":       {"sources/boot.wim", long[:300], "no WIM file"},
		"a WIM with huge XML":      {"sources/boot.wim", huge, "its XML has"},
		"a WIM whose XML is away":  {"sources/boot.wim", far, "read its XML"},
		"a WIM cut short":          {"sources/boot.wim", "MSWIM", "read header"},
		"a WIM of many images":     {"sources/boot.wim", wim("<WIM>" + strings.Repeat("<IMAGE/>", 65) + "</WIM>"), "65 images"},
		"XML that does not end":    {"sources/boot.wim", wim("<WIM><IMAGE>"), "read its XML"},
	} {
		if got, err := Recognize(fstest.MapFS{tt.mark: &fstest.MapFile{Data: []byte(tt.text)}}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, %v; want %q", name, got, err, tt.want)
		}
	}
}

// FuzzRecognize: no mark makes more of itself than a name and clean paths (Z25 for WIM).
func FuzzRecognize(f *testing.F) {
	marks := []string{".treeinfo", "media.1/media", ".disk/info", "version.info", "version.txt", "boot.cfg", "sources/boot.wim", "coreos/igninfo.json"}
	for i, text := range []string{rockyTreeinfo, "SUSE - SLE-15-SP5-Full-aarch64-Media", "Debian GNU/Linux 12 x amd64", "Debian version: 12", "FLATCAR_VERSION=1", esxiBootCfg, wim(server2022), "{}"} {
		f.Add(uint8(i), []byte(text))
	}
	f.Fuzz(func(t *testing.T, mark uint8, text []byte) {
		got, err := Recognize(fstest.MapFS{marks[int(mark)%len(marks)]: &fstest.MapFile{Data: text}})
		if err != nil {
			return
		}
		for _, p := range append(got.Initrds, got.Kernel) {
			if p != "" && !fs.ValidPath(p) {
				t.Fatalf("path %q", p)
			}
		}
		for _, e := range got.Editions {
			if !printable(e) {
				t.Fatalf("edition %q", e)
			}
		}
	})
}

func TestMirrorBoot(t *testing.T) {
	for _, tt := range []struct{ os, version, arch, kernel, initrd string }{
		{"debian", "12", "amd64", "dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64/linux", "dists/bookworm/main/installer-amd64/current/images/netboot/debian-installer/amd64/initrd.gz"},
		{"debian", "13.1", "arm64", "dists/trixie/main/installer-arm64/current/images/netboot/debian-installer/arm64/linux", "dists/trixie/main/installer-arm64/current/images/netboot/debian-installer/arm64/initrd.gz"},
		{"rocky", "9", "amd64", "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"},
		{"opensuse", "15.6", "amd64", "boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"},
		{"sles", "15-SP6", "arm64", "boot/aarch64/linux", "boot/aarch64/initrd"},
		{"plan9", "4", "amd64", "", ""},
		{"debian", "12", "vax", "", ""},
	} {
		kernel, initrds := MirrorBoot(tt.os, tt.version, tt.arch)
		if kernel != tt.kernel || strings.Join(initrds, " ") != tt.initrd {
			t.Errorf("%s %s %s: %s, %v", tt.os, tt.version, tt.arch, kernel, initrds)
		}
	}
}
