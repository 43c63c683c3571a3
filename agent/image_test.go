package agent

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"muster/agent/chunk"
	"muster/agent/facts"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rawImage is an image with a boot signature, noise, and a chunk of zeros.
func rawImage(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	clear(b[5<<20 : 9<<20])
	b[510], b[511] = 0x55, 0xaa
	return b
}

func pack(t *testing.T, raw []byte, compression string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch compression {
	case "zstd":
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz": // the library takes a minute for what the program does in a second
		xz := exec.Command("xz", "-0")
		xz.Stdin, xz.Stdout = bytes.NewReader(raw), &b
		if err := xz.Run(); err != nil {
			t.Skipf("xz: %v", err)
		}
		return b.Bytes()
	default:
		return raw
	}
	if _, err := w.Write(raw); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sha(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// An imageCase is one order to write an image, with one thing that may be wrong.
type imageCase struct {
	a     *Agent
	b     *testBroker
	s     *screen
	disk  string // file that is the disk
	entry facts.Disk
	order facts.Order
	raw   []byte
}

const diskSize = 20 << 20

func newImageCase(t *testing.T, compression string) *imageCase {
	t.Helper()
	a, b, s := newAgent(t)
	c := &imageCase{a: a, b: b, s: s, raw: rawImage(14<<20 + 512)}
	packed := pack(t, c.raw, compression)
	b.files["/image/debian"] = packed
	c.disk = filepath.Join(a.Root, "dev/sda")
	put(t, c.disk, "")
	if err := os.Truncate(c.disk, diskSize); err != nil {
		t.Fatal(err)
	}
	c.entry = facts.Disk{ID: "naa.5000", Name: "sda", SizeBytes: diskSize, Serial: "S1", WWN: "naa.5000"}
	a.Probe = func(_ context.Context, only ...string) Probed {
		return Probed{Facts: facts.Facts{Schema: facts.Schema, Disks: []facts.Disk{c.entry}}}
	}
	a.OpenDisk = func(name string) (*Disk, error) { return openDevice(a.Root, name) }
	c.order = facts.Order{ID: 2, Kind: facts.OrderWriteImage, Because: "policy ceph", Image: &facts.WriteImage{
		Path: "/image/debian", Compression: compression, SizeBytes: int64(len(packed)), SHA256: sha(packed),
		RawBytes: int64(len(c.raw)), Disk: facts.Target{ID: "naa.5000", SizeBytes: diskSize, Serial: "S1", WWN: "naa.5000"},
	}}
	return c
}

// give makes another image that of the order.
func (c *imageCase) give(raw []byte) {
	c.raw, c.b.files["/image/debian"] = raw, raw
	i := c.order.Image
	i.SizeBytes, i.RawBytes, i.SHA256 = int64(len(raw)), int64(len(raw)), sha(raw)
}

// chunked puts the list of the image's chunks beside it and into the order.
func (c *imageCase) chunked(t *testing.T) {
	t.Helper()
	list, err := chunk.Read(bytes.NewReader(c.raw))
	if err != nil {
		t.Fatal(err)
	}
	b := list.Encode()
	c.b.files["/image/chunks"] = b
	c.order.Image.Chunks = &facts.Chunks{Path: "/image/chunks", SizeBytes: int64(len(b)), SHA256: sha(b)}
}

// run obeys the order and gives its last report.
func (c *imageCase) run(t *testing.T) facts.Report {
	t.Helper()
	c.b.orders = []facts.Order{c.order}
	live(t, c.a, 40*time.Minute)
	return c.b.last()
}

// untouched checks that nothing of the disk was written.
func (c *imageCase) untouched(t *testing.T, before []byte) {
	t.Helper()
	if !bytes.Equal(read(t, c.disk), before) {
		t.Error("the disk was written to")
	}
}

// unbootable checks that both ends of the disk are zeros and that it did not grow.
func (c *imageCase) unbootable(t *testing.T) {
	t.Helper()
	got := read(t, c.disk)
	if len(got) != diskSize {
		t.Fatalf("the disk has %d bytes now", len(got))
	}
	if !bytes.Equal(got[:endBytes], make([]byte, endBytes)) || !bytes.Equal(got[diskSize-endBytes:], make([]byte, endBytes)) {
		t.Error("an end of the disk is not zero: something could start from it")
	}
}

func TestWriteImage(t *testing.T) {
	for _, compression := range []string{"zstd", "gzip", "xz", "none"} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, with a list of chunks %t", compression, chunked), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newImageCase(t, compression)
					if chunked {
						c.chunked(t)
					}
					old := rawImage(diskSize) // an old system
					old[6<<20] = 1            // where the image has zeros
					put(t, c.disk, string(old))
					c.order.Image.Wipe = true
					got := c.run(t)
					if got.Status != facts.StatusDone || got.DoneBytes != int64(len(c.raw)) || got.TimingMS == nil {
						t.Fatalf("report %+v\n%s", got, c.s)
					}
					disk := read(t, c.disk)
					if !bytes.Equal(disk[:len(c.raw)], c.raw) {
						t.Error("the disk does not hold the image")
					}
					if !bytes.Equal(disk[diskSize-endBytes:], make([]byte, endBytes)) {
						t.Error("the end of the disk still holds the backup table of the old system")
					}
				})
			})
		}
	}
}

