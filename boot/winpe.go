package boot

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// wimbootArgs are all that wimboot 2.9 reads (src/cmdline.c); at any other it stops the machine.
var wimbootArgs = regexp.MustCompile(`^(rawbcd|rawwim|gui|linear|quiet|pause|pause=quiet|index=[0-9]{1,3})$`)

// virtualName is a file as wimboot shows it to Windows: of longer names it keeps 31 characters (src/vdisk.h).
var virtualName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$`)

// loadersOwn are the names that wimboot gives to Windows' loader; every other file appears in \Windows\System32 of the
// booted system (src/wimpatch.c).
var loadersOwn = regexp.MustCompile(`(?i)^(bootmgr.*|bcd|boot\.stl|.*\.(wim|sdi|efi|ttf))$`)

// checkWinPE takes a step that wimboot can start: it is served as a loader, finds one WIM, and knows all its arguments.
func checkWinPE(s Step) error {
	if !safeName.MatchString(s.Kernel) {
		return fmt.Errorf("wimboot's name %q: want the served name of a loader", s.Kernel)
	}
	words, err := s.Args.Words()
	if err != nil {
		return err
	}
	for _, w := range words {
		if !wimbootArgs.MatchString(w) {
			return fmt.Errorf("argument %s: wimboot knows rawbcd, rawwim, gui, linear, quiet, pause, pause=quiet and index=N, and stops at any other", w)
		}
	}
	seen := map[string]bool{}
	for _, i := range s.Inject {
		switch {
		case loadersOwn.MatchString(i.Name):
			return fmt.Errorf("file %q would not appear in the booted system: wimboot keeps that name for the loader", i.Name)
		case !safeURL.MatchString(i.URL):
			return fmt.Errorf("file %s: want an http or https URL of letters, digits and ._~/%%+,=@&?-", i.Name)
		}
		if err := checkVirtual(i.Name, seen); err != nil {
			return err
		}
	}
	wims := 0
	for _, name := range s.Initrds {
		if !safeName.MatchString(name) {
			return fmt.Errorf("file name %q: want letters, digits and ._/- only", name)
		}
		if err := checkVirtual(path.Base(name), seen); err != nil {
			return err
		}
		if strings.EqualFold(path.Ext(name), ".wim") {
			wims++
		}
	}
	if wims != 1 {
		return fmt.Errorf("wimboot boots one WIM; here are %d", wims)
	}
	return nil
}

// checkVirtual refuses a name that wimboot cuts, and one that is there twice: Windows' file names have no case.
func checkVirtual(name string, seen map[string]bool) error {
	if !virtualName.MatchString(name) {
		return fmt.Errorf("file %q: wimboot takes names of at most 31 letters, digits and ._-", name)
	}
	if key := strings.ToLower(name); seen[key] {
		return fmt.Errorf("file %s is there twice", name)
	}
	seen[strings.ToLower(name)] = true
	return nil
}

// ipxeWinPE loads wimboot and its files, the large WIM last. A file's name stands in two places: EFI builds give
// wimboot the image's name, BIOS builds the words behind its URL.
func ipxeWinPE(b *strings.Builder, base string, c Client, s Step) error {
	if p := c.Arch.program(); p != ArchBIOS && p != ArchX64 {
		return unsaid("wimboot starts x64 machines, not " + c.Arch.String())
	}
	words, err := s.Args.Words()
	if err != nil {
		return err
	}
	load := []string{strings.TrimRight("kernel --name wimboot "+base+"/boot/"+s.Kernel+" "+strings.Join(words, " "), " ")}
	file := func(name, url string) { load = append(load, "initrd --name "+name+" "+url+" "+name) }
	for _, i := range s.Inject {
		file(i.Name, i.URL)
	}
	for _, last := range []bool{false, true} {
		for _, name := range s.Initrds {
			if strings.EqualFold(path.Ext(name), ".wim") == last {
				file(path.Base(name), base+"/boot/f/"+name)
			}
		}
	}
	ipxeStart(b, load, "Windows PE")
	return nil
}

// unsaid is why a dialect has no words for a step, or a machine not what they need. It holds no secret: the machine's
// screen shows it.
type unsaid string

func (u unsaid) Error() string { return string(u) }

// reason is what the screen of a machine shows of an error: those of values would show the values.
func reason(err error) string {
	var u unsaid
	if errors.As(err, &u) {
		return string(u)
	}
	return "this step can not be rendered, see the server log"
}

// missing is the loader of its own that a step needs and the operator has not put there, or "".
func (l Loaders) missing(s Step) string {
	name := ""
	switch {
	case s.Kind == StepWinPE:
		name = s.Kernel
	case s.Kind == StepChain && !isURL(s.Chain):
		name = s.Chain
	}
	if name == "" || l.has(name) {
		return ""
	}
	return name
}
