package boot

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// safeURL holds nothing that a dialect splits, expands or quotes.
var safeURL = regexp.MustCompile(`^(https?|tftp)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/[A-Za-z0-9._~/%+,=@&?-]*$`)

// safeWord is a word for a program that is started: an option, a path or a URL.
var safeWord = regexp.MustCompile(`^[A-Za-z0-9/-][A-Za-z0-9._~/%+,=@&?:\[\]-]*$`)

// checkChain takes the served name of a loader or a URL, and plain words for what is started.
func checkChain(s Step) error {
	if !safeName.MatchString(s.Chain) && !safeURL.MatchString(s.Chain) {
		return fmt.Errorf("chain to %q: want a loader's name, or an http, https or tftp URL of letters, digits and ._~/%%+,=@&?-", s.Chain)
	}
	for i, w := range s.Words {
		if !safeWord.MatchString(w) {
			return fmt.Errorf("chain to %s: word %d: want letters, digits and ._~/%%+,=@&?:- only", s.Chain, i+1)
		}
	}
	return checkLine(withWords(s.Chain, s.Words))
}

// withWords are words of a line, the first with the others behind it.
func withWords(first string, words []string) string {
	return strings.Join(append([]string{first}, words...), " ")
}

// isURL is asked of what checkChain has taken.
func isURL(chain string) bool { return strings.Contains(chain, "://") }

// ipxeChain starts a script or a loader. A PXE program (.0) looks for its own files where DHCP said that it came from,
// which iPXE did not load it from: option 210 says so.
func ipxeChain(b *strings.Builder, base string, c Client, s Step) {
	chain, u := s.Chain, s.Chain
	if !isURL(chain) {
		u = base + "/boot/" + chain
		if host := hostOf(base); path.Ext(chain) == ".0" {
			u = "tftp://" + host + "/" + chain
			prefix := "tftp://" + host + "/"
			if chain == lpxelinux {
				prefix = base + "/boot/"
			}
			fmt.Fprintf(b, "set 210:string %s\n", prefix)
		}
	}
	fmt.Fprintf(b, "chain --autofree %s && goto left ||\necho muster: %s could not be started\nsleep 30\n:left\n%s\n", withWords(u, s.Words), screen(chain), ipxeExit(c))
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// grubChain starts an EFI program. GRUB on BIOS knows no way to start a program of the network's. One that has words is
// refused: what they name it could not load, for GRUB has the network card to itself.
func grubChain(b *strings.Builder, c Client, s Step) error {
	chain := s.Chain
	switch {
	case !c.Arch.EFI():
		return unsaid("chain to " + chain + ": GRUB on BIOS starts no program from the network")
	case len(s.Words) > 0:
		return unsaid("chain to " + chain + ": a program that loads more is started by iPXE, not by GRUB")
	}
	file := "/boot/" + chain
	if isURL(chain) {
		u, err := url.Parse(chain)
		if err != nil || u.Scheme == "https" {
			return unsaid("chain to " + chain + ": GRUB loads from http and tftp")
		}
		file = "(" + u.Scheme + "," + u.Host + ")" + strings.TrimPrefix(chain, u.Scheme+"://"+u.Host)
	}
	fmt.Fprintf(b, "chainloader '%s'\nboot\necho 'muster: %s could not be started'\nsleep 30\nreboot\n", file, screen(chain))
	return nil
}

// pxelinuxWords are the keywords for a program, by its file's extension: a name alone does not tell pxelinux what it is.
var pxelinuxWords = map[string]string{".lkrn": "LINUX", ".c32": "COM32"}

// pxelinuxChain says PXE of all that has no other keyword.
func pxelinuxChain(b *strings.Builder, base string, c Client, s Step) error {
	if path.Ext(s.Chain) == ".efi" {
		return unsaid("chain to " + s.Chain + ": pxelinux runs on BIOS")
	}
	file := pxelinuxFile(base, c, s.Chain)
	switch rest, byTFTP := strings.CutPrefix(s.Chain, "tftp://"); {
	case byTFTP:
		host, name, _ := strings.Cut(rest, "/")
		file = host + "::" + name
	case strings.HasPrefix(s.Chain, "http://") && c.HTTP:
		file = s.Chain
	case isURL(s.Chain):
		return unsaid("chain to " + s.Chain + ": pxelinux.0 loads from tftp, lpxelinux.0 from http, too")
	case c.HTTP:
		file = base + "/boot/" + s.Chain
	}
	word, ok := pxelinuxWords[path.Ext(s.Chain)]
	if !ok {
		word = "PXE"
	}
	lines := []string{word + " " + file}
	if len(s.Words) > 0 {
		lines = append(lines, withWords("APPEND", s.Words))
	}
	pxelinuxLabel(b, lines...)
	return nil
}
