package boot

import (
	"bytes"
	"debug/pe"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// knownSBAT are the generations below which shims that are up to date refuse a component (rhboot/shim SbatLevel_Variable,
// level 2025051000).
var knownSBAT = map[string]int{"shim": 4, "grub": 5, "grub.proxmox": 2}

// maxLoader bounds what is read of a loader: the largest are a few MiB, a UKI some tens.
const maxLoader = 256 << 20

// Warnings says what of the signed chain will not work: components that machines refuse as too old, and a GRUB that
// cannot be used this way. proxy says that another server gives the addresses.
func (l Loaders) Warnings(proxy bool) []string {
	var list []string
	for _, r := range firstLoaders {
		if r.choice != "shim" || !l.has(r.file, r.needs...) {
			continue
		}
		for _, name := range append([]string{r.file}, r.needs...) {
			b, err := readLoader(l.path(name))
			if err != nil {
				list = append(list, fmt.Sprintf("loader %s: %v", name, err))
				continue
			}
			list = append(list, oldComponents(name, b)...)
			if name != r.file && proxy && !bytes.Contains(b, grubHTTP) {
				list = append(list, fmt.Sprintf("loader %s takes its server from the DHCP server's next-server alone: set that to this host's address in the site's DHCP server, or use iPXE", name))
			}
		}
	}
	return list
}

// grubHTTP is in a GRUB with an http module. Debian 12's has none, and none of what made later ones look at proxyDHCP
// and HTTP boot either.
var grubHTTP = []byte("HTTP/1.1")

func readLoader(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLoader+1))
	if err == nil && len(b) > maxLoader {
		err = fmt.Errorf("%s has more than %d bytes", path, maxLoader)
	}
	return b, err
}

// oldComponents reads the section .sbat of an EFI program: lines NAME,GENERATION,... (rhboot/shim SBAT.md).
func oldComponents(name string, program []byte) []string {
	f, err := pe.NewFile(bytes.NewReader(program))
	if err != nil {
		return []string{fmt.Sprintf("loader %s is no EFI program: %v", name, err)}
	}
	section := f.Section(".sbat")
	if section == nil {
		return []string{fmt.Sprintf("loader %s has no .sbat: machines with Secure Boot refuse it", name)}
	}
	text, err := section.Data()
	if err != nil {
		return []string{fmt.Sprintf("loader %s: read .sbat: %v", name, err)}
	}
	text, _, _ = bytes.Cut(text, []byte{0})
	var list []string
	for line := range strings.SplitSeq(string(text), "\n") {
		component, rest, _ := strings.Cut(line, ",")
		generation, _, _ := strings.Cut(rest, ",")
		n, err := strconv.Atoi(generation)
		if least, known := knownSBAT[component]; known && (err != nil || n < least) {
			list = append(list, fmt.Sprintf("loader %s: %s has SBAT generation %s; machines that are up to date want %d: update its package", name, component, Printable(generation), least))
		}
	}
	return list
}