// Of a plain image with a list, chunks of zeros are not asked for.
func TestZerosAreNotFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		clear(c.raw[4<<20 : 12<<20]) // chunks 1 and 2
		c.b.files["/image/debian"] = c.raw
		c.order.Image.SHA256 = sha(c.raw)
		c.chunked(t)
		var spans []string
		c.b.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/image/debian" {
				spans = append(spans, r.Header.Get("Range"))
			}
			return false
		}
		if got := c.run(t); got.Status != facts.StatusDone || !bytes.Equal(read(t, c.disk)[:len(c.raw)], c.raw) {
			t.Fatalf("report %+v\n%s", got, c.s)
		}
		if diff := cmp.Diff([]string{"bytes=0-4194303", "bytes=12582912-14680575"}, spans); diff != "" {
			t.Errorf("asked for (-want +got)\n%s", diff)
		}
	})
}

// No byte of a chunk that is not the promised one reaches the disk, though what was before it has.
func TestAWrongChunkIsNotWritten(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "xz", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, compression)
				c.chunked(t)
				bad := bytes.Clone(c.raw)
				bad[13<<20] ^= 1 // in chunk 3
				c.b.files["/image/debian"] = pack(t, bad, compression)
				c.order.Image.SizeBytes, c.order.Image.SHA256 = int64(len(c.b.files["/image/debian"])), sha(c.b.files["/image/debian"])
				got := c.run(t)
				want := "write the image: bytes 12582912 to 14680575 of the image have sha256 " + sha(bad[12<<20:]) + "; " + sha(c.raw[12<<20:]) + " was promised"
				if got.Status != facts.StatusFailed || got.Message != want {
					t.Errorf("report %q %q; want failed %q", got.Status, got.Message, want)
				}
				c.unbootable(t)
				disk := read(t, c.disk)
				if !bytes.Equal(disk[12<<20:], make([]byte, diskSize-12<<20)) {
					t.Error("a part of the wrong chunk is on the disk")
				}
				if !bytes.Equal(disk[endBytes:12<<20], c.raw[endBytes:12<<20]) {
					t.Error("what was right before it is not on the disk")
				}
			})
		})
	}
}

