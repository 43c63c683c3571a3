package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Loaders are the programs that firmware loads first. They come from the distribution's packages; none is carried
// by muster, so that signed ones stay signed.
type Loaders struct {
	Dir  string // operator's directory, looked at first, by served name; may be empty
	Root string // where the packages put theirs; if empty, /usr/lib
	UEFI string // first loader of UEFI machines: "snponly" (default), "ipxe", "grub", or "shim" (shim and GRUB, for Secure Boot)
	BIOS string // first loader of BIOS machines: "undionly" (default, iPXE), "pxelinux", "lpxelinux" or "grub"
	For  []LoaderFor
	// Machine says what is known of a client's hardware; if nil, nothing is.
	Machine func(Client) Machine
}

// LoaderFor gives machines that match all that it names another loader; the first row that matches counts.
type LoaderFor struct {
	MAC     string `yaml:"mac"`     // whole bytes in front, such as 52:54:00
	Vendor  string `yaml:"vendor"`  // a part of SMBIOS type 1's manufacturer, without case
	Product string `yaml:"product"` // a part of its product name
	Arch    string `yaml:"arch"`    // bios, ia32, x64 or arm64
	Loader  string `yaml:"loader"`  // as in Loaders.UEFI and BIOS, or a file of the operator's directory, such as a UKI
}

// Machine is hardware, as far as it is known from an earlier boot.
type Machine struct {
	Vendor, Product string
	SecureBoot      bool
}

// loaderFiles maps served names to files of Debian's packages below /usr/lib. Debian 13 names ipxe.efi ipxe-amd64.efi.
// The modules are those that pxelinux.0 cannot start or show a menu without.
var loaderFiles = map[string]struct {
	pkg   string
	files []string
}{
	"undionly.kpxe":    {"ipxe", []string{"ipxe/undionly.kpxe"}},
	"ipxe.efi":         {"ipxe", []string{"ipxe/ipxe.efi", "ipxe/ipxe-amd64.efi"}},
	"snponly.efi":      {"ipxe", []string{"ipxe/snponly.efi"}},
	"ipxe-arm64.efi":   {"ipxe", []string{"ipxe/ipxe-arm64.efi"}},
	"ipxe-riscv64.efi": {"ipxe", []string{"ipxe/ipxe-riscv64.efi"}},
	"ipxe-loong64.efi": {"ipxe", []string{"ipxe/ipxe-loong64.efi"}},
	"ipxe.lkrn":        {"ipxe", []string{"ipxe/ipxe.lkrn"}},
	"shimx64.efi":      {"shim-signed", []string{"shim/shimx64.efi.signed"}},
	"mmx64.efi":        {"shim-helpers-amd64-signed", []string{"shim/mmx64.efi.signed"}},
	"fbx64.efi":        {"shim-helpers-amd64-signed", []string{"shim/fbx64.efi.signed"}},
	"grubx64.efi":      {"grub-efi-amd64-signed", []string{"grub/x86_64-efi-signed/grubnetx64.efi.signed"}}, // what shim loads next
	"shimaa64.efi":     {"shim-signed", []string{"shim/shimaa64.efi.signed"}},
	"grubaa64.efi":     {"grub-efi-arm64-signed", []string{"grub/arm64-efi-signed/grubnetaa64.efi.signed"}},
	"pxelinux.0":       {"pxelinux", []string{"PXELINUX/pxelinux.0"}},
	"lpxelinux.0":      {"pxelinux", []string{"PXELINUX/lpxelinux.0"}},
	"ldlinux.c32":      {"syslinux-common", []string{"syslinux/modules/bios/ldlinux.c32"}},
	"menu.c32":         {"syslinux-common", []string{"syslinux/modules/bios/menu.c32"}},
	"libutil.c32":      {"syslinux-common", []string{"syslinux/modules/bios/libutil.c32"}},
	"libcom32.c32":     {"syslinux-common", []string{"syslinux/modules/bios/libcom32.c32"}},
	"memdisk":          {"syslinux-common", []string{"syslinux/memdisk"}},
}

type firstLoader struct {
	choice string
	arch   Arch
	file   string
	needs  []string
}

