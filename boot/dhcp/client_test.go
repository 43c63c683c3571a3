package dhcp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/boot"
)

// Options as captured.
const (
	optionsD1 = "63825363350101390205c05d0200005e030102013c20505845436c69656e743a417263683a30303030303a554e44493a3030323030314d04695058453716010306070c0f112b3c4243778081828384858687afcbaf2db105011af41000eb030100001701012201011301011101012701011901011001022101011501011801011201013d0701fa165eec78e6611100c9d8b4f7e8cc8c418b528a6f124e8655ff"
	optionsD2 = "63825363350101390205c037230102030405060c0d0f111216171c28292a2b3233363a3b3c4243618081828384858687611100c9d8b4f7e8cc8c418b528a6f124e86555e030103005d0200073c20505845436c69656e743a417263683a30303030373a554e44493a303033303030ff"
	optionsD3 = "63825363350101390205c0371b0102030405060c0d0f111216171c28292a2b3233363a3b3ceb4361611100c9d8b4f7e8cc8c418b528a6f124e86555e030103005d0200103c2148545450436c69656e743a417263683a30303031363a554e44493a303033303030ff"
	optionsD4 = "6382536335010337230102030405060c0d0f111216171c28292a2b3233363a3b3c4243618081828384858687390205c03c20505845436c69656e743a417263683a30303030373a554e44493a3030333030305d0200075e03010300611100c9d8b4f7e8cc8c418b528a6f124e8655ff"
)

// packetD1 is a DISCOVER of an iPXE ROM as captured and published.
func packetD1(t *testing.T) []byte {
	b := make([]byte, 236)
	copy(b, []byte{1, 1, 6, 0, 0x96, 0xcf, 0x68, 0x56, 0, 4})
	copy(b[28:], unhex("fa165eec78e6"))
	b = append(b, unhex(optionsD1)...)
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != "5ab27b5098592ce587a0e8c5e3ef71502b4f646fdaba17cdfc2804bcdb7d60ca" {
		t.Fatalf("the golden packet was damaged: %d bytes, %x", len(b), sum)
	}
	return b
}

func TestClientsAsCaptured(t *testing.T) {
	uuid, err := boot.ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		in    []byte
		want  boot.Client
		notes string
	}{
		{"D1: an iPXE ROM on BIOS", packetD1(t), boot.Client{MAC: boot.MAC(unhex("fa165eec78e6")), UUID: uuid, Kind: boot.KindIPXE,
			Features: []string{"aoe", "bzimage", "dns", "elf", "http", "iscsi", "menu", "multiboot", "pxe", "pxe_ext", "tftp"}},
			"x86 BIOS; undi 2.1; nic 1af4:1000; version 1.0.0; try 1"},
		{"D2: UEFI firmware by PXE", raw(optionsD2), boot.Client{MAC: mac, UUID: uuid, Kind: boot.KindUEFI, Arch: boot.ArchX64}, "x64 UEFI; undi 3.0"},
		{"D3: UEFI firmware by HTTP", raw(optionsD3), boot.Client{MAC: mac, UUID: uuid, Kind: boot.KindUEFIHTTP, Arch: boot.ArchX64HTTP}, "x64 UEFI HTTP; undi 3.0"},
		{"D4: UEFI firmware asks its boot server", raw(optionsD4), boot.Client{MAC: mac, UUID: uuid, Kind: boot.KindUEFI, Arch: boot.ArchX64}, "x64 UEFI; undi 3.0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			q, err := parseRequest(on67(row.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(row.want, q.client, cmp.Comparer(func(a, b boot.Client) bool {
				return a.MAC == b.MAC && a.UUID == b.UUID && a.Kind == b.Kind && a.Arch == b.Arch && a.Addr == b.Addr && cmp.Equal(a.Features, b.Features)
			})); d != "" {
				t.Errorf("client (-want +got):\n%s", d)
			}
			if got := strings.Join(q.notes, "; "); got != row.notes {
				t.Errorf("notes %q; want %q", got, row.notes)
			}
			if !q.boots {
				t.Error("not a boot client")
			}
		})
	}
	if q, _ := parseRequest(on67(packetD1(t))); len(q.option(55)) != 22 {
		t.Errorf("D1 asks for %d options; want 22", len(q.option(55)))
	}
}

