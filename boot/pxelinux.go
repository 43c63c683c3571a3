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
func renderPXELINUX(_ string, c Client, s Step) (string, error) {
	b := &strings.Builder{}
	fmt.Fprintf(b, "# %s\nALLOWOPTIONS 0\nNOESCAPE 1\n", screen(s.Because))
	if s.Kind != StepMenu { // menu.c32 itself is a file that no label names [seen]
		fmt.Fprint(b, "IMPLICIT 0\n")
	}
	switch s.Kind {
	case StepRamdisk, StepKernel:
		return pxelinuxKernel(b, c, s)
	case StepChain:
		if err := pxelinuxChain(b, s.Chain); err != nil {
			return "", err
		}
	case StepMenu:
		pxelinuxMenu(b, c, s.Menu)
	case StepLocal:
		// 0 lets the PXE ROM go on to the next boot device.
		pxelinuxLabel(b, "LOCALBOOT 0")
	case StepWait:
		fmt.Fprintf(b, "SAY muster: %s\nPROMPT 1\nTIMEOUT %d\nDEFAULT muster\nLABEL muster\n  CONFIG ::%s\n",
			screen(s.Text), 10*seconds(waiting(c, s.After)), c.scriptName(PXELINUX, nextTry(c)))
	case StepRefuse:
		fmt.Fprintf(b, "SAY muster: %s\nPROMPT 1\nTIMEOUT 300\nDEFAULT muster\nLABEL muster\n  LOCALBOOT -1\n", screen(s.Text))
	default:
		return "", fmt.Errorf("step %q has no pxelinux form", s.Kind)
	}
	return b.String(), nil
}

func pxelinuxLabel(b *strings.Builder, lines ...string) {
	fmt.Fprintf(b, "DEFAULT muster\nPROMPT 0\nLABEL muster\n  %s\n", strings.Join(lines, "\n  "))
}

// pxelinuxKernel says LINUX, not KERNEL: pxelinux would tell what kind of program a KERNEL is by its file's name.
func pxelinuxKernel(b *strings.Builder, c Client, s Step) (string, error) {
	args, err := s.Args.Render()
	if err != nil {
		return "", err
	}
	lines := []string{"LINUX ::boot/f/" + s.Kernel}
	initrds := ""
	if len(s.Initrds) > 0 {
		initrds = "::boot/f/" + strings.Join(s.Initrds, ",::boot/f/")
		lines = append(lines, "INITRD "+initrds)
	}
	if err := checkLine("BOOT_IMAGE=::boot/f/" + s.Kernel + " " + args + " initrd=" + initrds + " BOOTIF=01-" + c.MAC.Dashes()); err != nil {
		return "", err
	}
	if args != "" {
		lines = append(lines, "APPEND "+args)
	}
	fmt.Fprintf(b, "SAY muster: loading %s\n", s.Kernel)
	pxelinuxLabel(b, append(lines, "IPAPPEND 2")...) // BOOTIF=01-MAC
	return b.String(), nil
}