// Everything that must be refused before a byte is written.
func TestRefusedBeforeTheFirstByte(t *testing.T) {
	gpt := append(make([]byte, 512), "EFI PART"...)
	for _, row := range []struct {
		name    string
		change  func(c *imageCase)
		content []byte
		message string
	}{
		{"F46: a disk smaller than the image", func(c *imageCase) { c.order.Image.RawBytes, c.order.Image.SizeBytes = diskSize+1, diskSize+1 }, nil,
			"check the disk: the image has 20971521 bytes; disk sda has 20971520"},
		{"T52: a disk that is gone", func(c *imageCase) { c.order.Image.Disk.ID = "naa.6000" }, nil,
			`find the disk: no disk has the id "naa.6000" now`},
		{"T52: another serial number under the same id", func(c *imageCase) { c.entry.Serial = "S2" }, nil,
			`find the disk: disk "naa.5000" has serial "S2"; the order says "S1"`},
		{"T52: another wwn", func(c *imageCase) { c.entry.WWN = "naa.5001" }, nil,
			`find the disk: disk "naa.5000" has wwn "naa.5001"; the order says "naa.5000"`},
		{"T52: another size", func(c *imageCase) { c.entry.SizeBytes++ }, nil,
			`find the disk: disk "naa.5000" has 20971521 bytes; the order says 20971520`},
		{"T52: a disk whose size is not what the probe said", func(c *imageCase) { c.entry.SizeBytes++; c.order.Image.Disk.SizeBytes++ }, nil,
			"check the disk: disk sda has 20971520 bytes; the order says 20971521"},
		{"an id that two disks have", func(c *imageCase) { c.entry.Dup = true }, nil,
			`find the disk: several disks have the id "naa.5000"`},
		{"a read-only disk", func(c *imageCase) { c.entry.ReadOnly = true }, nil,
			`find the disk: disk "naa.5000" is read-only`},
		{"T54: partitions", func(c *imageCase) { c.entry.Table = "gpt"; c.entry.Partitions = []facts.Partition{{Number: 1}} }, nil,
			"check the disk: disk sda holds a gpt partition table with 1 partition and the order does not allow to wipe it"},
		{"T54: a file system on the whole disk", func(c *imageCase) { c.entry.Content = &facts.Content{Type: "vmfs"} }, nil,
			"check the disk: disk sda holds vmfs and the order does not allow to wipe it"},
		{"T54: a table that the probe did not see", func(*imageCase) {}, gpt,
			"check the disk: disk sda holds data at byte 512 and the order does not allow to wipe it"},
		{"T41: a compression that is not known", func(c *imageCase) { c.order.Image.Compression = "qcow2" }, nil,
			`check the disk: compression "qcow2" is not known`},
		{"no sum", func(c *imageCase) { c.order.Image.SHA256 = "" }, nil,
			`check the disk: "" is no SHA-256 sum`},
		{"a plain image of two sizes", func(c *imageCase) { c.order.Image.RawBytes-- }, nil,
			"check the disk: a plain image of 14680576 bytes that unpacks to 14680575 is none"},
		{"no such image", func(c *imageCase) { delete(c.b.files, "/image/debian") }, nil,
			`look at the image: read "/image/debian" at byte 0: 404 Not Found: 404 page not found`},
		{"an image that is no zstd file", func(c *imageCase) { c.order.Image.Compression, c.order.Image.RawBytes = "zstd", 1<<20 }, nil,
			"look at the image: unpack the image at byte 0: invalid input: magic number mismatch"},
		{"a list of chunks that is another", func(c *imageCase) { c.b.files["/image/chunks"][70] ^= 1 }, nil,
			"read the list of chunks: its sha256 is f4dbbae40ba37a79"},
		{"a list of chunks that is too long for the memory", func(c *imageCase) { c.order.Image.Chunks.SizeBytes = 1 << 30 }, nil,
			"check the disk: a list of chunks of 1073741824 bytes with the sum"},
		{"a list of an image of another size", func(c *imageCase) { c.order.Image.RawBytes--; c.order.Image.Compression = "gzip" }, nil,
			"read the list of chunks: it is of an image of 14680576 bytes; the order says 14680575"},
		{"a first chunk that is not the promised one", func(c *imageCase) { c.b.files["/image/debian"][600] ^= 1 }, nil,
			"look at the image: bytes 0 to 4194303 of the image have sha256"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				before := make([]byte, diskSize)
				copy(before, row.content)
				put(t, c.disk, string(before))
				if strings.Contains(row.name, "chunk") || strings.Contains(row.name, "list") {
					c.chunked(t)
				}
				row.change(c)
				if got := c.run(t); got.Status != facts.StatusFailed || !strings.HasPrefix(got.Message, row.message) {
					t.Errorf("report %q %q; want failed %q", got.Status, got.Message, row.message)
				}
				c.untouched(t, before)
			})
		})
	}
}

