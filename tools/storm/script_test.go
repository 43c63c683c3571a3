package storm

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
)

// desk is a machine whose files are these; the names it asked for are kept.
func desk(efi bool, files map[string]string) (*session, *[]string) {
	asked := &[]string{}
	p, _ := ProfileNamed("bios-ipxe")
	if efi {
		p, _ = ProfileNamed("uefi")
	}
	s := &session{ctx: context.Background(), seen: map[string]bool{}, m: Machine{MAC: mac, Profile: p, Disk: true},
		addr: netip.MustParseAddr("192.0.2.91"), files: func(name string) ([]byte, error) {
			*asked = append(*asked, name)
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("no such file")
		}}
	return s, asked
}

func TestIPXEScripts(t *testing.T) {
	files := map[string]string{"http://x/k": "kernel", "http://x/i": "initrd", "http://x/s": "#!ipxe\nexit", "http://x/self": "#!ipxe\nchain http://x/self",
		"http://x/wimboot": "a program"}
	for name, row := range map[string]struct {
		script string
		end    End
		why    string
	}{
		"a kernel and its ramdisk":                 {"kernel http://x/k a=b\ninitrd http://x/i\nboot", EndKernel, "loaded"},
		"boot without a kernel":                    {"boot || goto no\n:no\nreboot", EndRestart, ""},
		"a file that is not there":                 {"kernel http://x/none || goto no\nboot\n:no\necho gone\nexit 1", EndBack, "gone"},
		"a failure that nobody minds":              {"kernel http://x/none ||\npoweroff", EndOff, ""},
		"a failure that ends the script":           {"kernel http://x/none\npoweroff", EndBack, "failed at"},
		"five tries":                               {"set try:int32 0\n:start\ninc try\niseq ${try} 5 && goto fail ||\ngoto start\n:fail\nreboot", EndRestart, ""},
		"round for ever":                           {":a\ngoto a", EndStuck, "for ever"},
		"a chain to itself":                        {"chain http://x/self", EndAgain, ""},
		"a chain to a script that ends":            {"chain http://x/s", EndBack, ""},
		"a program nobody knows":                   {"chain http://x/wimboot", EndUnknown, "wimboot"},
		"a menu with a time limit":                 {"menu x\nitem a A\nitem b B\nchoose --timeout 5000 --default b sel\niseq ${sel} b && poweroff || reboot", EndOff, ""},
		"a menu without one":                       {"menu x\nitem a A\nchoose sel\nreboot", EndStuck, "a person"},
		"the disk":                                 {"sanboot --no-describe --drive 0x80 || exit 0", EndLocal, ""},
		"a command that iPXE of Debian 12 lacks":   {"params || reboot", EndRestart, ""},
		"a comment and a value that expands twice": {"# no command || reboot\nset z ${\nset y ${z}mac}\niseq ${y} 52:54:00:12:34:56 && poweroff || reboot", EndOff, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := desk(false, files)
			if got := s.script("#!ipxe\n" + row.script); got.kind != row.end || !strings.Contains(got.why, row.why) {
				t.Errorf("ends %+v; want %s and %q in it", got, row.end, row.why)
			}
		})
	}
}

func TestGRUBConfigurations(t *testing.T) {
	for name, row := range map[string]struct {
		config string
		end    End
		args   string
	}{
		"a kernel with quoted words":   {"linux /k 'a=b c' d\ninitrd /i\nboot", EndKernel, "a=b c d"},
		"a ramdisk that is not there":  {"linux /k\ninitrd /none\nboot\nreboot", EndRestart, ""},
		"the disk's loader":            {"if search --no-floppy --file --set=root /EFI/x.efi; then\n  chainloader /EFI/x.efi\n  boot\nfi\nexit", EndLocal, ""},
		"one that sends to itself":     {"echo 'waiting'\nsleep 10\nconfigfile /grub/grub.cfg", EndAgain, ""},
		"an empty one":                 {"", EndStuck, ""},
		"a menu with a default":        {"set timeout=5\nset default=b\nmenuentry 'A' --id a {\nreboot\n}\nmenuentry 'B' --id b {\nlinux /k x\n}", EndKernel, "x"},
		"a menu that waits":            {"menuentry 'A' --id a {\nreboot\n}", EndStuck, ""},
		"a quote that is not closed":   {"echo 'x\nreboot", EndStuck, ""},
		"a variable in the name":       {"configfile /muster/${net_default_mac}", EndRestart, ""},
		"a variable in single quotes":  {"linux /k '${net_default_mac}'\nboot", EndKernel, "${net_default_mac}"},
		"two configurations in a ring": {"configfile /ring", EndAgain, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := desk(true, map[string]string{"/grub/grub.cfg": row.config, "/k": "kernel", "/i": "initrd", "/ring": "configfile /grub/grub.cfg",
				"/muster/52:54:00:12:34:56": "reboot"})
			if got := s.grub(); got.kind != row.end || s.log.Args != row.args {
				t.Errorf("ends %+v with %q; want %s with %q", got, s.log.Args, row.end, row.args)
			}
		})
	}
}

