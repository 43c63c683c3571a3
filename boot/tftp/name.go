package tftp

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest name served, in bytes.
const maxName = 255

// Name gives the canonical form of a file name as a client wrote it: no leading slash, single slashes, no "." and
// never a "..". Windows loaders write backslashes, old ROMs leave 0xff behind the name, some clients add ";mode=octet".
// An error means that the name leads nowhere, whatever files there are.
func Name(raw string) (string, error) {
	if len(raw) > maxName {
		return "", fmt.Errorf("read name of %d bytes: want at most %d", len(raw), maxName)
	}
	s, _, _ := strings.Cut(raw, "\x00")
	s = strings.TrimSuffix(s, "\xff")
	s, _, _ = strings.Cut(s, ";mode=")
	s = strings.ReplaceAll(s, `\`, "/")
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fmt.Errorf("read name %q: control characters", s)
	}
	var kept []string
	for part := range strings.SplitSeq(s, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", fmt.Errorf("read name %q: leads out of the root", s)
		default:
			kept = append(kept, part)
		}
	}
	if len(kept) == 0 {
		return "", errors.New("read name: empty")
	}
	return strings.Join(kept, "/"), nil
}

// rootAliases are the places where other servers keep their tree; clients were configured with them.
var rootAliases = []string{"var/lib/tftpboot/", "var/tftpboot/", "srv/tftp/", "tftpboot/"}

// candidates gives the names to try, in order: as asked, without a root alias, in lower case (Boot\BCD).
func candidates(name string) []string {
	list := []string{name}
	for _, a := range rootAliases {
		if rest, ok := strings.CutPrefix(name, a); ok && rest != "" {
			list = append(list, rest)
			break
		}
	}
	for _, n := range list {
		if low := strings.ToLower(n); low != n {
			list = append(list, low)
		}
	}
	return list
}

// byDesign are the names that loaders ask for and rarely find (shim, GRUB, Windows boot manager, ESXi).
var byDesign = []string{
	"revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_[0-9].efi",
	"command.lst", "fs.lst", "crypto.lst", "terminal.lst", "bootsig.bin", "updatedrivers.tgz", "*.ttf", "boot.stl",
}

// missedByDesign says that a miss is nothing to look at.
func missedByDesign(name string) bool {
	base := strings.ToLower(path.Base(name))
	for _, p := range byDesign {
		if ok, _ := path.Match(p, base); ok {
			return true
		}
	}
	return strings.HasPrefix(name, "pxelinux.cfg/") && base != "default"
}