// firstLoaders says what a choice is on an architecture: the file that firmware is given, and what that one needs. Where
// the file of a choice is missing, the next row of the architecture stands in.
//
// snponly uses the firmware's own NIC driver; ipxe.efi of 2019 (Debian 12) brings its own and hangs in OVMF when it is
// left by exit 1 [seen]. Nobody ships a GRUB for PXE on BIOS: grub-mknetdir makes one.
var firstLoaders = []firstLoader{
	{"undionly", ArchBIOS, "undionly.kpxe", nil},
	{"pxelinux", ArchBIOS, "pxelinux.0", []string{"ldlinux.c32"}},
	{"lpxelinux", ArchBIOS, "lpxelinux.0", []string{"ldlinux.c32"}},
	{"grub", ArchBIOS, "grub.0", nil},
	{"snponly", ArchX64, "snponly.efi", nil},
	{"ipxe", ArchX64, "ipxe.efi", nil},
	{"shim", ArchX64, "shimx64.efi", []string{"grubx64.efi"}},
	{"grub", ArchX64, "grubx64.efi", nil},
	{"snponly", ArchARM64, "snponly-arm64.efi", nil},
	{"ipxe", ArchARM64, "ipxe-arm64.efi", nil},
	{"shim", ArchARM64, "shimaa64.efi", []string{"grubaa64.efi"}},
	{"grub", ArchARM64, "grubaa64.efi", nil},
	{"snponly", ArchIA32, "snponly-ia32.efi", nil},
	{"snponly", archRISCV64, "snponly-riscv64.efi", nil},
	{"ipxe", archRISCV64, "ipxe-riscv64.efi", nil},
	{"snponly", archLoong64, "snponly-loong64.efi", nil},
	{"ipxe", archLoong64, "ipxe-loong64.efi", nil},
}

// Architectures that have a loader if the operator has one.
const (
	archRISCV64 Arch = 0x1b
	archLoong64 Arch = 0x27
)

// programArch is whose programs an architecture runs: the registry has a number for each way to load them, and many x64
// machines say EBC.
var programArch = map[Arch]Arch{
	ArchEBC: ArchX64, ArchX64HTTP: ArchX64, 0x11: ArchX64, 0x0f: ArchIA32, ArchARM64HTTP: ArchARM64, 0x1c: archRISCV64, 0x28: archLoong64,
}

func (a Arch) program() Arch {
	if p, ok := programArch[a]; ok {
		return p
	}
	return a
}

// archWords are the architectures by the words of LoaderFor.
var archWords = map[string]Arch{"bios": ArchBIOS, "ia32": ArchIA32, "x64": ArchX64, "arm64": ArchARM64}

// Name picks the loader for a firmware client; false when there is none for it. unstarted says that the machine has
// loaded the one of the configuration before and did not start it: Secure Boot refuses what is not signed.
func (l Loaders) Name(c Client, unstarted bool) (string, bool) {
	choice, machine := l.row(c)
	arch := c.Arch.program()
	switch {
	case choice != "":
	case arch == ArchBIOS:
		choice = l.BIOS
	case unstarted, machine.SecureBoot:
		choice = "shim"
	default:
		choice = l.UEFI
	}
	return l.file(choice, arch)
}

// instead is the loader of a machine whose ROM is an iPXE, but whose row names a program that is none. Other rows are
// answered with the script: an iPXE would come back as it went (D10).
func (l Loaders) instead(c Client) (string, bool) {
	choice, _ := l.row(c)
	if !slices.Contains([]string{"pxelinux", "lpxelinux", "grub", "shim"}, choice) {
		return "", false
	}
	return l.file(choice, c.Arch.program())
}

// row is the loader that the operator's rows name for the machine, empty when none does, and what the machine is.
func (l Loaders) row(c Client) (choice string, m Machine) {
	if l.Machine != nil {
		m = l.Machine(c)
	}
	for _, r := range l.For {
		if r.matches(c, m) {
			return r.Loader, m
		}
	}
	return "", m
}

// file is the file of a choice that is there, or the next of the architecture. Without a choice it is the first.
func (l Loaders) file(choice string, arch Arch) (string, bool) {
	if strings.Contains(choice, ".") {
		return choice, true
	}
	second := ""
	for _, r := range firstLoaders {
		if r.arch != arch || !l.has(r.file, r.needs...) {
			continue
		}
		if r.choice == choice || choice == "" {
			return r.file, true
		}
		if second == "" {
			second = r.file
		}
	}
	return second, second != ""
}

// Has says whether a loader is there, by its served name.
func (l Loaders) Has(name string) bool { return l.has(name) }