func TestPXELinux(t *testing.T) {
	const name = "pxelinux.cfg/01-52-54-00-12-34-56"
	for what, row := range map[string]struct {
		config string
		end    End
		args   string
	}{
		"a kernel":                  {"DEFAULT m\nPROMPT 0\nLABEL m\nKERNEL ::k\nINITRD ::i,::i\nAPPEND a=b\nIPAPPEND 2\n", EndKernel, "a=b BOOTIF=01-52-54-00-12-34-56"},
		"lower case":                {"default m\nlabel m\nkernel ::k\nappend x", EndKernel, "x"},
		"the disk":                  {"DEFAULT m\nLABEL m\nLOCALBOOT 0", EndLocal, ""},
		"another program":           {"DEFAULT m\nLABEL m\nKERNEL ::undionly.kpxe", EndStuck, ""}, // iPXE asks DHCP, and there is none
		"a wait":                    {"SAY waiting\nPROMPT 1\nTIMEOUT 100\nDEFAULT again\nLABEL again\nCONFIG ::" + name, EndAgain, ""},
		"a prompt without a limit":  {"PROMPT 1\nDEFAULT m\nLABEL m\nKERNEL ::k", EndStuck, ""},
		"a label that is not there": {"DEFAULT x\nLABEL m\nKERNEL ::k", EndStuck, ""},
		"a menu":                    {"UI menu.c32\nTIMEOUT 50\nLABEL a\nLOCALBOOT 0\nLABEL b\nMENU DEFAULT\nKERNEL ::k\nAPPEND y", EndKernel, "y"},
	} {
		t.Run(what, func(t *testing.T) {
			s, _ := desk(false, map[string]string{"ldlinux.c32": "x", name: row.config, "k": "kernel", "i": "initrd"})
			var got ending
			if what == "another program" {
				s.chains = maxChains // DHCP is not asked in this test
				got = s.load("undionly.kpxe")
			} else {
				got = s.pxelinux()
			}
			if got.kind != row.end || s.log.Args != row.args {
				t.Errorf("ends %+v with %q; want %s with %q", got, s.log.Args, row.end, row.args)
			}
		})
	}
}

// The names of golden case N1, in order.
func TestPXELinuxWalk(t *testing.T) {
	s, asked := desk(false, map[string]string{"ldlinux.c32": "x"})
	s.m.UUID, _ = boot.ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	if got := s.pxelinux(); got.kind != EndStuck {
		t.Errorf("ends %+v", got)
	}
	want := []string{"ldlinux.c32", "pxelinux.cfg/c9d8b4f7-e8cc-8c41-8b52-8a6f124e8655", "pxelinux.cfg/01-52-54-00-12-34-56"}
	for _, a := range []string{"C000025B", "C000025", "C00002", "C0000", "C000", "C00", "C0", "C", "default"} {
		want = append(want, "pxelinux.cfg/"+a)
	}
	if diff := cmp.Diff(want, *asked); diff != "" {
		t.Error(diff)
	}
}

func TestShimAsksBesideItself(t *testing.T) {
	s, asked := desk(true, map[string]string{"http://x/d//grubx64.efi": "grub", "http://x/grub/grub.cfg": "reboot"})
	if got := s.start("http://x/d/shimx64.efi", nil); got.kind != EndRestart || !slices.Contains(*asked, "http://x/d//revocations_sku.efi") {
		t.Errorf("ends %+v after %q", got, *asked)
	}
}

// FuzzScripts gives hostile text to the three languages: the machine comes to an end in each.
func FuzzScripts(f *testing.F) {
	for _, seed := range []string{"chain self", "configfile self", "DEFAULT m\nLABEL m\nCONFIG ::self", ":a\ngoto a", "${${${", "'", "menuentry {", "if\nfi", "set default", "INITRD"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, run := range []func(*session) ending{
			func(s *session) ending { return s.script("#!ipxe\n" + text) },
			func(s *session) ending { return s.configuration("", "self") },
			func(s *session) ending { return s.syslinux("self", text) },
		} {
			s, _ := desk(false, nil)
			s.files = func(string) ([]byte, error) { return []byte(text), nil }
			s.chains = maxChains - 3 // a program would ask DHCP, and there is no wire here
			if got := run(s); got.kind == "" {
				t.Errorf("%q comes to no end", text)
			}
		}
	})
}
