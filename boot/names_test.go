package boot

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The client of protocols 3: what it is, and the two ways to write its UUID.
const (
	testWire    = "c9d8b4f7-e8cc-8c41-8b52-8a6f124e8655"
	testLogical = "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"
)

var testAddr = netip.MustParseAddr("192.0.2.91")

// racked knows one machine, by its MAC or its UUID.
type racked struct {
	step  Step
	asked []Client
}

func (r *racked) Next(_ context.Context, c Client) (Step, error) {
	r.asked = append(r.asked, c)
	if c.MAC == testMAC || c.MAC.IsZero() && c.UUID.String() == testLogical {
		return r.step, nil
	}
	return Step{}, ErrNotFound
}

// resolver is a server that knows one machine, and leased it an address when leased is set.
func resolver(t *testing.T, leased bool) (*Server, *racked) {
	t.Helper()
	source := &racked{step: discovery()}
	s, err := New(Config{BaseURL: testBase, Source: source, Client: func(a netip.Addr) Client {
		c := Client{Addr: a}
		if leased && a == testAddr {
			c.MAC = testMAC
		}
		return c
	}, Loaders: Loaders{Root: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	return s, source
}

// asks gives the text that a name leads to, and whether it leads anywhere.
func asks(t *testing.T, s *Server, name string) (string, bool) {
	t.Helper()
	f, err := s.Resolve(t.Context(), name, s.cfg.Client(testAddr))
	if errors.Is(err, ErrNotFound) {
		return "", false
	}
	text := content(t, f, err)
	if text == "" {
		t.Errorf("%s is a script of zero bytes: loaders take it for a miss (N8)", name)
	}
	return text, true
}

// TestN1N2TheWalkOfPXELINUX: a machine nobody knows misses all of them; for one that is known the first hits.
func TestN1N2TheWalkOfPXELINUX(t *testing.T) {
	walk := []string{testWire, "01-52-54-00-12-34-56", "C000025B", "C000025", "C00002", "C0000", "C000", "C00", "C0", "C", "default"}
	for _, tt := range []struct {
		name   string
		leased bool
		walk   []string
		hits   []string
	}{
		{"N1: known by UUID and MAC, no lease of ours", false, walk, walk[:2]},
		{"N1: known by its address too", true, walk, []string{walk[0], walk[1], "C000025B", "default"}},
		{"N2: nobody's", false, strings.Fields("01-00-21-9b-92-1d-33 0A0A0287 0A0A028 0A0A02 0A0A0 0A0A 0A0 0A 0 default"), nil},
		{"InfiniBand", false, []string{"20-00-00-00-00-12-34-56"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := resolver(t, tt.leased)
			var hits []string
			for _, key := range tt.walk {
				if text, ok := asks(t, s, "pxelinux.cfg/"+key); ok {
					hits = append(hits, key)
					if !strings.Contains(text, "LINUX ::boot/f/vmlinuz") {
						t.Errorf("%s:\n%s", key, text)
					}
				}
			}
			if diff := cmp.Diff(tt.hits, hits); diff != "" {
				t.Errorf("hits (-want +got):\n%s", diff)
			}
		})
	}
}

// TestN3UUIDInBothOrders: the name has wire order; firmware that has it the other way round is known as well (G3).
func TestN3UUIDInBothOrders(t *testing.T) {
	for _, tt := range []struct {
		name, uuid string
		asked      []string
	}{
		{"wire order", testWire, []string{testLogical}},
		{"upper case", strings.ToUpper(testWire), []string{testLogical}},
		{"logical order", testLogical, []string{testWire, testLogical}},
	} {
		for _, form := range []string{"pxelinux.cfg/", "grub/grub.cfg-", "muster/grub/"} { // the last is G3: net_efinet0_clientuuid
			s, source := resolver(t, false)
			name := form + tt.uuid
			if form == "muster/grub/" {
				name += "/x86_64-efi.cfg"
			}
			if _, ok := asks(t, s, name); !ok {
				t.Errorf("%s: %s is a miss", tt.name, name)
			}
			var asked []string
			for _, c := range source.asked {
				asked = append(asked, c.UUID.String())
				if !c.MAC.IsZero() {
					t.Errorf("%s: the Source was asked for %s beside a UUID", name, c.MAC)
				}
			}
			if diff := cmp.Diff(tt.asked, asked); diff != "" {
				t.Errorf("%s: the Source was asked for (-want +got):\n%s", name, diff)
			}
		}
	}
}

// TestN4NamesOfTheSameMachine: as GRUBs, Cobbler and people write them, in any directory, over TFTP and HTTP.
func TestN4NamesOfTheSameMachine(t *testing.T) {
	for _, name := range []string{
		"grub.cfg-01-52-54-00-12-34-56", "grub2/grub.cfg-52:54:00:12:34:56", "grub/system/52:54:00:12:34:56", "/grub//grub.cfg-01-52-54-00-12-34-56",
		"boot/grub.cfg-01-52-54-00-12-34-56", "EFI/redhat/grub.cfg-01-52-54-00-12-34-56", "muster/grub/52:54:00:12:34:56/grub.cfg",
		"muster/grub/52:54:00:12:34:56/i386-pc.cfg", "muster/grub/01-52-54-00-12-34-56/x86_64-efi.cfg", "pxelinux.cfg/01-52-54-00-12-34-56",
		"a/b/pxelinux.cfg/01-52-54-00-12-34-56", "pxelinux.cfg/01-52-54-00-12-34-56/wait.3", "debian-installer/amd64/grub/grub.cfg-C000025B",
	} {
		s, source := resolver(t, true)
		text, ok := asks(t, s, name)
		if !ok || len(source.asked) != 1 || source.asked[0].MAC != testMAC {
			t.Errorf("%s: %q, asked for %+v", name, text, source.asked)
		}
	}
}

// TestN4StubTellsThePlatform: a name of GRUB's own does not say what GRUB runs on, so it leads to one that does.
func TestN4StubTellsThePlatform(t *testing.T) {
	s, source := resolver(t, false)
	text, _ := asks(t, s, "grub/grub.cfg-01-52-54-00-12-34-56")
	if want := "configfile /muster/grub/01-52-54-00-12-34-56/${grub_cpu}-${grub_platform}.cfg\n"; !strings.Contains(text, want) {
		t.Fatalf("stub lacks %q:\n%s", want, text)
	}
	for platform, arch := range map[string]Arch{"i386-pc": ArchBIOS, "i386-efi": ArchIA32, "x86_64-efi": ArchX64, "arm64-efi": ArchARM64} {
		asks(t, s, "muster/grub/01-52-54-00-12-34-56/"+platform+".cfg")
		c := source.asked[len(source.asked)-1]
		if c.Arch != arch || c.Kind != KindGRUB {
			t.Errorf("%s asks as %s, %s", platform, c.Arch, c.Kind)
		}
		if name := c.scriptName(GRUB, ""); name != "muster/grub/01-52-54-00-12-34-56/"+platform+".cfg" {
			t.Errorf("%s comes back as %s", platform, name)
		}
	}
	if text, ok := asks(t, s, "muster/grub/01-52-54-00-12-34-56/riscv64-efi.cfg"); ok {
		t.Errorf("a platform that nobody serves is answered:\n%s", text)
	}
}

func TestN5OneStubForEverybody(t *testing.T) {
	s, source := resolver(t, true)
	for _, name := range []string{"/grub/grub.cfg", "grub2/grub.cfg", "boot/grub/grub.cfg", "grub.cfg", "debian-installer/amd64/grub/grub.cfg"} {
		if text, _ := asks(t, s, name); text != grubStub("${net_default_mac}") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if len(source.asked) != 0 {
		t.Errorf("the Source was asked for %+v", source.asked)
	}
}

func TestN6AutoexecByAddress(t *testing.T) {
	for _, name := range []string{"i13/autoexec.ipxe", "autoexec.ipxe"} {
		s, _ := resolver(t, true)
		text, _ := asks(t, s, name)
		if want := "#!ipxe\nisset ${netX/ip} || dhcp || reboot\n"; !strings.HasPrefix(text, want) || !strings.Contains(text, "kernel --name kernel") {
			t.Errorf("%s from a leased address:\n%s", name, text)
		}
		s, _ = resolver(t, false)
		text, _ = asks(t, s, name)
		if !strings.Contains(text, "chain --replace --autofree "+testBase+"/boot/ipxe?mac=${netX/mac}") {
			t.Errorf("%s from an unknown address:\n%s", name, text)
		}
	}
}

// TestN7DiscoveryAtItsOwnName: a stranger is told what to boot at the first name that tells its MAC.
func TestN7DiscoveryAtItsOwnName(t *testing.T) {
	r := newRig(t, nil)
	f, err := r.Resolve(t.Context(), "pxelinux.cfg/01-aa-bb-cc-dd-ee-ff", Client{})
	if text := content(t, f, err); !strings.Contains(text, "INITRD ::boot/f/ramdisk.cpio.gz") || r.source.last(t).Kind != KindPXELINUX {
		t.Errorf("a stranger gets, as %s:\n%s", r.source.last(t).Kind, text)
	}
}

// TestN9PrefixAndConfigFile: DHCP options 209 and 210 put text in front of a name; muster serves what is not a name of
// pxelinux's walk from the loaders' directory.
func TestN9PrefixAndConfigFile(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Loaders.Dir = t.TempDir(); write(t, c.Loaders.Dir+"/z_auto.cfg", "of the operator") })
	f, err := r.Resolve(t.Context(), "z_auto.cfg", Client{})
	if got := content(t, f, err); got != "of the operator" {
		t.Errorf("z_auto.cfg = %q", got)
	}
	f, err = r.Resolve(t.Context(), "pfx/pxelinux.cfg/01-52-54-00-12-34-56", Client{})
	if got := content(t, f, err); !strings.Contains(got, "LABEL muster") {
		t.Errorf("below a prefix: %q", got)
	}
}

// TestWaitsGrow: each script leads to the name of the next try, the times grow to a limit, and GRUB starts anew in the
// end, as it nests.
func TestWaitsGrow(t *testing.T) {
	s, source := resolver(t, false)
	source.step = Step{Kind: StepWait, After: 10e9, Text: "waiting"}
	name, last, text := "pxelinux.cfg/01-52-54-00-12-34-56", 0, ""
	for range 3 {
		text, _ = asks(t, s, name)
		commands := pxelinuxCommands(text)
		tenths := 0
		for _, c := range commands {
			switch c[0] {
			case "timeout":
				for _, digit := range c[1] {
					tenths = 10*tenths + int(digit-'0')
				}
			case "config":
				name = strings.TrimPrefix(c[1], "::")
			}
		}
		if tenths <= last || tenths > 10*2*120 {
			t.Errorf("after a wait of %d tenths one of %d:\n%s", last, tenths, text)
		}
		last = tenths
	}
	if name != "pxelinux.cfg/01-52-54-00-12-34-56/wait.3" {
		t.Errorf("the third wait leads to %s", name)
	}
	if text, _ = asks(t, s, "muster/grub/01-52-54-00-12-34-56/x86_64-efi/wait.29.cfg"); !strings.Contains(text, "configfile /muster/grub/01-52-54-00-12-34-56/x86_64-efi/wait.30.cfg") {
		t.Errorf("GRUB's 29th wait:\n%s", text)
	}
	if text, _ = asks(t, s, "muster/grub/01-52-54-00-12-34-56/x86_64-efi/wait.30.cfg"); !strings.HasSuffix(text, "\nreboot\n") {
		t.Errorf("GRUB's 30th wait:\n%s", text)
	}
	if got := waiting(Client{MAC: testMAC, Try: maxTry}, 10e9); got > maxWait*5/4 {
		t.Errorf("the longest wait is %s", got)
	}
}

// FuzzName is Z for the names of loaders: no name asks the Source for a machine that the name or the address does not
// tell, none is answered with nothing, and slashes change nothing.
func FuzzName(f *testing.F) {
	for _, n := range []string{"pxelinux.cfg/" + testWire, "pxelinux.cfg/C000025B", "pxelinux.cfg/01-52-54-00-12-34-56/wait.99999999999999999999", "grub/grub.cfg-52:54:00:12:34:56",
		"muster/grub/x/x86_64-efi.cfg", "muster/grub/01-52-54-00-12-34-56/x86_64-efi/a/b.cfg", "i13/autoexec.ipxe", "../pxelinux.cfg/default", "grub.cfg-\x00", "pxelinux.cfg/pxelinux.cfg/0A0A0287",
		"pxelinux.cfg/000000000000" /* was asked of the Source as nobody's UUID */} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		source := &racked{step: discovery()}
		s, err := New(Config{BaseURL: testBase, Source: source, Loaders: Loaders{Root: "/nowhere"}})
		if err != nil {
			t.Fatal(err)
		}
		first, err := s.Resolve(t.Context(), name, Client{Addr: testAddr})
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatalf("Resolve(%q): %v", name, err)
		}
		if err == nil && first.Size == 0 {
			t.Fatalf("Resolve(%q) is empty", name)
		}
		digits := strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.ToLower(name))
		for _, c := range source.asked {
			id := strings.ReplaceAll(c.MAC.String(), ":", "")
			if c.MAC.IsZero() {
				id = strings.ReplaceAll(c.UUID.String(), "-", "")
			}
			swapped := strings.ReplaceAll(c.UUID.Swapped().String(), "-", "")
			if !strings.Contains(digits, id) && (!c.MAC.IsZero() || !strings.Contains(digits, swapped)) {
				t.Fatalf("Resolve(%q) asks for %s %s", name, c.MAC, c.UUID)
			}
		}
		again, err2 := s.Resolve(t.Context(), "//"+strings.ReplaceAll(name, "/", "///"), Client{Addr: testAddr})
		if (err == nil) != (err2 == nil) || err == nil && !slices.Equal(bytesOf(t, first), bytesOf(t, again)) {
			t.Fatalf("Resolve(%q) is another file with more slashes: %v, %v", name, err, err2)
		}
	})
}

func bytesOf(t *testing.T, f File) []byte {
	t.Helper()
	defer f.Content.Close()
	b, err := io.ReadAll(f.Content)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
