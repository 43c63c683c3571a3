package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"muster/agent/chunk"
	"muster/agent/facts"
)

// TestBenchImage is make bench-image: how long an image takes onto a loop device by muster's agent, which compares every
// chunk before and after, beside dd and qemu-img, which compare nothing, in turn. The table is for people.
func TestBenchImage(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-image")
	}
	b := newImageBench(t)
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	const rounds = 3
	fmt.Fprintf(table, "%d MiB, a half of them zeros (%d rounds)\tmedian\tof dd\tleast\tmost\t\n", benchImageBytes>>20, rounds)
	took := map[string][]float64{}
	for range rounds {
		for _, w := range b.writers() {
			took[w.name] = append(took[w.name], b.run(w))
		}
	}
	dd := took[b.writers()[0].name]
	for _, w := range b.writers() {
		var ratios []float64
		for i, s := range took[w.name] {
			ratios = append(ratios, s/dd[i])
		}
		slices.Sort(ratios)
		times := slices.Sorted(slices.Values(took[w.name]))
		fmt.Fprintf(table, "%s\t%.2f s\t%.2f\t%.2f\t%.2f\t\n", w.name, times[len(times)/2], ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	}
	table.Flush()
	t.Log("\n" + out.String())
}

const benchImageBytes = 128 << 20

type imageBench struct {
	t           *testing.T
	dir, device string
}

// A writer is one way to put the image onto the device.
type writer struct{ name, line string }

func (b *imageBench) writers() []writer {
	return []writer{
		{"dd of the raw image, then sync", "dd if=raw of=$DEV bs=4M conv=fsync status=none"},
		{"dd oflag=direct", "dd if=raw of=$DEV bs=4M oflag=direct conv=fsync status=none"},
		{"qemu-img convert", "qemu-img convert -n -t none -f raw -O raw raw $DEV"},
		{"zstd -dc | dd", "zstd -qdc raw.zst | dd of=$DEV bs=4M iflag=fullblock conv=fsync status=none"},
		{"gzip -dc | dd", "gzip -dc raw.gz | dd of=$DEV bs=4M iflag=fullblock conv=fsync status=none"},
		{"xz -dc | dd", "xz -dc raw.xz | dd of=$DEV bs=4M iflag=fullblock conv=fsync status=none"},
		{"muster, raw", "AGENT raw none"}, {"muster, zstd", "AGENT raw.zst zstd"}, {"muster, gzip", "AGENT raw.gz gzip"}, {"muster, xz", "AGENT raw.xz xz"},
	}
}

func newImageBench(t *testing.T) *imageBench {
	t.Helper()
	b := &imageBench{t: t, dir: t.TempDir()}
	for _, p := range []string{"losetup", "dd", "qemu-img", "zstd", "gzip", "xz"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	raw, err := os.Create(filepath.Join(b.dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	r, part := rand.New(rand.NewPCG(1, 2)), make([]byte, 4<<20)
	for off := int64(0); off < benchImageBytes; off += 2 * int64(len(part)) { // every other chunk is a hole
		for i := range part {
			if part[i] = byte(r.Uint32()); i&7 > 2 { // as compressible as programs are
				part[i] = byte(i >> 3)
			}
		}
		if _, err := raw.WriteAt(part, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Truncate(benchImageBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	list, err := chunk.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(b.dir, "chunks"), string(list.Encode()))
	b.sh("zstd -q -3 raw -o raw.zst; gzip -1 -c raw >raw.gz; xz -0 -T2 -c raw >raw.xz; truncate -s " + fmt.Sprint(benchImageBytes+64<<20) + " disk")
	b.device = strings.TrimSpace(b.sh("losetup -f --show disk"))
	t.Cleanup(func() { b.sh("losetup -d " + b.device) })
	return b
}

func (b *imageBench) sh(line string) string {
	b.t.Helper()
	c := exec.Command("sh", "-ec", line)
	c.Dir, c.Env = b.dir, append(os.Environ(), "DEV="+b.device)
	out, err := c.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// run gives the seconds of one write. What a writer left in memory is not a part of the next.
func (b *imageBench) run(w writer) float64 {
	b.t.Helper()
	b.sh("sync; echo 3 >/proc/sys/vm/drop_caches || true")
	if args := strings.Fields(w.line); args[0] == "AGENT" {
		return b.agent(args[1], args[2])
	}
	began := time.Now()
	b.sh(w.line)
	return time.Since(began).Seconds()
}

// agent obeys an order to write the file, which a server of HTTP gives it. It ends when the disk was read back.
func (b *imageBench) agent(file, compression string) float64 {
	b.t.Helper()
	server := httptest.NewServer(http.FileServer(http.Dir(b.dir)))
	defer server.Close()
	a, _, said := newAgent(b.t)
	a.start()
	a.broker = &broker{base: server.URL, key: "key", http: newHTTP(nil), now: a.Now}
	defer a.broker.http.CloseIdleConnections()
	const size = benchImageBytes + 64<<20
	a.Probe = func(context.Context, ...string) Probed {
		return Probed{Facts: facts.Facts{Disks: []facts.Disk{{ID: "loop", Name: "loop", SizeBytes: size}}}}
	}
	a.OpenDisk = func(string) (*Disk, error) { return OpenDisk(b.device) }
	packed, list := read(b.t, filepath.Join(b.dir, file)), read(b.t, filepath.Join(b.dir, "chunks"))
	order := facts.Order{ID: 1, Kind: facts.OrderWriteImage, Image: &facts.WriteImage{Path: "/" + file, Compression: compression,
		SizeBytes: int64(len(packed)), SHA256: sha(packed), RawBytes: benchImageBytes, Wipe: true, Disk: facts.Target{ID: "loop", SizeBytes: size},
		Chunks: &facts.Chunks{Path: "/chunks", SizeBytes: int64(len(list)), SHA256: sha(list)}}}
	began := time.Now()
	if _, err := a.writeImage(b.t.Context(), order); err != nil {
		b.t.Fatalf("%v\n%s", err, said)
	}
	return time.Since(began).Seconds()
}
