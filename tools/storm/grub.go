package storm

import (
	"fmt"
	"strings"

	"muster/boot"
)

// grub is Debian's network image: it asks for its lists, which are seldom there, and for one configuration on the server
// it came from.
func (s *session) grub() ending {
	s.log.Loader = "grub"
	root := ""
	if isURL(s.dir) {
		scheme, rest, _ := strings.Cut(s.dir, "://")
		host, _, _ := strings.Cut(rest, "/")
		root = scheme + "://" + host
	}
	for _, name := range []string{"command.lst", "fs.lst", "crypto.lst", "terminal.lst"} {
		s.grubFile(root, "/grub/x86_64-efi/"+name) // a miss is right
	}
	return s.configuration(root, "/grub/grub.cfg")
}

func (s *session) grubFile(root, name string) ([]byte, error) {
	if root != "" {
		return s.http("GET", root+name)
	}
	return s.tftp(name, []string{"blksize", "1024", "tsize", "0"})
}

// configuration reads a file of commands and runs it. One that the machine has run already means that it waits.
func (s *session) configuration(root, name string) ending {
	if s.repeated(root + name) {
		return ending{EndAgain, "it reads " + name + " again"}
	}
	body, err := s.grubFile(root, name)
	if err != nil {
		return stuck("GRUB has no configuration (%s: %v) and shows its prompt", name, err)
	}
	r := &grubRun{session: s, root: root, vars: map[string]string{"net_default_mac": s.m.MAC.String(), "grub_cpu": "x86_64", "grub_platform": "efi"}}
	switch s.m.Profile.Arch {
	case boot.ArchBIOS:
		r.vars["grub_cpu"], r.vars["grub_platform"] = "i386", "pc"
	case boot.ArchARM64:
		r.vars["grub_cpu"] = "arm64"
	}
	if end := r.run(strings.Split(string(body), "\n")); end.kind != "" {
		return end
	}
	return r.menu()
}

// A grubRun is a configuration that runs: the commands that muster writes, and menus.
type grubRun struct {
	*session
	root    string
	vars    map[string]string
	kernel  string
	args    []string
	initrds []string
	local   bool // a loader of the disk is set
	slept   bool // it waits: the next configuration is to be asked for after that
	entries []grubEntry
	count   int
}

type grubEntry struct {
	id, title string
	body      []string
}

// run runs lines until one ends the boot. "if" holds a search, "menuentry" a body for later.
func (r *grubRun) run(lines []string) ending {
	for i := 0; i < len(lines); i++ {
		if r.count++; r.count > maxCommands {
			return stuck("the configuration runs for ever")
		}
		words, err := grubWords(lines[i], r.vars)
		if err != nil {
			return stuck("GRUB can not read %q: %v", lines[i], err)
		}
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "menuentry":
			end := closing(lines, i, "}")
			r.entries = append(r.entries, entryOf(words, lines[i+1:end]))
			i = end
		case "if":
			end := closing(lines, i, "fi")
			if r.holds(words[1:]) {
				if e := r.run(lines[i+1 : end]); e.kind != "" {
					return e
				}
			}
			i = end
		default:
			if e := r.command(words); e.kind != "" {
				return e
			}
		}
	}
	return ending{}
}

// closing is the line of the end word, or the end of the text.
func closing(lines []string, from int, word string) int {
	for i := from + 1; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) == word {
			return i
		}
	}
	return len(lines)
}

func entryOf(words []string, body []string) grubEntry {
	e := grubEntry{body: body}
	for i, w := range words {
		if i == 1 {
			e.title = w
		}
		if w == "--id" && i+1 < len(words) {
			e.id = words[i+1]
		}
	}
	return e
}

// holds is the one condition in use: does a file exist on the disks.
func (r *grubRun) holds(words []string) bool {
	return len(words) > 0 && words[0] == "search" && r.m.Disk
}

func (r *grubRun) command(words []string) ending {
	switch words[0] {
	case "echo":
		r.say(strings.Join(words[1:], " "))
	case "set":
		if name, value, ok := strings.Cut(strings.Join(words[1:], " "), "="); ok {
			r.vars[name] = value
		}
	case "linux":
		if len(words) < 2 {
			return stuck("GRUB: linux without a file")
		}
		if _, err := r.grubFile(r.root, words[1]); err == nil {
			r.kernel, r.args = words[1], words[2:]
		}
	case "initrd":
		for _, name := range words[1:] {
			if _, err := r.grubFile(r.root, name); err == nil {
				r.initrds = append(r.initrds, name)
			} else {
				r.kernel = "" // GRUB does not start it: boot says "you need to load the kernel first"
			}
		}
	case "chainloader":
		r.local = r.m.Disk
	case "boot":
		return r.boot()
	case "configfile":
		switch {
		case len(words) == 2 && r.slept:
			return ending{EndAgain, "it waits, and then reads " + words[1]}
		case len(words) == 2:
			return r.configuration(r.root, words[1])
		}
	case "reboot":
		return ending{EndRestart, "GRUB restarts the machine"}
	case "halt":
		return ending{EndOff, "GRUB switches the machine off"}
	case "exit":
		return ending{EndBack, "GRUB gives the machine back"}
	case "sleep":
		r.slept = true
	case "insmod", "terminal_output", "terminal_input", "search", "clear":
	default:
		r.say("grub: no command " + words[0])
	}
	return ending{}
}

func (r *grubRun) boot() ending {
	switch {
	case r.kernel != "":
		r.log.Kernel, r.log.Initrds, r.log.Args = r.kernel, r.initrds, strings.Join(r.args, " ")
		return ending{EndKernel, "kernel and ramdisk are loaded"}
	case r.local:
		return ending{EndLocal, "GRUB starts the disk's loader"}
	}
	return ending{}
}

// menu is what a machine that nobody touches does with its entries.
func (r *grubRun) menu() ending {
	if len(r.entries) == 0 {
		return stuck("GRUB's configuration ends and starts nothing")
	}
	if r.vars["timeout"] == "" || r.vars["timeout"] == "-1" {
		return stuck("a menu waits for a person")
	}
	e := r.entries[0]
	for i, x := range r.entries {
		if d := r.vars["default"]; d != "" && (d == x.id || d == x.title || d == fmt.Sprint(i)) {
			e = x
		}
	}
	if end := r.run(e.body); end.kind != "" {
		return end
	}
	if end := r.boot(); end.kind != "" { // an entry boots at its end by itself
		return end
	}
	return stuck("the menu's entry %q starts nothing", e.title)
}

// grubWords splits a line as GRUB's shell does: quotes, and ${name} outside single ones. A ; ends the command, as in
// "if search ...; then".
func grubWords(line string, vars map[string]string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, open, quote := false, false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, open = c, true
		case quote != '\'' && c == '$':
			name, n := variable(line[i:])
			word.WriteString(vars[name])
			i += n - 1
			in = true
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r' || c == ';' || c == '#' && !in && !open):
			if in || open {
				words = append(words, word.String())
			}
			word.Reset()
			in, open = false, false
			if c == ';' || c == '#' {
				return words, nil
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if in || open {
		words = append(words, word.String())
	}
	return words, nil
}

// variable reads $name or ${name} at the start of a text, and how long it is.
func variable(s string) (string, int) {
	if strings.HasPrefix(s, "${") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return s[2:end], end + 1
		}
	}
	n := 1
	for n < len(s) && (s[n] == '_' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return s[1:n], n
}
