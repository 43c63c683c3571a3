package boot

import (
	"fmt"
	"strings"
)

// renderPXELINUX writes a configuration for PXELINUX 4 and later. It has no quotes and no escapes: a keyword, a blank,
// and the rest of the line. Names start with "::" because a slash in front would be glued to the prefix.
//
// Nobody at the keyboard adds options to a kernel, gets a prompt by a key held down, or names a file: the machine may
// hold a token.
func renderPXELINUX(base string, c Client, s Step) (string, error) {
	b := &strings.Builder{}
	fmt.Fprintf(b, "# %s\nALLOWOPTIONS 0\nNOESCAPE 1\n", screen(s.Because))
	if s.Kind != StepMenu { // menu.c32 itself is a file that no label names [seen]
		fmt.Fprint(b, "IMPLICIT 0\n")
	}
	switch s.Kind {
	case StepRamdisk, StepKernel:
		return pxelinuxKernel(b, base, c, s)
	case StepChain:
		if err := pxelinuxChain(b, base, c, s); err != nil {
			return "", err
		}
	case StepMenu:
		pxelinuxMenu(b, base, c, s.Menu)
	case StepLocal:
		// 0 lets the PXE ROM go on to the next boot device.
		pxelinuxLabel(b, "LOCALBOOT 0")
	case StepWait:
		fmt.Fprintf(b, "SAY muster: %s\nPROMPT 1\nTIMEOUT %d\nDEFAULT muster\nLABEL muster\n  CONFIG %s\n",
			screen(s.Text), 10*seconds(waiting(c, s.After)), pxelinuxFile(base, c, c.scriptName(PXELINUX, nextTry(c))))
	case StepRefuse:
		fmt.Fprintf(b, "SAY muster: %s\nPROMPT 1\nTIMEOUT 300\nDEFAULT muster\nLABEL muster\n  LOCALBOOT -1\n", screen(s.Text))
	default:
		return "", fmt.Errorf("step %q has no pxelinux form", s.Kind)
	}
	return b.String(), nil
}

// pxelinuxFile is how a name is written: without the prefix, by TFTP, or whole for one that asks by HTTP (lpxelinux.0),
// which has no other way to say so.
func pxelinuxFile(base string, c Client, name string) string {
	if c.HTTP {
		return base + "/" + name
	}
	return "::" + name
}

func pxelinuxLabel(b *strings.Builder, lines ...string) {
	fmt.Fprintf(b, "DEFAULT muster\nPROMPT 0\nLABEL muster\n  %s\n", strings.Join(lines, "\n  "))
}

// pxelinuxKernel says LINUX, not KERNEL: pxelinux would tell what kind of program a KERNEL is by its file's name.
func pxelinuxKernel(b *strings.Builder, base string, c Client, s Step) (string, error) {
	args, err := s.Args.Render()
	if err != nil {
		return "", err
	}
	kernel := pxelinuxFile(base, c, "boot/f/"+s.Kernel)
	lines := []string{"LINUX " + kernel}
	var files []string
	for _, name := range s.Initrds {
		files = append(files, pxelinuxFile(base, c, "boot/f/"+name))
	}
	initrds := strings.Join(files, ",")
	if initrds != "" {
		lines = append(lines, "INITRD "+initrds)
	}
	if err := checkLine("BOOT_IMAGE=" + kernel + " " + args + " initrd=" + initrds + " BOOTIF=01-" + c.MAC.Dashes()); err != nil {
		return "", err
	}
	if args != "" {
		lines = append(lines, "APPEND "+args)
	}
	fmt.Fprintf(b, "SAY muster: loading %s\n", s.Kernel)
	pxelinuxLabel(b, append(lines, "IPAPPEND 2")...) // BOOTIF=01-MAC
	return b.String(), nil
}
