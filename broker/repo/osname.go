package repo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// An OS is what a tree or mirror installs.
type OS struct {
	Name     string   `json:"os,omitempty"` // debian, rocky, windows
	Version  string   `json:"version,omitempty"`
	Arch     string   `json:"arch,omitempty"`    // as Go says it: amd64, arm64
	Kernel   string   `json:"kernel,omitempty"`  // path
	Initrds  []string `json:"initrds,omitempty"` // paths, in the order in memory
	Editions []string `json:"editions,omitempty"`
	Task     string   `json:"task,omitempty"` // that installs it
	Fold     bool     `json:"-"`              // its installer asks for names in another case
	Note     string   `json:"-"`              // what its user should know
}

// osKind is one family of installers: how its trees are known, and where the kernel and initrds lie in them, each the
// first that is there. ARCH stands for Go's name of the architecture, MACHINE for the kernel's.
type osKind struct {
	name    string
	task    string
	read    func(fs.FS) (OS, error) // fs.ErrNotExist: not of this family
	kernels []string
	initrds [][]string // candidates for each
	fold    bool
}

// osKinds is the table of what is recognized, asked in order.
var osKinds = []osKind{
	{name: "Fedora CoreOS", task: "fedora-coreos", read: readCoreOS, kernels: []string{"images/pxeboot/vmlinuz"}, initrds: [][]string{{"images/pxeboot/initrd.img"}, {"images/pxeboot/rootfs.img"}}},
	{name: "Red Hat's family", task: "rhel", read: readTreeinfo, kernels: []string{"images/pxeboot/vmlinuz"}, initrds: [][]string{{"images/pxeboot/initrd.img"}}},
	{name: "SUSE", task: "suse", read: readSUSE, kernels: []string{"boot/MACHINE/loader/linux", "boot/MACHINE/linux"}, initrds: [][]string{{"boot/MACHINE/loader/initrd", "boot/MACHINE/initrd"}}},
	{name: "Ubuntu", task: "ubuntu", read: readUbuntu, kernels: []string{"casper/vmlinuz", "casper/hwe-vmlinuz"}, initrds: [][]string{{"casper/initrd", "casper/initrd.gz", "casper/hwe-initrd"}}},
	{name: "Debian", task: "debian", read: readDebian, kernels: []string{"install.SHORT/vmlinuz"}, initrds: [][]string{{"install.SHORT/initrd.gz"}}},
	{name: "Debian's netboot files", task: "debian", read: readNetboot, kernels: []string{"debian-installer/ARCH/linux"}, initrds: [][]string{{"debian-installer/ARCH/initrd.gz"}}},
	{name: "Flatcar", task: "flatcar", read: readFlatcar, kernels: []string{"flatcar_production_pxe.vmlinuz", "flatcar/vmlinuz"}, initrds: [][]string{{"flatcar_production_pxe_image.cpio.gz", "flatcar/cpio.gz"}}},
	{name: "ESXi", task: "esxi", read: readESXi, fold: true},
	{name: "Windows", task: "windows", read: readWindows, initrds: [][]string{{"bootmgr"}, {"boot/bcd", "efi/microsoft/boot/bcd"}, {"boot/boot.sdi"}, {"sources/boot.wim"}}, fold: true},
}

// Recognize says what a tree installs. One of no known kind is an OS without a name.
func Recognize(tree fs.FS) (OS, error) {
	for _, k := range osKinds {
		found, err := k.read(tree)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return OS{}, fmt.Errorf("recognize %s: %w", k.name, err)
		}
		return k.complete(tree, found), nil
	}
	return OS{}, nil
}

// complete adds what the family says.
func (k osKind) complete(tree fs.FS, found OS) OS {
	if found.Kernel == "" {
		found.Kernel = firstThere(tree, found.Arch, k.kernels)
	}
	if len(found.Initrds) == 0 {
		for _, candidates := range k.initrds {
			if p := firstThere(tree, found.Arch, candidates); p != "" {
				found.Initrds = append(found.Initrds, p)
			}
		}
	}
	if found.Task, found.Fold = k.task, k.fold; found.Name == "fedora" {
		found.Task = "fedora"
	}
	return found
}

