package storm

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// pxelinuxOptions are those of its reads.
var pxelinuxOptions = []string{"tsize", "0", "blksize", "1408"}

// pxelinux loads its library and walks the names of its configuration: UUID, MAC, address by shrinking hexadecimal,
// default (syslinux doc/pxelinux.txt). A file of no bytes counts as none.
func (s *session) pxelinux() ending {
	s.log.Loader = "pxelinux"
	if _, err := s.tftp(s.dir+"ldlinux.c32", pxelinuxOptions); err != nil {
		return ending{EndBack, "pxelinux fails to load ldlinux.c32: " + err.Error()}
	}
	for _, name := range s.pxelinuxNames() {
		if body, err := s.tftp(s.dir+name, pxelinuxOptions); err == nil && len(body) > 0 {
			return s.syslinux(s.dir+name, string(body))
		}
	}
	return stuck("pxelinux finds no configuration file")
}

func (s *session) pxelinuxNames() []string {
	const dir = "pxelinux.cfg/"
	var names []string
	if !s.m.UUID.IsZero() && !s.m.Profile.NoUUID {
		names = append(names, dir+s.m.UUID.Swapped().String())
	}
	names = append(names, dir+"01-"+s.m.MAC.Dashes())
	if s.addr.IsValid() {
		a := strings.ToUpper(hex.EncodeToString(s.addr.AsSlice()))
		for n := len(a); n > 0; n-- {
			names = append(names, dir+a[:n])
		}
	}
	return append(names, dir+"default")
}

// A syslinuxLabel is an entry of a configuration.
type syslinuxLabel struct {
	kernel, append, config string
	initrds                []string
	local, back, bootif    bool
}

// syslinux reads a configuration and starts its default entry: nobody is at the keyboard.
func (s *session) syslinux(name, text string) ending {
	if s.repeated(name) {
		return ending{EndAgain, "it reads " + name + " again"}
	}
	labels, def, prompt, limit := s.syslinuxRead(text)
	if prompt && !limit {
		return stuck("pxelinux waits at its prompt")
	}
	l := labels[def]
	if l == nil {
		return stuck("the configuration %s has no entry %q to start", name, def)
	}
	switch {
	case l.local && s.m.Disk && !l.back:
		return ending{EndLocal, "pxelinux starts the disk"}
	case l.local:
		return ending{EndBack, "pxelinux gives the machine back"}
	case l.config != "" && prompt:
		return ending{EndAgain, "it waits, and then reads " + l.config}
	case l.config != "":
		return s.syslinuxConfig(s.syslinuxName(l.config))
	case l.kernel == "":
		return stuck("the entry %q starts nothing", def)
	}
	return s.syslinuxKernel(l)
}

func (s *session) syslinuxConfig(name string) ending {
	if s.seen[name] {
		return ending{EndAgain, "it reads " + name + " again"}
	}
	body, err := s.tftp(name, pxelinuxOptions)
	if err != nil {
		return stuck("the next configuration %s did not come: %v", name, err)
	}
	return s.syslinux(name, string(body))
}

// syslinuxName is a file's name on the server: "::name" from its root, any other beside the program.
func (s *session) syslinuxName(name string) string {
	if rest, ok := strings.CutPrefix(name, "::"); ok {
		return rest
	}
	return s.dir + name
}

func (s *session) syslinuxKernel(l *syslinuxLabel) ending {
	kernel := s.syslinuxName(l.kernel)
	body, err := s.tftp(kernel, pxelinuxOptions)
	if err != nil {
		return stuck("the kernel %s did not come: %v", kernel, err)
	}
	if strings.HasSuffix(kernel, ".0") || strings.HasSuffix(kernel, ".kpxe") || strings.HasSuffix(kernel, ".pxe") {
		return s.start(kernel, body)
	}
	s.log.Kernel, s.log.Args = kernel, l.append
	for _, name := range l.initrds {
		name = s.syslinuxName(name)
		if _, err := s.tftp(name, pxelinuxOptions); err != nil {
			return stuck("the ramdisk %s did not come: %v", name, err)
		}
		s.log.Initrds = append(s.log.Initrds, name)
	}
	if l.bootif {
		s.log.Args += " BOOTIF=01-" + s.m.MAC.Dashes()
	}
	return ending{EndKernel, "kernel and ramdisk are loaded"}
}

// syslinuxRead reads the directives that muster and its forerunners write; a keyword has no case. A prompt without a time
// limit waits for a person, one with it just waits.
func (s *session) syslinuxRead(text string) (labels map[string]*syslinuxLabel, def string, prompt, limit bool) {
	labels = map[string]*syslinuxLabel{}
	var at *syslinuxLabel
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		switch word = strings.ToUpper(word); {
		case word == "DEFAULT" || word == "ONTIMEOUT":
			def = strings.Fields(rest + " ?")[0]
		case word == "PROMPT":
			prompt = rest != "0"
		case word == "TIMEOUT":
			limit = rest != "0"
		case word == "SAY":
			s.say(rest)
		case word == "LABEL":
			at = &syslinuxLabel{}
			labels[rest] = at
			if def == "" {
				def = rest
			}
		case at == nil:
		case word == "MENU" && strings.EqualFold(rest, "DEFAULT"):
			for name, l := range labels {
				if l == at {
					def = name
				}
			}
		case word == "KERNEL" || word == "LINUX" || word == "PXE" || word == "BOOT":
			at.kernel = rest
		case word == "INITRD":
			at.initrds = strings.Split(rest, ",")
		case word == "APPEND":
			at.append = rest
		case word == "CONFIG":
			at.config = strings.Fields(rest + " ?")[0]
		case word == "LOCALBOOT":
			at.local, at.back = true, rest == "-1" // -1 gives the machine back to the BIOS
		case word == "IPAPPEND" || word == "SYSAPPEND":
			at.bootif = rest != "" && rest != "0" && fmt.Sprint(rest) != "1"
		}
	}
	return labels, def, prompt, limit
}
