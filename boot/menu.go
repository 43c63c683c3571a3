package boot

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// A Menu lets the person at the machine choose. It is the same for every loader; each entry has a name of its own, so
// that the timeline shows what was chosen and the choice changes nothing but this boot.
type Menu struct {
	Title   string
	Hidden  bool          // shown only to who presses a key within Timeout
	Timeout time.Duration // after which the first entry is taken; 0: never
	Entries []Entry       // the first is the default
}

// An Entry is a line of a menu.
type Entry struct {
	Label string // names it in file names: a-z, 0-9, dash and underscore
	Key   string // that takes it at once: one of a-z and 0-9, or none
	Text  string
	Step  Step // ramdisk, kernel, chain, local
}

const maxEntries = 20

var (
	entryLabel = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)
	entryKey   = regexp.MustCompile(`^[a-z0-9]?$`)
	entrySteps = map[StepKind]bool{StepRamdisk: true, StepKernel: true, StepChain: true, StepLocal: true}
)

// check refuses a menu that a dialect could read as something else. Unlike texts that only stand on the screen, what a
// person chooses by is never changed.
func (m *Menu) check() error {
	if m == nil || len(m.Entries) == 0 || len(m.Entries) > maxEntries {
		return fmt.Errorf("a menu has 1 to %d entries", maxEntries)
	}
	if m.Hidden && m.Timeout <= 0 {
		return fmt.Errorf("a hidden menu needs a time-out")
	}
	seen := map[string]bool{}
	for _, e := range m.Entries {
		switch {
		case !entryLabel.MatchString(e.Label) || seen[e.Label]:
			return fmt.Errorf("menu entry %q: want a name of its own of a-z, 0-9, dash and underscore", e.Label)
		case !entryKey.MatchString(e.Key) || e.Key != "" && seen["key "+e.Key]:
			return fmt.Errorf("menu entry %s: key %q: want one of a-z and 0-9 that no other has", e.Label, e.Key)
		case len(e.Text) > 70 || screen(e.Text) != e.Text:
			return fmt.Errorf("menu entry %s: text %q: want at most 70 letters, digits, single blanks and .,:/_()=+-", e.Label, e.Text)
		case !entrySteps[e.Step.Kind]:
			return fmt.Errorf("menu entry %s: a menu can not lead to step %q", e.Label, e.Step.Kind)
		}
		seen[e.Label], seen["key "+e.Key] = true, true
	}
	return nil
}

// choose gives the step of an entry. A machine whose step is no menu any more, or lacks that entry, is told what there is.
func (s Step) choose(label string) Step {
	if s.Kind != StepMenu || s.Menu == nil {
		return s
	}
	for _, e := range s.Menu.Entries {
		if e.Label == label {
			e.Step.Because = "chosen at the machine: " + e.Text + "; " + s.Because
			return e.Step
		}
	}
	return s
}

func ipxeMenu(b *strings.Builder, base string, c Client, m *Menu) {
	first := m.Entries[0].Label
	if m.Hidden {
		fmt.Fprintf(b, "set sel %s\nprompt --key m --timeout %d muster: press m for the menu && goto menu ||\ngoto chosen\n:menu\n", first, m.Timeout.Milliseconds())
	}
	fmt.Fprintf(b, "menu muster: %s\n", screen(m.Title)) // a word in front, as a title might be an option
	for _, e := range m.Entries {
		fmt.Fprintf(b, "item%s %s %s\n", ifSet(" --key ", e.Key), e.Label, e.Text)
	}
	limit := ""
	if m.Timeout > 0 && !m.Hidden {
		limit = fmt.Sprintf(" --timeout %d", m.Timeout.Milliseconds())
	}
	fmt.Fprintf(b, "choose%s --default %s sel || set sel %s\n:chosen\n", limit, first, first)
	fmt.Fprintf(b, "chain --replace --autofree %s || reboot\n", ipxeAgain(base, c, "&choice=${sel}"))
}

func grubMenu(b *strings.Builder, c Client, m *Menu) {
	style := "menu"
	if m.Hidden {
		style = "countdown" // any key opens it
	}
	limit := -1
	if m.Timeout > 0 {
		limit = seconds(m.Timeout)
	}
	fmt.Fprintf(b, "set timeout_style=%s\nset timeout=%d\nset default='%s'\n", style, limit, m.Entries[0].Label)
	for _, e := range m.Entries {
		fmt.Fprintf(b, "menuentry '%s' --id '%s'%s {\n  configfile /%s\n}\n", e.Text, e.Label, ifSet(" --hotkey=", e.Key), c.scriptName(GRUB, e.Label))
	}
}

func pxelinuxMenu(b *strings.Builder, base string, c Client, m *Menu) {
	fmt.Fprintf(b, "UI menu.c32\nPROMPT 0\nMENU IMMEDIATE\nONTIMEOUT %s\nMENU TITLE muster: %s\n", m.Entries[0].Label, screen(m.Title))
	if m.Hidden {
		fmt.Fprint(b, "MENU HIDDEN\nMENU AUTOBOOT muster: press a key for the menu, # s\n")
	}
	if m.Timeout > 0 {
		fmt.Fprintf(b, "TIMEOUT %d\n", 10*seconds(m.Timeout))
	}
	for i, e := range m.Entries {
		key, standard := "", ""
		if e.Key != "" {
			key = "(^" + e.Key + ") "
		}
		if i == 0 {
			standard = "  MENU DEFAULT\n"
		}
		fmt.Fprintf(b, "LABEL %s\n  MENU LABEL %s%s\n%s  CONFIG %s\n", e.Label, key, e.Text, standard, pxelinuxFile(base, c, c.scriptName(PXELINUX, e.Label)))
	}
}

// ifSet is the value with words in front, or nothing.
func ifSet(words, value string) string {
	if value == "" {
		return ""
	}
	return words + value
}
