package tftp

import (
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

func TestName(t *testing.T) {
	for _, row := range []struct{ name, raw, want string }{
		{"a plain name stays", "pxelinux.cfg/01-52-54-00-12-34-56", "pxelinux.cfg/01-52-54-00-12-34-56"},
		{"leading and double slashes go", "//grub///grub.cfg", "grub/grub.cfg"},
		{"dots alone go", "./a/./b", "a/b"},
		{"two dots inside a name are a name", "a..b/..c", "a..b/..c"},
		{"backslashes are slashes", `\Boot\Fonts\x.ttf`, "Boot/Fonts/x.ttf"},
		{"what follows a zero is not the name", "a\x00../b", "a"},
		{"a mode behind the name goes", "a;mode=octet", "a"},
		{"percent signs are no escape", "%2e%2e/x", "%2e%2e/x"},
		{"a name may hold spaces", "a b", "a b"},
		{"up is refused", "../a", ""},
		{"up inside is refused", "a/../b", ""},
		{"up in Windows' way is refused", `a\..\b`, ""},
		{"an empty name is refused", "", ""},
		{"a root is no name", "///", ""},
		{"a line end is refused", "a\nb", ""},
		{"an escape sequence is refused", "a\x1b[2J", ""},
		{"a reversed reading order is refused", "a\u202eb", ""},
		{"255 bytes pass", strings.Repeat("n", 255), strings.Repeat("n", 255)},
		{"256 bytes do not", strings.Repeat("n", 256), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := Name(row.raw)
			if got != row.want || (err == nil) != (row.want != "") {
				t.Errorf("Name(%q) = %q, %v; want %q", row.raw, got, err, row.want)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	got := candidates("srv/tftp/Boot/BCD")
	want := []string{"srv/tftp/Boot/BCD", "Boot/BCD", "srv/tftp/boot/bcd", "boot/bcd"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("candidates (-want +got):\n%s", d)
	}
}

// FuzzName is Z4: a name never leads out, and is canonical.
func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "../../etc/passwd", `..\x`, "//a//b", "a\x00b", "\xff", "a;mode=octet", "var/tftpboot/../x", "a/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, err := Name(raw)
		if err != nil {
			return
		}
		if name == "" || len(name) > maxName || name != strings.TrimPrefix(path.Clean("/"+name), "/") {
			t.Errorf("Name(%q) = %q: not canonical", raw, name)
		}
		if strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, `\`) {
			t.Errorf("Name(%q) = %q: hostile bytes", raw, name)
		}
		for _, c := range candidates(name) {
			if again, err := Name(c); err != nil || again != c {
				t.Errorf("candidate %q of %q reads back as %q, %v", c, raw, again, err)
			}
		}
	})
}

// FuzzRequest is the packet half of Z3: what is agreed was asked, in that order, within bounds, and in no more bytes.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"\x00\x01x\x00octet\x00tsize\x000\x00blksize\x001432\x00", "\x00\x01x\x00mail\x00", "\x00\x02x\x00octet\x00",
		"\x00\x01x\x00octet\x00blksize\x00", "\x00\x01\x00\x00", "\x00\x01x\x00octet\x00blksize\x0099999999999999999999\x00",
		"\x00\x01x\x00octet\x00tsize\x000\x00tsize\x001\x00TIMEOUT\x003\x00windowsize\x0065536\x00",
		"\x00\x01x\x00NETASCII\x00tsize\x000\x00blksize\x00+8\x00windowsize\x0065535\x00timeout\x000\x00",
	} {
		f.Add([]byte(s), int64(1)<<62)
	}
	f.Fuzz(func(t *testing.T, packet []byte, size int64) {
		q, refused := parseRequest(packet)
		if refused != nil {
			return
		}
		terms := q.agree(max(size, 0), 1468, 64)
		if terms.block < 8 || terms.block > 1468 || terms.window < 1 || terms.window > 64 || terms.wait < 0 || terms.wait > maxWait {
			t.Errorf("%q: agreed on %+v", packet, terms)
		}
		if terms.oack == nil {
			return
		}
		if len(terms.oack) > len(packet) || terms.oack[len(terms.oack)-1] != 0 {
			t.Errorf("%q: answered by %q", packet, terms.oack)
		}
		asked := strings.Split(strings.ToLower(string(packet[2:])), "\x00")
		answer := strings.Split(string(terms.oack[2:len(terms.oack)-1]), "\x00")
		for i := 0; i < len(answer); i += 2 {
			at := slices.Index(asked, answer[i])
			if at < 0 {
				t.Fatalf("%q: answered by %q: %s was not asked, or not in this place", packet, terms.oack, answer[i])
			}
			asked = asked[at+1:]
		}
	})
}