// machineNames are architectures as kernels and Debian's media say them.
var machineNames = map[string]struct{ machine, short string }{
	"amd64": {"x86_64", "amd"}, "arm64": {"aarch64", "a64"}, "ppc64el": {"ppc64le", "ppc"}, "s390x": {"s390x", "s390x"}, "riscv64": {"riscv64", "riscv64"},
}

// goArch reads an architecture as any of them says it.
func goArch(s string) string {
	for arch, names := range machineNames {
		if s == names.machine {
			return arch
		}
	}
	return s
}

func firstThere(tree fs.FS, arch string, candidates []string) string {
	names := machineNames[arch]
	for _, c := range candidates {
		p := strings.NewReplacer("ARCH", arch, "MACHINE", names.machine, "SHORT", names.short).Replace(c)
		if f, err := tree.Open(p); err == nil {
			f.Close()
			return p
		}
	}
	return ""
}

// maxMark bounds the files by which trees are known.
const maxMark = 1 << 20

func readMark(tree fs.FS, name string) (string, error) {
	f, err := tree.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMark+1))
	if err == nil && len(b) > maxMark {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxMark)
	}
	return string(b), err
}

// families are the values of general.family and release.name in .treeinfo, by how they start.
var families = []struct{ prefix, name string }{
	{"Red Hat Enterprise Linux", "rhel"}, {"Rocky", "rocky"}, {"AlmaLinux", "almalinux"}, {"CentOS Stream", "centos-stream"}, {"CentOS", "centos"},
	{"Fedora", "fedora"}, {"Oracle", "oracle"}, {"openSUSE", "opensuse"}, {"SUSE", "sles"}, {"SLE", "sles"}, {"Scientific", "scientific"},
}

// readTreeinfo reads .treeinfo (productmd's documentation, "treeinfo file format 1.x"), which also SUSE writes.
func readTreeinfo(tree fs.FS) (OS, error) {
	text, err := readMark(tree, ".treeinfo")
	if errors.Is(err, fs.ErrNotExist) {
		text, err = readMark(tree, "treeinfo")
	}
	if err != nil {
		return OS{}, err
	}
	ini := readINI(text)
	family := ini.first("release.name", "general.family", "general.name")
	found := OS{Version: ini.first("release.version", "general.version"), Arch: goArch(ini.first("tree.arch", "general.arch"))}
	for _, f := range families {
		if strings.HasPrefix(family, f.prefix) {
			found.Name = f.name
			break
		}
	}
	images := "images-" + ini.first("tree.arch", "general.arch")
	found.Kernel = ini.first(images + ".kernel")
	if initrd := ini.first(images + ".initrd"); initrd != "" {
		found.Initrds = []string{initrd}
	}
	if found.Name == "" {
		return found, fmt.Errorf(".treeinfo is of %q, which is not known: say --os", family)
	}
	return found, found.checkPaths()
}

// checkPaths holds what a file of the tree says against the form of paths.
func (o OS) checkPaths() error {
	for _, p := range append(slices.Clone(o.Initrds), o.Kernel) {
		if p != "" && checkPath(p) != nil {
			return fmt.Errorf("path %q: want one within the tree", p)
		}
	}
	return nil
}

// ini is section.key to value.
type ini map[string]string

func (i ini) first(keys ...string) string {
	for _, k := range keys {
		if v := i[k]; v != "" {
			return v
		}
	}
	return ""
}