func TestKinds(t *testing.T) {
	pxeWith := func(arch string, more ...option) []option {
		return with([]option{opt(60, "PXEClient"), optHex(93, arch)}, more...)
	}
	pi := boot.MAC{0xdc, 0xa6, 0x32, 1, 2, 3}
	for _, row := range []struct {
		name    string
		mac     boot.MAC
		options []option
		want    boot.Kind
		arch    boot.Arch
		boots   bool
	}{
		{"D9: iPXE repeats our bare vendor class", mac, pxeWith("0000", opt(77, "iPXE")), boot.KindIPXE, 0, true},
		{"D10: iPXE in the form of RFC 3004", mac, pxeWith("0000", optHex(77, "0469505845")), boot.KindIPXE, 0, true},
		{"D10: iPXE without option 175", mac, pxeWith("0007", opt(77, "iPXE")), boot.KindIPXE, 7, true},
		{"D10: iPXE by its features alone", mac, pxeWith("0007", optHex(175, "130101240101")), boot.KindIPXE, 7, true},
		{"features without HTTP are not enough", mac, pxeWith("0000", optHex(175, "180101")), boot.KindBIOS, 0, true},
		{"a feature of value 0 is not there", mac, pxeWith("0000", optHex(175, "130100180101")), boot.KindBIOS, 0, true},
		{"D11: EBC is what many x64 machines say", mac, pxeWith("0009"), boot.KindUEFI, boot.ArchEBC, true},
		{"D11: the first known architecture counts", mac, pxeWith("00ff0007"), boot.KindUEFI, boot.ArchX64, true},
		{"D11: an odd option 93 is no boot client", mac, pxeWith("07"), "", 0, false},
		{"D11: LoongArch", mac, pxeWith("0025"), boot.KindUEFI, 0x25, true},
		{"only unknown architectures", mac, pxeWith("00ff"), boot.KindOther, 0xff, false},
		{"unknown architecture, though it says iPXE", mac, pxeWith("00ff", opt(77, "iPXE")), boot.KindOther, 0xff, false},
		{"Itanium has no loader", mac, pxeWith("0002"), boot.KindOther, 2, false},
		{"D16: a Raspberry Pi says it is a PC", pi, pxeWith("0000"), boot.KindRPi, 0, true},
		{"a Raspberry Pi with UEFI is a UEFI machine", pi, pxeWith("000b"), boot.KindUEFI, boot.ArchARM64, true},
		{"U-Boot", mac, pxeWith("0016"), boot.KindUBoot, 0x16, true},
		{"an HTTP client of a PXE architecture is neither", mac, []option{opt(60, "HTTPClient"), optHex(93, "0007")}, boot.KindOther, 7, false},
		{"no option 93 is no boot client", mac, []option{opt(60, "PXEClient")}, "", 0, false},
		{"an operating system", mac, []option{opt(60, "MSFT 5.0"), optHex(93, "0007")}, "", 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := message(1, row.options...)
			p.mac = row.mac
			q, err := parseRequest(on67(p.bytes()))
			if err != nil {
				t.Fatal(err)
			}
			if q.client.Kind != row.want || q.client.Arch != row.arch || q.boots != row.boots {
				t.Errorf("kind %q, arch %#x, boots %v; want %q, %#x, %v", q.client.Kind, q.client.Arch, q.boots, row.want, row.arch, row.boots)
			}
		})
	}
}

// TestArchTable is every row of the IANA table: which PXE or HTTP client of it is answered.
func TestArchTable(t *testing.T) {
	answered := map[boot.Arch]boot.Kind{
		0: boot.KindBIOS, 6: boot.KindUEFI, 7: boot.KindUEFI, 9: boot.KindUEFI, 0x0a: boot.KindUEFI, 0x0b: boot.KindUEFI,
		0x15: boot.KindUBoot, 0x16: boot.KindUBoot, 0x19: boot.KindUEFI, 0x1b: boot.KindUEFI, 0x1d: boot.KindUEFI,
		0x25: boot.KindUEFI, 0x27: boot.KindUEFI, 0x29: boot.KindRPi,
	}
	byHTTP := map[boot.Arch]bool{0x0f: true, 0x10: true, 0x11: true, 0x12: true, 0x13: true, 0x14: true, 0x17: true, 0x18: true,
		0x1a: true, 0x1c: true, 0x1e: true, 0x26: true, 0x28: true}
	for a := boot.Arch(0); a < 0x40; a++ {
		want := boot.KindOther
		if k, ok := answered[a]; ok {
			want = k
		}
		if got := kindOf(pxe, mac, a, nil, etherboot{}); got != want {
			t.Errorf("PXE client of arch %#x is %q; want %q", a, got, want)
		}
		want = boot.KindOther
		if byHTTP[a] {
			want = boot.KindUEFIHTTP
		}
		if got := kindOf(http, mac, a, nil, etherboot{}); got != want {
			t.Errorf("HTTP client of arch %#x is %q; want %q", a, got, want)
		}
	}
}