func (l Loaders) has(name string, more ...string) bool {
	return !slices.ContainsFunc(append(more, name), func(n string) bool { return l.path(n) == "" })
}

func (r LoaderFor) matches(c Client, m Machine) bool {
	prefix := strings.ToLower(strings.ReplaceAll(r.MAC, "-", ":"))
	part := func(s, of string) bool { return strings.Contains(strings.ToLower(of), strings.ToLower(s)) }
	arch, named := archWords[r.Arch]
	return strings.HasPrefix(c.MAC.String(), prefix) && part(r.Vendor, m.Vendor) && part(r.Product, m.Product) &&
		(!named || arch == c.Arch.program())
}

var macPrefix = regexp.MustCompile(`^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){0,5})?$`)

func (l Loaders) checkRow(r LoaderFor) error {
	_, known := archWords[r.Arch]
	switch {
	case r == LoaderFor{Loader: r.Loader}:
		return fmt.Errorf("it names no machine: want mac, vendor, product or arch")
	case !macPrefix.MatchString(r.MAC):
		return fmt.Errorf("mac %q: want whole bytes, such as 52:54:00", r.MAC)
	case !known && r.Arch != "":
		return fmt.Errorf("arch %q: want bios, ia32, x64 or arm64", r.Arch)
	case strings.Contains(r.Loader, ".") && !l.has(r.Loader):
		return fmt.Errorf("loader %s is not in the loader directory", r.Loader)
	case !strings.Contains(r.Loader, ".") && !slices.Contains(choicesOf(), r.Loader):
		return fmt.Errorf("loader %q: want %s, or a file of the loader directory", r.Loader, strings.Join(choicesOf(), ", "))
	}
	return nil
}

// choicesOf lists the choices of these architectures, or of all.
func choicesOf(archs ...Arch) []string {
	var list []string
	for _, r := range firstLoaders {
		if (len(archs) == 0 || slices.Contains(archs, r.arch)) && !slices.Contains(list, r.choice) {
			list = append(list, r.choice)
		}
	}
	return list
}

// Check says whether the operator's choices and pins are right, and then whether the loaders that clients will be pointed
// to are there: ErrNotFound when one is not.
func (l Loaders) Check() error {
	sets := []struct {
		what, choice string
		arch         Arch
	}{{"BIOS", l.BIOS, ArchBIOS}, {"UEFI", l.UEFI, ArchX64}}
	for _, set := range sets {
		if set.choice != "" && !slices.Contains(choicesOf(set.arch), set.choice) {
			return fmt.Errorf("%s loader %q: want %s", set.what, set.choice, strings.Join(choicesOf(set.arch), ", "))
		}
	}
	for i, r := range l.For {
		if err := l.checkRow(r); err != nil {
			return fmt.Errorf("loader_for, row %d: %w", i+1, err)
		}
	}
	if err := l.checkSums(); err != nil {
		return err
	}
	for _, set := range sets {
		if err := l.checkChoice(set.choice, set.arch); err != nil {
			return err
		}
	}
	return nil
}

func (l Loaders) checkChoice(choice string, arch Arch) error {
	i := slices.IndexFunc(firstLoaders, func(r firstLoader) bool { return r.arch == arch && (r.choice == choice || choice == "") })
	for _, name := range append([]string{firstLoaders[i].file}, firstLoaders[i].needs...) {
		if l.has(name) {
			continue
		}
		if p := loaderFiles[name].pkg; p != "" {
			return fmt.Errorf("loader %s is %w: install Debian's package %s, or put it into the loader directory", name, ErrNotFound, p)
		}
		return fmt.Errorf("loader %s is %w: put it into the loader directory", name, ErrNotFound)
	}
	return nil
}

// path is where a loader is, by its served name: in the operator's directory, else in the distribution's packages.
func (l Loaders) path(name string) string {
	if strings.ContainsAny(name, "/\\\x00") || name == "" || name[0] == '.' || name == sumsFile {
		return ""
	}
	root := l.Root
	if root == "" {
		root = "/usr/lib"
	}
	var list []string
	if l.Dir != "" {
		list = append(list, filepath.Join(l.Dir, name))
	}
	for _, f := range loaderFiles[name].files {
		list = append(list, filepath.Join(root, f))
	}
	for _, p := range list {
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// Open opens a loader by its served name.
func (l Loaders) Open(name string) (File, error) {
	p := l.path(name)
	if p == "" {
		return File{}, ErrNotFound
	}
	return openFile(os.Open(p))
}
