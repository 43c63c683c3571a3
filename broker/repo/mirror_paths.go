package repo

import "strings"

// mirrorPaths are where mirrors have the kernel and initrds of their network installers, by os. CODENAME stands for
// what Debian calls a version.
var mirrorPaths = map[string]bootPaths{
	"debian":        {debianNetboot + "linux", []string{debianNetboot + "initrd.gz"}},
	"rhel":          redHatPaths,
	"rocky":         redHatPaths,
	"almalinux":     redHatPaths,
	"centos-stream": redHatPaths,
	"oracle":        redHatPaths,
	"fedora":        redHatPaths,
	"opensuse":      susePaths,
	"sles":          susePaths,
	"flatcar":       {"flatcar_production_pxe.vmlinuz", []string{"flatcar_production_pxe_image.cpio.gz"}},
}

type bootPaths struct {
	kernel  string
	initrds []string
}

var (
	redHatPaths = bootPaths{"images/pxeboot/vmlinuz", []string{"images/pxeboot/initrd.img"}}
	susePaths   = bootPaths{"boot/MACHINE/LOADERlinux", []string{"boot/MACHINE/LOADERinitrd"}}
)

const debianNetboot = "dists/CODENAME/main/installer-ARCH/current/images/netboot/debian-installer/ARCH/"

// codenames are Debian's, by the number of the release.
var codenames = map[string]string{"11": "bullseye", "12": "bookworm", "13": "trixie", "14": "forky"}

// MirrorBoot says where a mirror of an OS has its kernel and initrds, empty where that is not known.
func MirrorBoot(os, version, arch string) (kernel string, initrds []string) {
	p, ok := mirrorPaths[os]
	major, _, _ := strings.Cut(version, ".")
	codename := codenames[major]
	if codename == "" {
		codename = version // said as it is
	}
	loader := "loader/"
	if arch == "arm64" { // SUSE has it one level up there
		loader = ""
	}
	fill := strings.NewReplacer("CODENAME", codename, "ARCH", arch, "MACHINE", machineNames[arch].machine, "LOADER", loader).Replace
	if !ok || machineNames[arch].machine == "" {
		return "", nil
	}
	for _, i := range p.initrds {
		initrds = append(initrds, fill(i))
	}
	return fill(p.kernel), initrds
}