func TestEtherboot(t *testing.T) {
	for _, row := range []struct {
		name, in string
		want     etherboot
	}{
		{"D5: a ROM with NFS", "b105018086100eeb03010000170101220101130101110101270101190101290101100102210101150101180101120101",
			etherboot{nic: "8086:100e", version: "1.0.0", features: []string{
				"aoe", "bzimage", "dns", "elf", "http", "iscsi", "menu", "multiboot", "nfs", "pxe", "pxe_ext", "tftp"}}},
		{"D6: a UEFI build with HTTPS", "b105011af41000eb03010000260101170101270101240101130101140101110101290101150101120101",
			etherboot{nic: "1af4:1000", version: "1.0.0", features: []string{
				"aoe", "dns", "efi", "http", "https", "iscsi", "menu", "nfs", "tftp", "vlan"}}},
		{"D7: cut off", "130101b105011a", etherboot{features: []string{"http"}, malformed: true}},
		{"D7: as dnsmasq writes it", "b00101ff", etherboot{noProxy: true}},
		{"zeros between entries", "0013010100", etherboot{features: []string{"http"}}},
		{"a feature twice", "130101130101", etherboot{features: []string{"http"}}},
		{"nothing", "", etherboot{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if d := cmp.Diff(row.want, parseEtherboot(unhex(row.in)), cmp.AllowUnexported(etherboot{})); d != "" {
				t.Errorf("parseEtherboot(%s) (-want +got):\n%s", row.in, d)
			}
		})
	}
}

func TestUUIDs(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"wire order becomes logical order", hex.EncodeToString(wire97), "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"},
		{"D27: another type byte is no UUID", "01c9d8b4f7e8cc8c418b528a6f124e8655", ""},
		{"16 bytes are no UUID", "c9d8b4f7e8cc8c418b528a6f124e8655", ""},
		{"K6: a Raspberry Pi writes something else", "0052506934000102030405060708090a0b", ""},
		{"nothing", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := uuidOf(unhex(row.in))
			if row.want == "" != got.IsZero() || !got.IsZero() && got.String() != row.want {
				t.Errorf("uuidOf(%s) = %v; want %q", row.in, got, row.want)
			}
		})
	}
}

func TestPacketsOfNobody(t *testing.T) {
	good := message(1, bios()...).bytes()
	edit := func(f func(b []byte)) []byte {
		b := append([]byte(nil), good...)
		f(b)
		return b
	}
	for _, row := range []struct {
		name string
		in   []byte
	}{
		{"nothing", nil},
		{"a header without options", good[:240]},
		{"a reply", edit(func(b []byte) { b[0] = 2 })},
		{"InfiniBand", edit(func(b []byte) { b[1] = 32 })},
		{"a long hardware address", edit(func(b []byte) { b[2] = 16 })},
		{"no magic cookie", edit(func(b []byte) { b[236] = 0 })},
		{"no machine's address", edit(func(b []byte) { clear(b[28:34]) })},
		{"a multicast address", edit(func(b []byte) { b[28] = 1 })},
		{"BOOTP", (&asking{mac: mac, options: dhcpv4Options(bios())}).bytes()},
		{"more than a frame", append(good, make([]byte, maxPacket)...)},
	} {
		t.Run(row.name, func(t *testing.T) {
			if q, err := parseRequest(on67(row.in)); err == nil {
				t.Errorf("read as %v of %v", q.kind, q.client.MAC)
			}
		})
	}
}