func TestBadImage(t *testing.T) {
	for _, row := range []struct {
		name        string
		compression string
		change      func(c *imageCase)
		message     func(c *imageCase) string // a part
	}{
		{"one byte flipped on the way", "none", flip,
			func(c *imageCase) string {
				return fmt.Sprintf("image sha256 is %s; the broker promised %s", sha(c.b.files["/image/debian"]), c.order.Image.SHA256)
			}},
		{"one byte flipped in a zstd file", "zstd", flip,
			func(c *imageCase) string {
				return fmt.Sprintf("image sha256 is %s; the broker promised %s", sha(c.b.files["/image/debian"]), c.order.Image.SHA256)
			}},
		{"one byte flipped in a gzip file", "gzip", flip,
			func(c *imageCase) string {
				return fmt.Sprintf("image sha256 is %s; the broker promised %s", sha(c.b.files["/image/debian"]), c.order.Image.SHA256)
			}},
		{"T37: an image that unpacks to more than promised", "zstd", func(c *imageCase) { c.order.Image.RawBytes = 9 << 20 },
			func(*imageCase) string { return "the image unpacks to more than the broker promised: 9437184 bytes" }},
		{"T37: one byte more is too much", "zstd", func(c *imageCase) { c.order.Image.RawBytes-- },
			func(*imageCase) string { return "the image unpacks to more than the broker promised" }},
		{"an image that unpacks to less", "zstd", func(c *imageCase) { c.order.Image.RawBytes += 5 },
			func(*imageCase) string { return "the image ends at byte 14680576; the broker promised 14680581" }},
		{"a file of another size", "zstd", func(c *imageCase) { c.order.Image.SizeBytes-- },
			func(*imageCase) string { return "the file changed on the broker while it was read" }},
		{"T38: a file that never ends", "none", func(c *imageCase) {
			c.b.body = func(r *http.Request, b io.Reader) io.Reader {
				if !strings.HasPrefix(r.URL.Path, "/image/") {
					return b
				}
				return io.MultiReader(b, endless{})
			}
		}, func(*imageCase) string { return "the broker serves more than the 14680576 bytes that it promised" }},
		{"F46: a broker that stops for good", "none", func(c *imageCase) { c.b.body = stopAt(5<<20, 1<<30) },
			func(*imageCase) string { return "no byte for 10 min" }},
		{"a file that becomes shorter while it is read", "none", func(c *imageCase) {
			c.b.body = changing(c, func(b []byte) []byte { return b[:10<<20] })
		}, func(*imageCase) string { return "the file changed on the broker while it was read" }},
		{"a file that becomes another of the same length while it is read", "none", func(c *imageCase) {
			c.b.body = changing(c, func(b []byte) []byte { return append(bytes.Clone(b[1:]), 0) })
		}, func(*imageCase) string { return "the file changed on the broker while it was read" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, row.compression)
				row.change(c)
				got, want := c.run(t), row.message(c)
				if got.Status != facts.StatusFailed || !strings.Contains(got.Message, want) {
					t.Errorf("report %q %q; want failed %q\n%s", got.Status, got.Message, want, c.s)
				}
				c.unbootable(t)
			})
		})
	}
}

func flip(c *imageCase) { c.b.files["/image/debian"][20<<20/3] ^= 1 }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// stopAt breaks the first connections of an image after n bytes each.
func stopAt(n int64, connections int) func(*http.Request, io.Reader) io.Reader {
	return func(r *http.Request, b io.Reader) io.Reader {
		if !strings.HasPrefix(r.URL.Path, "/image/") {
			return b
		}
		if connections--; connections < 0 {
			return b
		}
		if r.Header.Get("Range") != "" && connections > 1000 {
			return broken{}
		}
		return io.MultiReader(io.LimitReader(b, n), broken{})
	}
}

// changing breaks the first connection and changes the file meanwhile.
func changing(c *imageCase, change func([]byte) []byte) func(*http.Request, io.Reader) io.Reader {
	stop, changed := stopAt(5<<20, 1), false
	return func(r *http.Request, b io.Reader) io.Reader {
		if strings.HasPrefix(r.URL.Path, "/image/") && !changed {
			c.b.files["/image/debian"], changed = change(c.b.files["/image/debian"]), true
		}
		return stop(r, b)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }

// F14, F46: the connection breaks again and again; the stream goes on where it was.
func TestF46BrokenConnectionResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "zstd")
		c.b.body = stopAt(2<<20+13, 3)
		if got := c.run(t); got.Status != facts.StatusDone {
			t.Fatalf("report %+v\n%s", got, c.s)
		}
		if !bytes.Equal(read(t, c.disk)[:len(c.raw)], c.raw) {
			t.Error("the disk does not hold the image")
		}
		asked := 0
		for _, call := range c.b.calls {
			if strings.HasSuffix(call, "/image/debian") {
				asked++
			}
		}
		if asked != 4 {
			t.Errorf("the image was asked for %d times; want 4: %v", asked, c.b.calls)
		}
	})
}

