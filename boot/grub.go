package boot

import (
	"fmt"
	"strings"
)

// grubStub leads to the machine's own configuration and says what GRUB runs on. With key ${net_default_mac} it is the same
// for every machine: Debian's signed network GRUB asks for nothing but one fixed name. It names files on $root, so that
// it works over TFTP and over HTTP.
func grubStub(key string) string {
	return "# muster: each machine has its own configuration\nconfigfile /muster/grub/" + key + "/${grub_cpu}-${grub_platform}.cfg\n" +
		"echo 'muster: no configuration for this machine'\nsleep 30\nreboot\n"
}

// efiLoaders are looked for on the machine's disks, in this order, when it is to boot them.
var efiLoaders = []string{
	"/EFI/debian/shimx64.efi", "/EFI/ubuntu/shimx64.efi", "/EFI/redhat/shimx64.efi", "/EFI/centos/shimx64.efi",
	"/EFI/rocky/shimx64.efi", "/EFI/almalinux/shimx64.efi", "/EFI/fedora/shimx64.efi", "/EFI/opensuse/shim.efi",
	"/EFI/Microsoft/Boot/bootmgfw.efi", "/EFI/BOOT/BOOTX64.EFI",
}

// renderGRUB writes a configuration for GRUB 2.06 and later. Every value stands in single quotes; kargs refuses
// values that hold one. GRUB itself quotes the words again for the kernel.
func renderGRUB(_ string, c Client, s Step) (string, error) {
	b := &strings.Builder{}
	fmt.Fprintf(b, "# %s\n", screen(s.Because))
	switch s.Kind {
	case StepRamdisk, StepKernel:
		return grubKernel(b, c, s)
	case StepChain:
		if err := grubChain(b, c, s); err != nil {
			return "", err
		}
	case StepMenu:
		grubMenu(b, c, s.Menu)
	case StepLocal:
		grubLocal(b, c)
	case StepWait:
		fmt.Fprintf(b, "echo 'muster: %s'\nsleep %d\n%s\n", screen(s.Text), seconds(waiting(c, s.After)), grubAgain(c))
	case StepRefuse:
		fmt.Fprintf(b, "echo 'muster: %s'\nsleep 30\nreboot\n", screen(s.Text))
	default:
		return "", fmt.Errorf("step %q has no GRUB form", s.Kind)
	}
	return b.String(), nil
}

// grubAgain asks for the script again. Each configfile nests in the one before.
func grubAgain(c Client) string {
	if c.Try >= maxTry {
		return "reboot"
	}
	return "configfile /" + c.scriptName(GRUB, nextTry(c))
}

func grubKernel(b *strings.Builder, c Client, s Step) (string, error) {
	var words []string
	bootif := "BOOTIF=01-" + c.MAC.Dashes()
	if !c.MAC.IsZero() {
		words = append(words, "'"+bootif+"'")
	}
	line, err := s.Args.Render()
	if err != nil {
		return "", err
	}
	if err := checkLine("BOOT_IMAGE=/boot/f/" + s.Kernel + " " + bootif + " " + line); err != nil {
		return "", err
	}
	for _, a := range s.Args {
		word := a.Key
		if !a.Flag {
			word += "=" + a.Value
		}
		words = append(words, "'"+word+"'")
	}
	fmt.Fprintf(b, "echo 'muster: loading %s'\n", s.Kernel)
	fmt.Fprintf(b, "linux /boot/f/%s %s\n", s.Kernel, strings.Join(words, " "))
	if len(s.Initrds) > 0 {
		fmt.Fprintf(b, "initrd /boot/f/%s\n", strings.Join(s.Initrds, " /boot/f/"))
	}
	fmt.Fprint(b, "boot\necho 'muster: the kernel or ramdisk could not be loaded'\nsleep 30\nreboot\n")
	return b.String(), nil
}

// grubLocal starts the loader on the machine's disk itself: leaving GRUB ends in the firmware's menu.
func grubLocal(b *strings.Builder, c Client) {
	if !c.Arch.EFI() {
		fmt.Fprint(b, "set root=(hd0)\nchainloader +1\nboot\n")
		return
	}
	for _, p := range efiLoaders {
		fmt.Fprintf(b, "if search --no-floppy --file --set=root %s; then\n  chainloader %s\n  boot\nfi\n", p, p)
	}
	fmt.Fprint(b, "echo 'muster: no boot loader found on the disks'\nsleep 10\nexit\n")
}
