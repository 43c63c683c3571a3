package storm

import (
	"bytes"
	"path"
	"strings"
)

// A program is what a loaded file is, told by its name: the machine has no processor to run it.
type program struct {
	pattern string
	run     func(*session) ending
}

func programs() []program {
	return []program{
		{"undionly*", (*session).ipxe}, {"ipxe*", (*session).ipxe}, {"snponly*", (*session).ipxe},
		{"shim*.efi", (*session).shim},
		{"grub*.efi", (*session).grub}, {"core.0", (*session).grub},
		{"pxelinux.0", (*session).pxelinux}, {"lpxelinux.0", (*session).pxelinux},
	}
}

// start runs what was loaded: a script of iPXE by its first line, a program by its name.
func (s *session) start(name string, body []byte) ending {
	s.dir = dirOf(name)
	if bytes.HasPrefix(body, []byte("#!ipxe")) {
		return s.script(string(body))
	}
	base := path.Base(strings.SplitN(name, "?", 2)[0])
	for _, p := range programs() {
		if ok, _ := path.Match(p.pattern, base); ok { // the patterns are constants
			return p.run(s)
		}
	}
	return ending{EndUnknown, "it runs " + base}
}

// dirOf is where a program came from, with its last slash.
func dirOf(name string) string {
	name, _, _ = strings.Cut(name, "?")
	return name[:strings.LastIndex(name, "/")+1]
}

// shim asks for its revocations, which are seldom there, and for the second stage beside itself; over HTTP with two
// slashes, as its built-in name begins with one (rhboot/shim).
func (s *session) shim() ending {
	s.log.Loader = "shim"
	for _, name := range []string{"revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"} {
		s.second(name) // a miss is right
	}
	if _, err := s.second("grubx64.efi"); err != nil {
		return ending{EndBack, "shim's second stage did not come: " + err.Error()}
	}
	return s.grub()
}

func (s *session) second(name string) ([]byte, error) {
	if isURL(s.dir) {
		return s.http("GET", s.dir+"/"+name)
	}
	return s.tftp(s.dir+name, []string{"blksize", "512", "windowsize", "4"})
}

// efi says whether the machine's firmware is UEFI.
func (s *session) efi() bool { return s.m.Profile.Arch.EFI() }

// repeated says that the machine was sent to where it has been: it waits there and asks again.
func (s *session) repeated(name string) bool {
	if s.seen[name] {
		return true
	}
	s.seen[name] = true
	return false
}