// A broker that restarts answers 503 for a while, and may forget how to serve ranges.
func TestRestartingBrokerWithoutRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "zstd")
		c.b.body = stopAt(3<<20, 1)
		asked := 0
		c.b.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/image/") {
				return false
			}
			r.Header.Del("Range")
			asked++
			if asked > 1 && asked < 6 {
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return true
			}
			return false
		}
		if got := c.run(t); got.Status != facts.StatusDone || !bytes.Equal(read(t, c.disk)[:len(c.raw)], c.raw) {
			t.Errorf("report %+v\n%s", got, c.s)
		}
	})
}

// faulty is a disk that fails in one way.
type faulty struct {
	blockFile
	writeErr int64 // writes that reach this byte fail
	liesAt   int64 // this byte is read back with one bit changed, once it was written
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if f.writeErr > 0 && off <= f.writeErr && f.writeErr < off+int64(len(p)) && p[0] != 0 {
		return 0, errors.New("input/output error")
	}
	return f.blockFile.WriteAt(p, off)
}

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.blockFile.ReadAt(p, off)
	if i := f.liesAt - off; f.liesAt > 0 && i >= 0 && i < int64(n) {
		p[i] ^= 4
	}
	return n, err
}

func TestBadDisk(t *testing.T) {
	for _, row := range []struct {
		name    string
		fault   faulty
		size    int // of the image
		message string
	}{
		{"F45: a write fails, and the report says where", faulty{writeErr: 13 << 20}, 14<<20 + 512,
			"write the image: write 2097664 bytes at byte 12582912: input/output error"},
		{"a bit that the disk forgets is found", faulty{liesAt: 9<<20 + 77}, 14 << 20,
			"read the image back: bytes 8388608 to 12582911 of the disk do not read back as they were written"},
		{"a bit that the disk forgets in the boot sector is found", faulty{liesAt: 100}, 14 << 20,
			"write the boot sector: bytes 0 to 1048575 of the disk do not read back as they were written"},
		{"an image as large as the disk leaves nothing at its end", faulty{liesAt: 9<<20 + 77}, diskSize,
			"read the image back: bytes 8388608 to 12582911 of the disk do not read back as they were written"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newImageCase(t, "none")
				c.give(rawImage(row.size))
				c.order.Image.Wipe = true
				c.a.OpenDisk = func(name string) (*Disk, error) {
					d, err := openDevice(c.a.Root, name)
					if err != nil {
						return nil, err
					}
					row.fault.blockFile = d.file
					d.file = &row.fault
					return d, nil
				}
				got := c.run(t)
				if got.Status != facts.StatusFailed || !strings.Contains(got.Message, row.message) {
					t.Errorf("report %q %q; want failed %q", got.Status, got.Message, row.message)
				}
				c.unbootable(t)
			})
		})
	}
}

// The image's head must not be on the disk before the sum of the whole file is known.
func TestHeadIsWrittenLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newImageCase(t, "none")
		c.b.body = func(r *http.Request, b io.Reader) io.Reader {
			if !strings.HasPrefix(r.URL.Path, "/image/") {
				return b
			}
			last := int64(len(c.raw)) - 1
			return io.MultiReader(io.LimitReader(b, last), checkReader{b, func() { c.unbootable(t) }})
		}
		if got := c.run(t); got.Status != facts.StatusDone {
			t.Fatalf("report %+v", got)
		}
	})
}

// checkReader calls a function before it is read.
type checkReader struct {
	io.Reader
	before func()
}

func (r checkReader) Read(p []byte) (int, error) { r.before(); return r.Reader.Read(p) }
