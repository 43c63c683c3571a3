package boot

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// safeURL holds nothing that a dialect splits, expands or quotes.
var safeURL = regexp.MustCompile(`^(https?|tftp)://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~/%+,=@&?-]*$`)

// checkChain takes the served name of a loader or a URL.
func checkChain(chain string) error {
	if !safeName.MatchString(chain) && !safeURL.MatchString(chain) {
		return fmt.Errorf("chain to %q: want a loader's name, or an http, https or tftp URL of letters, digits and ._~/%%+,=@&?-", chain)
	}
	return nil
}

// isURL is asked of what checkChain has taken.
func isURL(chain string) bool { return strings.Contains(chain, "://") }

// ipxeChain starts a script or a loader. A PXE program (.0) looks for its own files where DHCP said that it came from,
// which iPXE did not load it from: option 210 says so.
func ipxeChain(b *strings.Builder, base string, c Client, chain string) {
	u := chain
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
	fmt.Fprintf(b, "chain --autofree %s && goto left ||\necho muster: %s could not be started\nsleep 30\n:left\n%s\n", u, screen(chain), ipxeExit(c))
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// grubChain starts an EFI program. GRUB on BIOS knows no way to start a program of the network's.
func grubChain(b *strings.Builder, c Client, chain string) error {
	if !c.Arch.EFI() {
		return fmt.Errorf("chain to %s: GRUB on BIOS starts no program from the network", chain)
	}
	file := "/boot/" + chain
	if isURL(chain) {
		u, err := url.Parse(chain)
		if err != nil || u.Scheme == "https" {
			return fmt.Errorf("chain to %s: GRUB loads from http and tftp", chain)
		}
		file = "(" + u.Scheme + "," + u.Host + ")" + strings.TrimPrefix(chain, u.Scheme+"://"+u.Host)
	}
	fmt.Fprintf(b, "chainloader '%s'\nboot\necho 'muster: %s could not be started'\nsleep 30\nreboot\n", file, screen(chain))
	return nil
}

// pxelinuxChain says PXE, so that the file's name does not tell what it is; a Linux-like image (ipxe.lkrn) is none.
func pxelinuxChain(b *strings.Builder, base string, c Client, chain string) error {
	word, file := "PXE", "::"+chain
	if c.HTTP {
		file = base + "/boot/" + chain
	}
	switch ext := path.Ext(chain); {
	case ext == ".efi":
		return fmt.Errorf("chain to %s: pxelinux runs on BIOS", chain)
	case ext == ".lkrn":
		word = "LINUX"
	}
	if isURL(chain) {
		rest, ok := strings.CutPrefix(chain, "tftp://")
		if !ok {
			return errors.New("chain to " + chain + ": pxelinux.0 loads from tftp")
		}
		host, name, _ := strings.Cut(rest, "/")
		file = host + "::" + name
	}
	pxelinuxLabel(b, word+" "+file)
	return nil
}
