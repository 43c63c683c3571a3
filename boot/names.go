package boot

import (
	"encoding/hex"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// A request is what a loader asks for by a name: a machine's script in a dialect, or, with no dialect, a file.
type request struct {
	name    string // clean: no leading slash, no "..", no double slashes
	dialect Dialect
	key     string // what the name tells of the machine, as it stands there; empty when it tells nothing
	arch    Arch   // that the name tells; ArchBIOS when it tells none
	stub    bool   // a name of GRUB's own, which does not tell the arch: it is led to ours, which does
	choice  string // entry of the machine's menu
	try     int    // how often the machine has waited
}

// scriptNames are the names that stand for scripts, in any directory: loaders put the one they were loaded from in
// front. KEY is a MAC, a UUID, an address in hexadecimal, or pxelinux's "default".
//
//   - pxelinux: pxelinux.cfg/KEY, in the order UUID, 01-MAC, C000025B to C, default (SYSLINUX doc/pxelinux.txt)
//   - Red Hat's GRUB, and images of grub-mknetdir: grub.cfg-UUID, grub.cfg-01-MAC, grub.cfg-C000025B to -C, grub.cfg
//     (grub-core/net/net.c, grub_net_search_config_file); Debian's signed GRUB asks for grub.cfg alone
//   - Cobbler's and others' GRUB trees: grub/system/MAC, grub.cfg-MAC
//   - ours, to which the stub, waits and menus lead: muster/grub/KEY/CPU-PLATFORM[/WORD].cfg, pxelinux.cfg/KEY/WORD
//   - iPXE for EFI since 2022: autoexec.ipxe
var scriptNames = []struct {
	dialect Dialect
	form    *regexp.Regexp
}{
	{PXELINUX, regexp.MustCompile(`^(?:.*/)?pxelinux\.cfg/(?P<key>[^/]+)(?:/(?P<word>[^/]+))?$`)},
	{GRUB, regexp.MustCompile(`^muster/grub/(?P<key>[^/]+)/(?P<platform>[a-z0-9_]+-[a-z]+|grub)(?:/(?P<word>[^/]+))?\.cfg$`)},
	{GRUB, regexp.MustCompile(`^(?:.*/)?grub/system/(?P<key>[^/]+)$`)},
	{GRUB, regexp.MustCompile(`^(?:.*/)?grub\.cfg(?:-(?P<key>[^/]+))?$`)},
	{IPXE, regexp.MustCompile(`^(?:.*/)?autoexec\.ipxe$`)},
}

// grubPlatforms are the values of GRUB's variables $grub_cpu-$grub_platform; "grub" is a name without them.
var grubPlatforms = map[string]Arch{
	"i386-pc": ArchBIOS, "i386-efi": ArchIA32, "x86_64-efi": ArchX64, "arm64-efi": ArchARM64, "grub": ArchX64, "": ArchX64,
}

// platform is the inverse of grubPlatforms.
func (c Client) platform() string {
	for _, p := range []string{"i386-pc", "i386-efi", "arm64-efi"} {
		if grubPlatforms[p] == c.Arch {
			return p
		}
	}
	return "x86_64-efi"
}

// parseName reads a name as loaders write them: with any number of slashes, and with those of the loader's own
// directory. It never fails; what is no script's name is a file's.
func parseName(name string) request {
	q := request{name: strings.TrimPrefix(path.Clean("/"+name), "/")}
	if strings.Contains(name, "..") {
		return q // no loader climbs
	}
	for _, n := range scriptNames {
		m := n.form.FindStringSubmatch(q.name)
		if m == nil {
			continue
		}
		part := func(group string) string {
			if i := n.form.SubexpIndex(group); i > 0 {
				return m[i]
			}
			return ""
		}
		q.dialect, q.key = n.dialect, part("key")
		q.readWord(part("word"))
		if n.dialect == PXELINUX {
			return q
		}
		arch, ok := grubPlatforms[part("platform")]
		if !ok {
			break
		}
		q.arch, q.stub = arch, n.dialect == GRUB && part("platform") == ""
		return q
	}
	return request{name: q.name}
}

// readWord reads the last part of our own names: wait.N after the Nth wait, else an entry of the menu.
func (q *request) readWord(word string) {
	n, isWait := strings.CutPrefix(word, "wait.")
	if !isWait {
		q.choice = word
		return
	}
	q.try, _ = strconv.Atoi(n)
	q.try = min(max(q.try, 0), maxTry)
}

// identity reads the key of a name. The UUID is as it stands there, in whatever order of bytes. ok is false for keys
// that tell no machine: pxelinux's and GRUB's shortened addresses, InfiniBand's 20-...
func (q request) identity() (mac MAC, uuid UUID, addr netip.Addr, ok bool) {
	if u, err := ParseUUID(q.key); err == nil && len(q.key) == 36 {
		return mac, u, addr, !u.IsZero()
	}
	if len(q.key) == 8 {
		b, err := hex.DecodeString(q.key)
		if err != nil {
			return mac, uuid, addr, false
		}
		return mac, uuid, netip.AddrFrom4([4]byte(b)), true
	}
	mac, err := ParseMAC(q.key)
	return mac, uuid, addr, err == nil && !mac.IsZero()
}

// candidates are the clients that may be asking, the likeliest first. c is what is known of the address asking.
//
// A UUID stands in the name in wire order, but some firmware has it the other way round (protocols 3.4). It is asked
// for alone: beside a MAC that only an address tells, a wrong order would make two machines' ids of one machine.
func (s *Server) candidates(q request, c Client) []Client {
	if q.key == "" || q.key == "default" {
		return known(c)
	}
	mac, uuid, addr, ok := q.identity()
	switch {
	case !ok:
		return nil
	case !mac.IsZero():
		return []Client{sameMachine(c, mac)}
	case addr.IsValid():
		return known(s.cfg.Client(addr))
	}
	return append([]Client{{UUID: uuid.Swapped(), Addr: c.Addr}, {UUID: uuid, Addr: c.Addr}}, known(c)...)
}

// known is the client, if its address tells one.
func known(c Client) []Client {
	if c.MAC.IsZero() {
		return nil
	}
	return []Client{c}
}

// nameKey is how scripts name their machine when they come back.
func (c Client) nameKey() string {
	if c.MAC.IsZero() {
		return c.UUID.Swapped().String()
	}
	return "01-" + c.MAC.Dashes()
}

// scriptName is the name under which a machine asks for a script again, with a word of readWord behind it.
func (c Client) scriptName(d Dialect, word string) string {
	name, ext := "pxelinux.cfg/"+c.nameKey(), ""
	if d == GRUB {
		name, ext = "muster/grub/"+c.nameKey()+"/"+c.platform(), ".cfg"
	}
	if word != "" {
		name += "/" + word
	}
	return name + ext
}