func readINI(text string) ini {
	i, section := ini{}, ""
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if name, ok := strings.CutPrefix(line, "["); ok {
			section = strings.TrimSuffix(name, "]")
			continue
		}
		if k, v, ok := strings.Cut(line, "="); ok {
			i[section+"."+strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	return i
}

// marked matches a mark with a form that names its groups version and arch.
func marked(tree fs.FS, mark string, form *regexp.Regexp) (OS, error) {
	text, err := readMark(tree, mark)
	if err != nil {
		return OS{}, err
	}
	m := form.FindStringSubmatch(text)
	if m == nil {
		return OS{}, fs.ErrNotExist
	}
	found := OS{Version: m[form.SubexpIndex("version")]}
	if i := form.SubexpIndex("arch"); i > 0 {
		found.Arch = goArch(m[i])
	}
	return found, nil
}

var (
	debianInfo  = regexp.MustCompile(`^Debian GNU/Linux (?P<version>[0-9.]+|testing|unstable)\b.* (?P<arch>amd64|arm64|i386|ppc64el|s390x|riscv64)\b`)
	ubuntuInfo  = regexp.MustCompile(`^Ubuntu(?:-Server)? (?P<version>[0-9.]+)\b.* (?P<arch>amd64|arm64|ppc64el|s390x|riscv64)\b`)
	netbootInfo = regexp.MustCompile(`(?m)^Debian version: *(?P<version>[0-9.]+)`)
	suseMedia   = regexp.MustCompile(`(?P<os>openSUSE-Leap|openSUSE-Tumbleweed|openSUSE|SLES?|SLE)-(?P<version>[0-9]+(?:\.[0-9]+)?(?:-SP[0-9]+)?).*?(?P<arch>x86_64|aarch64|ppc64le|s390x)`)
	flatcarInfo = regexp.MustCompile(`(?m)^FLATCAR_VERSION=(?P<version>[0-9.]+)`)
	flatcarArch = regexp.MustCompile(`(?m)^FLATCAR_BOARD=(amd64|arm64)-usr`)
)

// readDebian reads the mark of Debian's media.
func readDebian(tree fs.FS) (OS, error) {
	found, err := marked(tree, ".disk/info", debianInfo)
	found.Name = "debian"
	found.Note = "the initrd of a Debian CD looks for its packages on a CD: to install over the network, import Debian's netboot files or name a mirror"
	return found, err
}

func readUbuntu(tree fs.FS) (OS, error) {
	found, err := marked(tree, ".disk/info", ubuntuInfo)
	found.Name = "ubuntu"
	return found, err
}

// readNetboot reads what lies in Debian's netboot.tar.gz.
func readNetboot(tree fs.FS) (OS, error) {
	found, err := marked(tree, "version.info", netbootInfo)
	found.Name = "debian"
	for _, arch := range []string{"amd64", "arm64"} {
		if firstThere(tree, arch, []string{"debian-installer/ARCH/linux"}) != "" {
			found.Arch = arch
		}
	}
	return found, err
}

// readSUSE reads the line that names the medium.
func readSUSE(tree fs.FS) (OS, error) {
	text, err := readMark(tree, "media.1/media")
	if err != nil {
		return OS{}, err
	}
	m := suseMedia.FindStringSubmatch(text)
	if m == nil {
		return OS{}, fs.ErrNotExist
	}
	found := OS{Name: "sles", Version: m[2], Arch: goArch(m[3])}
	if strings.HasPrefix(m[1], "openSUSE") {
		found.Name = "opensuse"
	}
	return found, nil
}

func readFlatcar(tree fs.FS) (OS, error) {
	text, err := readMark(tree, "version.txt")
	if err != nil {
		return OS{}, err
	}
	v, arch := flatcarInfo.FindStringSubmatch(text), flatcarArch.FindStringSubmatch(text)
	if v == nil {
		return OS{}, fs.ErrNotExist
	}
	found := OS{Name: "flatcar", Version: v[1]}
	if arch != nil {
		found.Arch = arch[1]
	}
	return found, nil
}

// readCoreOS reads what Fedora CoreOS's live medium has: the release is in its boot loader's menu.
func readCoreOS(tree fs.FS) (OS, error) {
	if _, err := readMark(tree, "coreos/igninfo.json"); err != nil {
		return OS{}, err
	}
	menu, err := readMark(tree, "EFI/fedora/grub.cfg")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return OS{}, err
	}
	found := OS{Name: "fedora-coreos", Arch: "amd64"}
	if m := coreosLabel.FindStringSubmatch(menu); m != nil {
		found.Version = m[1]
	}
	if firstThere(tree, "", []string{"EFI/BOOT/BOOTAA64.EFI"}) != "" {
		found.Arch = "arm64"
	}
	return found, nil
}

var coreosLabel = regexp.MustCompile(`fedora-coreos-([0-9]+(?:\.[0-9]+)+)`)
