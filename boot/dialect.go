package boot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"muster/boot/kargs"
)

// Dialect is how a step is said.
type Dialect string

// The dialects. Each is one file and one row of renderers.
const (
	IPXE     Dialect = "ipxe"
	GRUB     Dialect = "grub"
	PXELINUX Dialect = "pxelinux"
)

// kinds are the programs that speak them.
var kinds = map[Dialect]Kind{IPXE: KindIPXE, GRUB: KindGRUB, PXELINUX: KindPXELINUX}

var renderers = map[Dialect]func(base string, c Client, s Step) (string, error){
	IPXE:     renderIPXE,
	GRUB:     renderGRUB,
	PXELINUX: renderPXELINUX,
}

// Render says a step in a dialect. base is the broker's URL as the machine reaches it. A value that could add or end
// a command in the dialect is an error; nothing is stripped from kernel arguments or file names.
func Render(d Dialect, base string, c Client, s Step) (string, error) {
	r, ok := renderers[d]
	if !ok {
		return "", fmt.Errorf("dialect %q: want ipxe, grub or pxelinux", d)
	}
	switch s.Kind {
	case StepChain:
		if err := checkChain(s); err != nil {
			return "", err
		}
	case StepWinPE:
		if err := checkWinPE(s); err != nil {
			return "", err
		}
		if d != IPXE {
			return "", unsaid("Windows is started by iPXE and wimboot, not by " + string(d))
		}
	case StepMenu:
		if err := s.Menu.check(); err != nil {
			return "", err
		}
	case StepRamdisk, StepKernel:
		for _, name := range slices.Concat([]string{s.Kernel}, s.Initrds, s.Signatures) {
			if !safeName.MatchString(name) {
				return "", fmt.Errorf("file name %q: want letters, digits and ._/- only", name)
			}
		}
		if n := len(s.Signatures); n > 0 && n != 1+len(s.Initrds) {
			return "", fmt.Errorf("%d signatures for a kernel and %d initrds", n, len(s.Initrds))
		}
		if err := checkArgs(s.Args); err != nil {
			return "", err
		}
	}
	return r(base, c, s)
}

// checkLine refuses a command line that the kernel would cut, with the words that loaders add counted in.
func checkLine(line string) error {
	if len(line) > kargs.MaxLine {
		return fmt.Errorf("kernel command line has %d bytes with the boot loader's words; the kernel reads %d", len(line), kargs.MaxLine)
	}
	return nil
}

// checkArgs refuses the arguments that boot loaders write themselves: pxelinux and iPXE read initrd= back from the line
// and load what it names.
func checkArgs(args kargs.Line) error {
	for _, a := range args {
		switch strings.ToLower(a.Key) {
		case "initrd", "bootif", "boot_image":
			return fmt.Errorf("kernel argument %s: boot loaders write it themselves", a.Key)
		}
	}
	return nil
}

// safeName holds nothing that any dialect splits, expands or quotes.
var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// unsafeText is every byte that means something to a boot script, taken out of texts for the screen.
var unsafeText = regexp.MustCompile(`[^A-Za-z0-9 .,:/_()=+-]+`)

// screen makes free text safe to echo in every dialect: one line, at most 200 bytes, anything doubtful as "?".
func screen(text string) string {
	text = strings.Join(strings.Fields(unsafeText.ReplaceAllString(text, "?")), " ")
	if len(text) > 200 {
		text = text[:200]
	}
	if text == "" {
		return "muster"
	}
	return text
}
