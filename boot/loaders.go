package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Loaders are the programs that firmware loads first. They come from the distribution's packages; none is carried
// by muster, so that signed ones stay signed.
type Loaders struct {
	Dir  string // operator's directory, looked at first, by served name; may be empty
	Root string // where the packages put theirs; if empty, /usr/lib
	UEFI string // first loader for x64 UEFI: "snponly" (default), "ipxe", or "shim" (shim and GRUB, for Secure Boot)
}

// loaderFiles maps served names to files of Debian's packages below /usr/lib: ipxe, shim-signed,
// shim-helpers-amd64-signed, grub-efi-amd64-signed. Debian 13 names ipxe.efi ipxe-amd64.efi.
var loaderFiles = map[string][]string{
	"undionly.kpxe": {"ipxe/undionly.kpxe"},
	"ipxe.efi":      {"ipxe/ipxe.efi", "ipxe/ipxe-amd64.efi"},
	"snponly.efi":   {"ipxe/snponly.efi"},
	"shimx64.efi":   {"shim/shimx64.efi.signed"},
	"mmx64.efi":     {"shim/mmx64.efi.signed"},
	"fbx64.efi":     {"shim/fbx64.efi.signed"},
	"grubx64.efi":   {"grub/x86_64-efi-signed/grubnetx64.efi.signed"}, // what shim loads next
}

// uefiLoaders are the choices. snponly uses the firmware's own NIC driver; ipxe.efi of 2019 (Debian 12) brings its own
// and hangs in OVMF when it is left by exit 1 [seen].
var uefiLoaders = map[string]string{"": "snponly.efi", "ipxe": "ipxe.efi", "snponly": "snponly.efi", "shim": "shimx64.efi"}

// Check says whether the loaders that clients will be pointed to are there.
func (l Loaders) Check() error {
	uefi, ok := uefiLoaders[l.UEFI]
	if !ok {
		return fmt.Errorf("UEFI loader %q: want snponly, ipxe or shim", l.UEFI)
	}
	names := []string{"undionly.kpxe", uefi}
	if l.UEFI == "shim" {
		names = append(names, "grubx64.efi")
	}
	for _, name := range names {
		f, err := l.Open(name)
		if err != nil {
			return fmt.Errorf("loader %s is missing: install Debian's packages ipxe, shim-signed and grub-efi-amd64-signed, or put it into the loader directory", name)
		}
		f.Content.Close()
	}
	return nil
}

// Name picks the loader for a firmware client by its architecture; false when there is none for it.
func (l Loaders) Name(c Client) (string, bool) {
	switch c.Arch {
	case ArchBIOS:
		return "undionly.kpxe", true
	case ArchX64, ArchEBC, ArchX64HTTP:
		name, ok := uefiLoaders[l.UEFI]
		return name, ok
	}
	return "", false
}

// Open opens a loader by its served name: from the operator's directory, else from the distribution's packages.
func (l Loaders) Open(name string) (File, error) {
	if strings.ContainsAny(name, `/\`) || name == "" || name[0] == '.' {
		return File{}, ErrNotFound
	}
	candidates := []string{}
	if l.Dir != "" {
		candidates = append(candidates, filepath.Join(l.Dir, name))
	}
	root := l.Root
	if root == "" {
		root = "/usr/lib"
	}
	for _, p := range loaderFiles[name] {
		candidates = append(candidates, filepath.Join(root, p))
	}
	for _, p := range candidates {
		if f, err := openFile(os.Open(p)); err == nil {
			return f, nil
		}
	}
	return File{}, ErrNotFound
}
