package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"
)

// Real clients read a file. They are skipped where they are not installed.
func TestOtherClients(t *testing.T) {
	want := noise(200_000)
	for _, row := range []struct {
		name  string
		args  func(port, out string) []string
		agree string // options that the relay must see agreed; "": none. A timeout of ? is what the client asked for
	}{
		{"curl", func(port, out string) []string {
			return []string{"curl", "-s", "-o", out, "tftp://127.0.0.1:" + port + "//dir/x"}
		}, "tsize\x00200000\x00blksize\x00512\x00timeout\x00?\x00"},
		{"curl without options", func(port, out string) []string {
			return []string{"curl", "-s", "--tftp-no-options", "-o", out, "tftp://127.0.0.1:" + port + "/dir/x"}
		}, ""},
		{"curl with blocks", func(port, out string) []string {
			return []string{"curl", "-s", "--tftp-blksize", "1400", "-o", out, "tftp://127.0.0.1:" + port + "/dir/x"}
		}, "tsize\x00200000\x00blksize\x001400\x00timeout\x00?\x00"},
		{"tftp-hpa", func(port, out string) []string {
			return []string{"tftp", "-m", "binary", "127.0.0.1", port, "-c", "get", "/dir/x", out}
		}, ""},
		{"atftp", func(port, out string) []string {
			return []string{"atftp", "-g", "-r", "dir/x", "-l", out, "127.0.0.1", port}
		}, ""},
		{"atftp with options", func(port, out string) []string {
			return []string{"atftp", "--option", "windowsize 16", "--option", "blksize 1428", "--option", "tsize", "-g", "-r", "dir/x", "-l", out, "127.0.0.1", port}
		}, "tsize\x00200000\x00blksize\x001428\x00windowsize\x0016\x00"},
		{"busybox", func(port, out string) []string {
			return []string{"busybox", "tftp", "-g", "-b", "1432", "-l", out, "-r", "dir/x", "127.0.0.1", port}
		}, "blksize\x001432\x00tsize\x00200000\x00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, addr := start(t, map[string][]byte{"dir/x": want}, nil)
			r := through(t, addr, nil)
			out := filepath.Join(t.TempDir(), "x")
			args := row.args(strconv.Itoa(int(r.addr.Port())), out)
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip("not installed")
			}
			said, err := exec.Command(args[0], args[1:]...).CombinedOutput()
			if strings.Contains(string(said), "applet not found") || cannot(args[0], err) {
				t.Skipf("%s has no TFTP here", args[0])
			}
			if err != nil {
				t.Fatalf("%q: %v %s", args, err, said)
			}
			if got, _ := os.ReadFile(out); !bytes.Equal(got, want) {
				t.Errorf("%s read %d bytes; want %d equal ones", row.name, len(got), len(want))
			}
			// curl shares out what is left of its connect time, so that its timeout tells how busy the machine is.
			agreed, want := "", row.agree
			for _, p := range r.packets() {
				switch p.packet[1] {
				case opRead:
					_, asked, _ := bytes.Cut(p.packet, []byte("octet\x00"))
					want = strings.Replace(row.agree, "?", options(asked)["timeout"], 1)
				case opOACK:
					agreed = string(p.packet[2:])
				}
			}
			if agreed != want {
				t.Errorf("agreed on %q; want %q", agreed, want)
			}
		})
	}
}

// cannot says that curl was built without TFTP (CURLE_UNSUPPORTED_PROTOCOL).
func cannot(program string, err error) bool {
	var exit *exec.ExitError
	return program == "curl" && errors.As(err, &exit) && exit.ExitCode() == 1
}

// Wireshark's dissector reads what went over the wire and finds nothing malformed.
func TestPacketsAreWellFormed(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	tr, addr := start(t, map[string][]byte{"x": noise(20_000), "empty": nil}, nil)
	var transfers [][]relayed
	var want []string // what kind of packet each is, and whose
	for _, words := range [][]string{
		{"x", "octet", "tsize", "0", "blksize", "1468", "timeout", "3", "windowsize", "4"},
		{"empty", "octet", "tsize", "0"},
		{"x", "octet"},
		{"nowhere", "octet", "tsize", "0"},
		{"x", "mail"},
	} {
		r := through(t, addr, nil)
		connect(t, r.addr).read(words...)
		<-tr.seen
		transfers = append(transfers, r.packets())
		for _, p := range r.packets() {
			want = append(want, map[byte]string{opError: "5\tTFTP ERROR packet"}[p.packet[1]])
			if p.packet[1] != opError {
				want[len(want)-1] = strconv.Itoa(int(p.packet[1])) + "\t"
			}
		}
	}
	pcap := filepath.Join(t.TempDir(), "tftp.pcap")
	if err := os.WriteFile(pcap, capture(t, transfers), 0o644); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("tshark", "-r", pcap, "-d", "udp.port==6900,tftp", "-T", "fields", "-e", "tftp.opcode", "-e", "_ws.expert.message").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(said), "\n"), "\n")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("operations and complaints (-sent +tshark's):\n%s", d)
	}
}

// capture writes packets as a file of libpcap, each in IPv4 and UDP. The server has port 6900, each client one of its own.
func capture(t *testing.T, transfers [][]relayed) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint32(b, 2|4<<16) // version 2.4
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(b, 65535)
	b = le.AppendUint32(b, 228) // LINKTYPE_IPV4
	for i, packets := range transfers {
		for _, p := range packets {
			b = append(b, frame(t, p, uint16(2070+i))...)
		}
	}
	return b
}

func frame(t *testing.T, p relayed, client uint16) []byte {
	from, to, src, dst := client, uint16(6900), net.IPv4(192, 0, 2, 91), net.IPv4(192, 0, 2, 10)
	if p.fromServer {
		from, to, src, dst = to, from, dst, src
	}
	h := ipv4.Header{Version: 4, Len: 20, TotalLen: 28 + len(p.packet), TTL: 64, Protocol: 17, Src: src, Dst: dst}
	ip, err := h.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	be, le := binary.BigEndian, binary.LittleEndian
	b := make([]byte, 8) // all at once
	b = le.AppendUint32(le.AppendUint32(b, uint32(h.TotalLen)), uint32(h.TotalLen))
	b = append(b, ip...)
	b = be.AppendUint16(be.AppendUint16(b, from), to)
	b = be.AppendUint16(be.AppendUint16(b, uint16(8+len(p.packet))), 0)
	return append(b, p.packet...)
}
