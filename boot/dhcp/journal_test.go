package dhcp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reopen reads a lease file as the next start does.
func reopen(t *testing.T, file string) *leases {
	t.Helper()
	l, err := openLeases([]*pool{testPool(20)}, nil, file, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	return l
}

func TestLeasesSurviveAKill(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	l := reopen(t, file)
	for i := range 3 {
		if err := l.take(macOf(i), l.mustOffer(t, macOf(i), today), today, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	bad := l.mustOffer(t, macOf(9), today)
	if err := l.decline(macOf(9), bad, today); err != nil {
		t.Fatal(err)
	}
	l.mustOffer(t, macOf(8), today) // an offer is no lease
	if err := l.release(macOf(2), l.mustOffer(t, macOf(2), today), today); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0) // the line that the power cut
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("02:00:00:00:00:01 192.0.2.99 17672")
	f.Close()
	again := reopen(t, file) // l is not closed: it was killed
	sortedLeases := func(l *leases) map[string]string {
		m := map[string]string{}
		for _, b := range l.snapshot() {
			m[toAddr(b.addr).String()] = fmt.Sprint(b.mac, b.until.Unix(), b.leased)
		}
		return m
	}
	want := sortedLeases(l)
	if d := cmp.Diff(want, sortedLeases(again)); d != "" || len(want) != 4 {
		t.Errorf("leases before and after (-want +got):\n%s", d)
	}
	if err := again.take(macOf(1), bad, today, time.Hour); !isRefused(err) {
		t.Errorf("a quarantined address was leased after a restart: %v", err)
	}
}

func TestDamagedLeaseFile(t *testing.T) {
	good := func(n int) string {
		return lineOf(binding{mac: macOf(n), addr: testPool(20).spans[0].first + uint32(n), until: today})
	}
	for _, row := range []struct {
		name string
		text string
		kept int
		lost int
	}{
		{"whole lines", good(1) + good(2), 2, 0},
		{"a torn last line", good(1) + good(2)[:20], 1, 1},
		{"a last line without its end", good(1) + strings.TrimSuffix(good(2), "\n"), 2, 0},
		{"a changed byte", good(1) + strings.Replace(good(2), "192.0.2.82", "192.0.2.83", 1) + good(3), 2, 1},
		{"a long line", good(1) + strings.Repeat("x", 10000) + "\n" + good(2), 2, 1},
		{"zeros, as a file system leaves them", good(1) + strings.Repeat("\x00", 5000), 1, 1},
		{"nothing", "", 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			kept := 0
			lost, err := readLines(strings.NewReader(row.text), func(binding) { kept++ })
			if err != nil || kept != row.kept || lost != row.lost {
				t.Errorf("kept %d, lost %d, %v; want %d, %d", kept, lost, err, row.kept, row.lost)
			}
		})
	}
}

func TestLeaseFileIsRewrittenInTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	l := reopen(t, file)
	l.journal.begun = -rewriteAt + 10
	for range 50 {
		if err := l.take(macOf(1), them, today, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil || bytes.Count(b, []byte("\n")) > 45 || !bytes.HasSuffix(b, []byte(lineOf(*l.byMAC[macOf(1)]))) {
		t.Errorf("after 50 renewals the file has %d lines, %v", bytes.Count(b, []byte("\n")), err)
	}
}

func TestDiskThatFailsIsNotAcknowledged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "leases")
	d := newDesk(t, ModeServer, func(c *Config) { c.LeaseFile = file })
	take := on67(message(3, optHex(50, "c000025b")).bytes())
	d.leases.journal.file.Close() // every write fails now
	if _, _, ok := d.said(t, take); ok {
		t.Error("a lease that is not on disk was acknowledged")
	}
	d.must(t, take) // a new file is begun
	if m, ok := reopen(t, file).holder(them); !ok || m != mac {
		t.Errorf("after a restart %v belongs to %v, %v; want %v", them, m, ok, mac)
	}
}

func FuzzLeaseLine(f *testing.F) {
	f.Add(strings.TrimSpace(lineOf(binding{mac: mac, addr: 1, until: today})))
	f.Add("52:54:00:12:34:56 192.0.2.91 1767225600 5ab27b50")
	f.Fuzz(func(t *testing.T, line string) {
		b, err := parseLine(line)
		if err != nil {
			return
		}
		if again, err := parseLine(strings.TrimSuffix(lineOf(b), "\n")); err != nil || again.addr != b.addr || again.mac != b.mac {
			t.Errorf("%q = %+v, written and read %+v, %v", line, b, again, err)
		}
	})
}

// FuzzLeaseFile reads files as a power cut, a bad disk or an editor leaves them: nothing hurts, what is read is of the
// configuration, and what is written after it reads back whole.
func FuzzLeaseFile(f *testing.F) {
	good := lineOf(binding{mac: mac, addr: toUint(them), until: today})
	f.Add([]byte(good + good))
	f.Add([]byte(good[:20] + "\x00\x00\n" + good))
	f.Add([]byte(strings.Repeat("x", 5000) + "\n" + good))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := memoryLeases(t, 20)
		if _, err := readLines(bytes.NewReader(text), l.put); err != nil {
			t.Fatal(err)
		}
		if p := l.pools[0]; p.taken != len(l.byAddr) || p.taken > p.usable {
			t.Errorf("%d taken of %d, %d addresses", p.taken, p.usable, len(l.byAddr))
		}
		var again []byte
		for _, b := range l.snapshot() {
			again = appendLine(again, b)
		}
		back := memoryLeases(t, 20)
		if lost, err := readLines(bytes.NewReader(again), back.put); lost > 0 || err != nil || len(back.byAddr) != len(l.byAddr) {
			t.Errorf("%d bindings written, %d read, %d lines lost, %v", len(l.byAddr), len(back.byAddr), lost, err)
		}
	})
}
