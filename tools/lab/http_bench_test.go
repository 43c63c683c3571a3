package lab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// TestBenchHTTP is the HTTP part of make bench-boot: a kernel, a ramdisk and a boot script as the real muster serves them,
// beside nginx with the same bytes as files, in turn, loaded by wrk. The script is rendered for each request here, and a
// file there: nginx is the limit. The table is for people.
func TestBenchHTTP(t *testing.T) {
	if os.Getenv("MUSTER_BENCH") == "" {
		t.Skip("MUSTER_BENCH is not set: make bench-boot")
	}
	for _, program := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: apt-get install --no-install-recommends nginx-light wrk", program)
		}
	}
	rounds := benchRounds(5)
	b := &httpBench{t: t, dir: t.TempDir()}
	b.startMuster()
	b.startNginx()
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "HTTP (%d rounds of 3 s)\tclients\tmuster/s\tnginx/s\tratio\tleast\tmost\t\n", rounds)
	for _, what := range b.files {
		for _, clients := range []int{1, 32} {
			b.row(table, what, clients, rounds)
		}
	}
	table.Flush()
	t.Log("\n" + out.String())
}

type httpBench struct {
	t     *testing.T
	dir   string
	ours  string
	peer  string
	files []benchFile
}

// A benchFile is the same bytes at two addresses.
type benchFile struct {
	name, ours, peer string
	size             int
}

func (b *httpBench) start(c *exec.Cmd) {
	b.t.Helper()
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	})
}

// startMuster serves a ramdisk of 12 MiB, and finds in the script of a new machine where kernel and ramdisk are.
func (b *httpBench) startMuster() {
	kernel, err := FetchKernel(b.t.Context(), filepath.Join(os.Getenv("MUSTER_CACHE"), "kernel"))
	if err != nil {
		b.t.Fatal(err)
	}
	ramdisk := filepath.Join(b.dir, "ramdisk")
	if out, err := exec.Command("../../bin/muster", "ramdisk", "build", "--kernel", kernel, "-o", ramdisk).CombinedOutput(); err != nil {
		b.t.Fatalf("build a ramdisk: %v %s", err, out)
	}
	c := exec.Command("../../bin/muster", "serve", "--data", filepath.Join(b.dir, "data"), "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--tftp", "off",
		"--ramdisk", ramdisk, "--log-level", "error")
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	b.start(c)
	for lines := bufio.NewScanner(out); b.ours == "" && lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "muster serves "); ok {
			b.ours, _, _ = strings.Cut(rest, ",")
		}
	}
	script := b.ours + "/boot/ipxe?mac=52:54:00:12:34:56"
	text := b.get(script)
	b.files = []benchFile{{name: "script", ours: script, size: len(text)}}
	for _, m := range regexp.MustCompile(`(?m)^(kernel|initrd) --name \S+ (\S+)`).FindAllSubmatch(text, -1) {
		b.files = append(b.files, benchFile{name: string(m[1]), ours: string(m[2]), size: len(b.get(string(m[2])))})
	}
	if len(b.files) != 3 {
		b.t.Fatalf("the script has no kernel and ramdisk: %s", text)
	}
}

func (b *httpBench) get(u string) []byte {
	b.t.Helper()
	a, err := http.Get(u)
	if err != nil {
		b.t.Fatal(err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s %v", u, a.Status, err)
	}
	return body
}

// startNginx gives it what muster gave.
func (b *httpBench) startNginx() {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.peer = "http://" + free.Addr().String()
	free.Close()
	web := filepath.Join(b.dir, "web")
	if err := os.MkdirAll(web, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for i, f := range b.files {
		if err := os.WriteFile(filepath.Join(web, f.name), b.get(f.ours), 0o644); err != nil {
			b.t.Fatal(err)
		}
		b.files[i].peer = b.peer + "/" + f.name
	}
	conf := filepath.Join(b.dir, "nginx.conf")
	text := fmt.Sprintf("daemon off;\nuser root;\nworker_processes 2;\npid %[1]s/nginx.pid;\nerror_log %[1]s/error.log;\nevents { worker_connections 512; }\n"+
		"http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000; client_body_temp_path %[1]s/t; proxy_temp_path %[1]s/t;\n"+
		"fastcgi_temp_path %[1]s/t; uwsgi_temp_path %[1]s/t; scgi_temp_path %[1]s/t;\nserver { listen %[2]s; root %[3]s; } }\n", b.dir, strings.TrimPrefix(b.peer, "http://"), web)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(b.dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	b.start(exec.Command("nginx", "-c", conf))
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(b.peer, "http://")); err == nil {
			conn.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.t.Fatal("nginx does not start")
}

var perSecond = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// wrk gives requests per second.
func (b *httpBench) wrk(u string, clients int) float64 {
	b.t.Helper()
	out, err := exec.Command("wrk", "-t1", "-c"+strconv.Itoa(clients), "-d3s", "--timeout", "10s", u).CombinedOutput()
	m := perSecond.FindSubmatch(out)
	if err != nil || m == nil || bytes.Contains(out, []byte("Non-2xx")) {
		b.t.Fatalf("wrk %s: %v\n%s", u, err, out)
	}
	n, _ := strconv.ParseFloat(string(m[1]), 64)
	return n
}

func (b *httpBench) row(w io.Writer, f benchFile, clients, rounds int) {
	var ours, peer, ratio []float64
	for range rounds {
		a, z := b.wrk(f.ours, clients), b.wrk(f.peer, clients)
		ours, peer, ratio = append(ours, a), append(peer, z), append(ratio, a/z)
	}
	slices.Sort(ratio)
	fmt.Fprintf(w, "%s, %d bytes\t%d\t%.1f\t%.1f\t%.2f\t%.2f\t%.2f\t\n", f.name, f.size, clients, middle(ours), middle(peer), middle(ratio), ratio[0], ratio[len(ratio)-1])
}

func middle(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}
