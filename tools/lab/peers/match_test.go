package peers

import "testing"

var twoDisks = []Thing{
	{Name: "big", Kind: part, Names: []string{"SER1", "sda", "sda1"}},
	{Name: "small", Kind: part, Names: []string{"SER2", "sdb"}},
	{Name: "piece1", Kind: part, In: "big", Names: []string{"piece1"}},
	{Name: "piece2", Kind: part, In: "big", Names: []string{"piece2"}},
	{Name: "0000:00:07.0", Kind: slot, Names: addresses("0000:00:07.0")},
	{Name: "0000:00:08.0", Kind: slot, Names: addresses("0000:00:08.0")},
}

func TestFound(t *testing.T) {
	for _, tt := range []struct {
		name   string
		output string
		json   bool
		item   Item
		want   bool
	}{
		{"a serial stands anywhere", `{"a":{"serial":"SER1"}}`, true, Item{Want: words("SER1")}, true},
		{"case does not count", "UUID: 4C4C4544-0042", false, Item{Want: words("4c4c4544-0042")}, true},
		{"a part of a word is not the word", "serial: SER12", false, Item{Want: words("SER1")}, false},
		{"the end of a word is not the word", "serial: XSER1", false, Item{Want: words("SER1")}, false},
		{"a later place may be the whole word", "serial: SER12 SER1", false, Item{Want: words("SER1")}, true},
		{"a release is not the version that begins with it", "version: 2.19.1", false, Item{Want: words("2.19")}, false},
		{"a number is not the end of a fraction", "size: 1.3 GB", false, Item{Want: words("3 GB")}, false},
		{"a full stop ends a number", "release 2.19.", false, Item{Want: words("2.19")}, true},
		{"blanks count once", "name:  EFI \t System", false, Item{Want: words("EFI System")}, true},
		{"a number needs its label", `{"cpu":{"sockets":2}}`, true, Item{Want: words("2"), Label: "socket"}, true},
		{"another label does not do", `{"cpu":{"dies":2}}`, true, Item{Want: words("2"), Label: "socket"}, false},
		{"a label behind the value does not do", "2 sockets", false, Item{Want: words("2"), Label: "socket"}, false},

		{"a size stands with its disk", `{"disks":[{"serial":"SER1","size":1024},{"serial":"SER2","size":2048}]}`, true,
			Item{Of: "big", Want: words("1024")}, true},
		{"a size of another disk does not count", `{"disks":[{"serial":"SER1","size":1024},{"serial":"SER2","size":2048}]}`, true,
			Item{Of: "big", Want: words("2048")}, false},
		{"a disk may be named by its key", `{"disks":{"sda":{"size":"1.00 KiB"},"sdb":{"size":2048}}}`, true,
			Item{Of: "big", Want: words("1.00 KiB")}, true},
		{"a partition's value is nested in its disk", `{"d":[{"name":"sda","children":[{"fstype":"xfs"}]},{"name":"sdb"}]}`, true,
			Item{Of: "big", Want: words("xfs")}, true},
		{"a bridge is told apart from what is behind it", `{"bus":"00:07.0","product":"x","children":[{"bus":"00:08.0"}]}`, true,
			Item{Of: "0000:00:07.0", Want: words("x")}, true},
		{"what is behind a bridge is not the bridge", `{"bus":"00:07.0","product":"x","children":[{"bus":"00:08.0","product":"y"}]}`, true,
			Item{Of: "0000:00:07.0", Want: words("y")}, false},
		{"a piece stands with its whole", `{"serial":"SER1","version":"v","pieces":[{"name":"piece1"},{"name":"piece2"}]}`, true,
			Item{Of: "big", Want: words("v")}, true},
		{"what is said behind a list counts, too", `{"children":[{"bus":"00:08.0"}],"bus":"00:07.0","product":"x"}`, true,
			Item{Of: "0000:00:07.0", Want: words("x")}, true},
		{"a piece beside it does not hide the whole", `{"serial":"SER1","first":"piece1","version":"v"}`, true,
			Item{Of: "big", Want: words("v")}, true},
		{"nor the whole its piece", `{"serial":"SER1","first":"piece1","version":"v"}`, true,
			Item{Of: "piece1", Want: words("v")}, true},
		{"but another piece does", `{"first":"piece1","second":"piece2","version":"v"}`, true,
			Item{Of: "piece1", Want: words("v")}, false},
		{"a disk's controller stands around it", `{"businfo":"pci@0000:00:07.0","children":[{"serial":"SER1"}]}`, true,
			Item{Of: "big", Want: addresses("0000:00:07.0")}, true},
		{"a value beside two disks belongs to neither", `{"size":7,"d":[{"serial":"SER1"},{"serial":"SER2"}]}`, true,
			Item{Of: "big", Want: words("7")}, false},
		{"without the thing there is no find", `{"size":1024}`, true, Item{Of: "big", Want: words("1024")}, false},
		{"an address is told apart from a disk", `{"address":"00:07.0","device":"1004","x":"SER1"}`, true,
			Item{Of: "0000:00:07.0", Want: words("1004")}, true},

		{"a paragraph is about one thing", "Disk SER1\nSize: 1024\n\nDisk SER2\nSize: 2048\n", false, Item{Of: "big", Want: words("2048")}, false},
		{"what is indented belongs to the line above", "sda\n  size 1024\nsdb\n  size 2048\n", false, Item{Of: "small", Want: words("2048")}, true},
		{"what is indented belongs to no other line", "sda\n  size 1024\nsdb\n  size 2048\n", false, Item{Of: "big", Want: words("2048")}, false},
		{"broken JSON is read as text", "{\n \"serial\": \"SER1\",\n", true, Item{Want: words("SER1")}, true},

		{"a person may look for it otherwise", "processor 0\nprocessor 1\n", false,
			Item{Want: words("2"), By: map[string]string{"tool": "^processor 1$"}}, true},
		{"but only at that tool", "processor 0\nprocessor 1\n", false,
			Item{Want: words("2"), By: map[string]string{"other": "^processor 1$"}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse([]byte(tt.output), tt.json).found("tool", tt.item, twoDisks); got != tt.want {
				t.Errorf("found %v in %q: %v; want %v", tt.item, tt.output, got, tt.want)
			}
		})
	}
}

// Each usual way to say 3 GiB, and ways to say something else.
func TestBytesAs(t *testing.T) {
	for spelling, want := range map[string]bool{
		"3221225472": true, "6291456": true, "3145728 KiB": true, "3GiB": true, "3.00 GiB": true, "3.0G": true, "3072 MB": true,
		"3.22 GB": true, "3221MB": true, "3 GB": true,
		"3": false, "30 GiB": false, "3.1 GiB": false, "3 MiB": false, "3 TiB": false,
	} {
		d := parse([]byte("size: "+spelling), false)
		if got := d.found("", Item{Want: bytesAs(3 << 30)}, nil); got != want {
			t.Errorf("3 GiB found in %q: %v; want %v", spelling, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":null}],"c":"d"}`), true)
	f.Add([]byte("a\n  b\n\tc\n\nd"), false)
	f.Add([]byte(`[[[[`), true)
	f.Fuzz(func(t *testing.T, b []byte, isJSON bool) {
		d := parse(b, isJSON)
		for _, s := range d.blocks {
			if s.from < 0 || s.from >= s.to || s.to > len(d.lines) {
				t.Errorf("block %v of %d lines", s, len(d.lines))
			}
		}
		d.found(Ours, Items[len(b)%len(Items)], Planted)
	})
}
