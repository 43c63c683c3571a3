package boot

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// renderIPXE writes a script that every iPXE since 2019 runs (Debian 12's is the oldest in use). iPXE has no quotes:
// words end at blanks, and ${} is expanded after that, twice; kargs refuses what could be read so.
func renderIPXE(base string, c Client, s Step) (string, error) {
	b := &strings.Builder{}
	fmt.Fprintf(b, "#!ipxe\n# %s\n", screen(s.Because))
	switch s.Kind {
	case StepRamdisk, StepKernel:
		return ipxeKernel(b, base, c, s)
	case StepWinPE:
		if err := ipxeWinPE(b, base, c, s); err != nil {
			return "", err
		}
	case StepChain:
		ipxeChain(b, base, c, s)
	case StepMenu:
		ipxeMenu(b, base, c, s.Menu)
	case StepLocal:
		ipxeLocal(b, c)
	case StepWait:
		fmt.Fprintf(b, "echo muster: %s\nsleep %d\n", screen(s.Text), seconds(waiting(c, s.After)))
		fmt.Fprintf(b, "chain --replace --autofree %s || reboot\n", ipxeAgain(base, c, "&try="+strconv.Itoa(min(c.Try+1, maxTry))))
	case StepRefuse:
		fmt.Fprintf(b, "echo muster: %s\nsleep 30\n%s\n", screen(s.Text), ipxeExit(c))
	default:
		return "", fmt.Errorf("step %q has no iPXE form", s.Kind)
	}
	return b.String(), nil
}

func ipxeKernel(b *strings.Builder, base string, c Client, s Step) (string, error) {
	words, err := s.Args.Words()
	if err != nil {
		return "", err
	}
	// initrd= by name is a must for the 2019 EFI build and does no harm elsewhere.
	var initrds []string
	for i := range s.Initrds {
		initrds = append(initrds, fmt.Sprintf("initrd=initrd%d", i))
	}
	words = append(append(initrds, "BOOTIF=01-"+c.MAC.Dashes()), words...)
	line := strings.Join(words, " ")
	if err := checkLine("kernel " + line); err != nil { // the EFI build puts the image's name in front
		return "", err
	}
	load := []string{fmt.Sprintf("kernel --name kernel %s/boot/f/%s %s", base, s.Kernel, line)}
	for i, name := range s.Initrds {
		load = append(load, fmt.Sprintf("initrd --name initrd%d %s/boot/f/%s", i, base, name))
	}
	ipxeStart(b, load, "the kernel or ramdisk", ipxeVerify(base, s)...)
	if len(s.Signatures) > 0 {
		fmt.Fprint(b, ":unsigned\necho muster: a signature does not fit, or this iPXE was built without imgverify\nsleep 30\nreboot\n")
	}
	return b.String(), nil
}

// ipxeVerify asks iPXE to run only what was signed, kernel first. Distributions build it without these commands
// (IMAGE_TRUST_CMD), and one that is to be fooled would leave them out: they are worth something in an iPXE of the
// operator's own, with his root certificate in it, that trusts nothing from its first line on.
func ipxeVerify(base string, s Step) (lines []string) {
	if len(s.Signatures) > 0 && s.TrustOnly {
		lines = append(lines, "imgtrust --permanent || goto unsigned")
	}
	for i, name := range s.Signatures {
		image := "kernel"
		if i > 0 {
			image = fmt.Sprintf("initrd%d", i-1)
		}
		lines = append(lines, fmt.Sprintf("imgverify %s %s/boot/f/%s || goto unsigned", image, base, name))
	}
	return lines
}

// ipxeStart loads images and starts the first, all over again when one does not come. The lines of then stand between.
func ipxeStart(b *strings.Builder, load []string, what string, then ...string) {
	fmt.Fprint(b, "set try:int32 0\n:start\n")
	for _, l := range load {
		fmt.Fprintf(b, "%s || goto retry\n", l)
	}
	for _, l := range then {
		fmt.Fprintln(b, l)
	}
	fmt.Fprint(b, "boot || goto retry\n:retry\nimgfree\ninc try\niseq ${try} 5 && goto fail ||\nsleep ${try}\ngoto start\n")
	fmt.Fprintf(b, ":fail\necho muster: %s could not be loaded\nsleep 30\nreboot\n", what)
}

// ipxeLocal gives the machine to its disk. On EFI an exit status that is not 0 makes the firmware try its next boot
// entry, while 0 opens its menu; sanboot of a local disk exists on EFI since 2024.
func ipxeLocal(b *strings.Builder, c Client) {
	if !c.Arch.EFI() {
		fmt.Fprint(b, "sanboot --no-describe --drive 0x80 || exit 0\n")
		return
	}
	fmt.Fprint(b, `sanboot --no-describe --drive 0 --filename \EFI\debian\shimx64.efi || sanboot --no-describe --drive 0x80 || exit 1`+"\n")
}

func ipxeExit(c Client) string {
	if c.Arch.EFI() {
		return "exit 1"
	}
	return "exit 0"
}

// ipxeAgain is the URL of the machine's script, with more of a query behind it.
func ipxeAgain(base string, c Client, more string) string {
	u := base + "/boot/ipxe?mac=" + c.MAC.String()
	if c.Arch.EFI() {
		u += "&platform=efi"
	}
	if arch := c.Arch.ipxe(); arch != "" {
		u += "&arch=" + arch
	}
	return u + more
}

// ipxe is what ${buildarch} is where that is not said by platform alone.
func (a Arch) ipxe() string {
	if a == ArchARM64 || a == ArchARM64HTTP {
		return "arm64"
	}
	return ""
}

// autoexec is the script of iPXE builds that ask for autoexec.ipxe before DHCP, for whom nobody is known to have the
// address: it comes back with the NIC's.
func autoexec(base string) string {
	return "#!ipxe\ndhcp || reboot\nchain --replace --autofree " + base + "/boot/ipxe?mac=${netX/mac}&uuid=${uuid}&platform=${platform}&arch=${buildarch} || reboot\n"
}

func seconds(d time.Duration) int {
	return max(1, int(d/time.Second))
}

// withDHCP gives a script of the address's machine to an iPXE that has none of its own yet.
func withDHCP(f File) (File, error) {
	defer f.Content.Close()
	text, err := io.ReadAll(f.Content)
	if err != nil {
		return File{}, err
	}
	return rendered("#!ipxe\nisset ${netX/ip} || dhcp || reboot\n" + strings.TrimPrefix(string(text), "#!ipxe\n")), nil
}
