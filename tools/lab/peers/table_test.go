package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func runs(seconds ...float64) []Run {
	var list []Run
	for i, s := range seconds {
		list = append(list, Run{Round: i + 1, Wall: time.Duration(s * float64(time.Second)), CPU: time.Second / 2, RSS: int64(1000 * s)})
	}
	return list
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   Spread
	}{
		{"nothing was measured", nil, Spread{}},
		{"one value is all three", []float64{4}, Spread{4, 4, 4}},
		{"the middle of three, whatever their order", []float64{9, 1, 5}, Spread{5, 1, 9}},
		{"between the middle two of four", []float64{8, 2, 4, 1}, Spread{3, 1, 8}},
	} {
		if diff := cmp.Diff(tt.want, spread(tt.values)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, diff)
		}
	}
}

// Ratios are of one round: here the machine was ten times slower in the second, and both tools with it. A tool that left
// rounds out is compared in those it ran in, and one that only warmed up with the round after that.
func TestJudge(t *testing.T) {
	record := &Record{CPUs: 8, Names: map[string]string{"sdq": "../../devices/pci0000:00/0000:00:07.0/host2/block/sdq"}, Tools: []Measured{
		{Name: Ours, Runs: runs(1, 10, 1), Output: []byte(`{"disks":[{"name":"sdq","size_bytes":3221225472}]}`)},
		{Name: "lshw", Runs: runs(3, 20), Output: []byte(`{"size":3221225472}`)},
		{Name: "hwinfo", Absent: "no such program"},
		{Name: "ohai", Runs: []Run{{Round: 0, Wall: 7 * time.Second}}},
	}}
	items := []Item{{Group: "disk", Name: "size", Of: "ssd", Want: bytesAs(3 << 30)}, {Group: "disk", Name: "serial", Want: words("SCSI0001")}}
	got := Judge("here", record, items, Planted)
	want := &Report{Where: "here", CPUs: 8,
		Items: []Found{{"disk", "size", []string{Ours}}, {"disk", "serial", nil}},
		Tools: []Row{
			{Name: Ours, Found: 1, Of: 2, Runs: 3, Wall: Spread{1000, 1000, 10000}, CPU: Spread{500, 500, 500}, Ratio: Spread{1, 1, 1}, RSSKiB: 10000, Bytes: 50},
			{Name: "lshw", Of: 2, Runs: 2, Wall: Spread{11500, 3000, 20000}, CPU: Spread{500, 500, 500}, Ratio: Spread{2.5, 2, 3}, RSSKiB: 20000, Bytes: 19},
			{Name: "hwinfo", Of: 2, Absent: "no such program"},
			{Name: "ohai", Of: 2, Runs: 1, Wall: Spread{7000, 7000, 7000}, Ratio: Spread{7, 7, 7}},
		}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Judge: (-want +got)\n%s", diff)
	}
	var text strings.Builder
	if err := got.Print(&text, true); err != nil {
		t.Fatal(err)
	}
	const table = `here, 8 CPUs
TOOL          FOUND     RUNS  WALL s (min-max)       CPU s  TIMES muster-agent (min-max)  PEAK MiB  OUTPUT KiB
muster-agent  1/2 50%   3     1.000 (1.000-10.000)   0.500  1.00 (1.00-1.00)              9         1
lshw          0/2 0%    2     11.500 (3.000-20.000)  0.500  2.50 (2.00-3.00)              19        1
hwinfo        not here  -     -                      -      -                             -         -
ohai          0/2 0%    1     7.000 (7.000-7.000)    0.000  7.00 (7.00-7.00)              0         0

ITEM          muster-agent  lshw  hwinfo  ohai
disk: size    x             .     .       .
disk: serial  .             .     .       .
`
	if diff := cmp.Diff(table, text.String()); diff != "" {
		t.Errorf("Print: (-want +got)\n%s", diff)
	}
}

func TestRecordOverAConsole(t *testing.T) {
	want := &Record{Kernel: "6.1", CPUs: 8, Names: map[string]string{"sda": "x"},
		Tools: []Measured{{Name: Ours, Runs: runs(1), Output: []byte("\x00\xff{}")}}}
	var sent strings.Builder
	if err := want.Encode(&sent); err != nil {
		t.Fatal(err)
	}
	console := "[    1.0] boot\r\n\x1b[2J" + strings.ReplaceAll(sent.String(), "\n", "\r\n") + "peers: done\r\n"
	got, err := Decode([]byte(console))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Decode: (-want +got)\n%s", diff)
	}
	for name, said := range map[string]string{"none": "boot", "cut": console[:len(console)/2]} {
		if r, err := Decode([]byte(said)); err == nil {
			t.Errorf("%s: Decode = %v; want an error", name, r)
		}
	}
}
