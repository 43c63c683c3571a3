package boot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"muster/boot/kargs"
)

// answers is a Source that gives one step to everybody, and keeps who asked.
type answers struct {
	mu    sync.Mutex
	step  Step
	err   error
	asked []Client
}

func (a *answers) Next(_ context.Context, c Client) (Step, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, c)
	return a.step, a.err
}

func (a *answers) last(t *testing.T) Client {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asked) == 0 {
		t.Fatal("the Source was not asked")
	}
	return a.asked[len(a.asked)-1]
}

// rig is a boot server with one kernel, the loaders of the packages and a secret outside of its root.
type rig struct {
	*Server
	source *answers
	seen   []Sighting
	addr   string // host:port of HTTP
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "secret"), "canary")
	write(t, filepath.Join(dir, "files", "vmlinuz"), "a kernel")
	write(t, filepath.Join(dir, "files", "debian-12", "initrd.gz"), "an initrd")
	if err := os.Symlink("../secret", filepath.Join(dir, "files", "link")); err != nil {
		t.Fatal(err)
	}
	files, err := os.OpenRoot(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	r := &rig{source: &answers{step: discovery()}}
	cfg := Config{BaseURL: testBase + "/", Source: r.source, Files: files, Log: slog.New(slog.DiscardHandler),
		Loaders: Loaders{Root: packages(t, "ipxe/undionly.kpxe", "ipxe/ipxe.efi", "shim/shimx64.efi.signed", "grub/x86_64-efi-signed/grubnetx64.efi.signed")},
		Observe: func(s Sighting) { r.seen = append(r.seen, s) }}
	if change != nil {
		change(&cfg)
	}
	if r.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(r)
	t.Cleanup(hs.Close)
	r.addr = hs.Listener.Addr().String()
	return r
}

// ask sends a request line as it stands, so that no client cleans the path first.
func (r *rig) ask(t *testing.T, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	host := "Host: 192.0.2.10\r\n"
	if _, err := io.WriteString(conn, method+" "+target+" HTTP/1.1\r\n"+host+strings.Join(append(header, ""), "\r\n")+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, body, err := readResponse(conn, method)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return resp, body
}

func TestHTTPNames(t *testing.T) {
	r := newRig(t, nil)
	for _, tt := range []struct {
		name   string
		target string
		status int
		typ    string
		body   string // a part of it
	}{
		{"a kernel", "/boot/f/vmlinuz", 200, "application/octet-stream", "a kernel"},
		{"a file in a folder", "/boot/f/debian-12/initrd.gz", 200, "application/octet-stream", "an initrd"},
		{"a loader", "/boot/undionly.kpxe", 200, "application/octet-stream", "ipxe/undionly.kpxe"},
		{"shim asks with two slashes (H1)", "/boot//grubx64.efi", 200, "application/efi", "grubnetx64.efi.signed"},
		{"GRUB's own name is the stub (N5)", "/grub/grub.cfg", 200, "text/plain; charset=utf-8", "configfile /muster/grub/${net_default_mac}/${grub_cpu}-${grub_platform}.cfg"},
		{"a machine's GRUB configuration", "/muster/grub/52:54:00:12:34:56/grub.cfg", 200, "text/plain; charset=utf-8", "linux /boot/f/vmlinuz"},
		{"with dashes and type (N4)", "/muster/grub/01-52-54-00-12-34-56/grub.cfg", 200, "text/plain; charset=utf-8", "linux /boot/f/vmlinuz"},
		{"autoexec.ipxe comes back with a MAC (N6)", "/boot/autoexec.ipxe", 200, "text/plain; charset=utf-8", "/boot/ipxe?mac=${netX/mac}"},
		{"a script", "/boot/ipxe?mac=52-54-00-12-34-56", 200, "text/plain; charset=utf-8", "#!ipxe\n"},
		{"a script needs a MAC", "/boot/ipxe", 400, "text/plain; charset=utf-8", "the query needs mac="},
		{"and a real one", "/boot/ipxe?mac=52:54:00", 400, "text/plain; charset=utf-8", "parse MAC"},
		{"a name that is none (H2)", "/boot/revocations_sku.efi", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"GRUB's modules", "/grub/x86_64-efi/command.lst", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"the firmware's local disk is no file", "/boot/local-disk", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"a folder", "/boot/f/debian-12", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"below a file", "/boot/f/vmlinuz/x", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"the folder of files", "/boot/f/", 404, "text/plain; charset=utf-8", "no such boot file"},
		{"a GRUB configuration of no MAC", "/muster/grub/x/grub.cfg", 404, "text/plain; charset=utf-8", "no such boot file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := r.ask(t, "GET", tt.target)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.body) || resp.Header.Get("Content-Type") != tt.typ {
				t.Errorf("GET %s = %d %q %q; want %d %q with %q", tt.target, resp.StatusCode, resp.Header.Get("Content-Type"), body, tt.status, tt.typ, tt.body)
			}
			if l := resp.Header.Get("Location"); l != "" {
				t.Errorf("GET %s redirects to %s; shim can not follow", tt.target, l)
			}
			if resp.ContentLength != int64(len(body)) || body == "" {
				t.Errorf("GET %s: Content-Length %d, body of %d", tt.target, resp.ContentLength, len(body))
			}
			if tt.status == 404 && !resp.Close {
				t.Errorf("GET %s: a miss keeps the connection, and shim waits on it (H2)", tt.target)
			}
			head, none := r.ask(t, "HEAD", tt.target)
			if head.StatusCode != tt.status || none != "" || tt.status == 200 && (head.ContentLength != resp.ContentLength || head.Header.Get("Content-Type") != tt.typ) {
				t.Errorf("HEAD %s = %d, length %d, %q; GET had %d (H3)", tt.target, head.StatusCode, head.ContentLength, head.Header.Get("Content-Type"), resp.ContentLength)
			}
		})
	}
}

// TestT26PathsStayInside: no spelling leads to the secret beside the root, and none makes the server fail but the
// operator's own link, which the log names.
func TestT26PathsStayInside(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{"/boot/f/../../etc/passwd", "/boot/f/../secret", "/boot/f/%2e%2e/secret", "/boot/f/..%2fsecret", "/boot/f/%2e%2e%2fsecret",
		"/boot/f/..%5csecret", `/boot/f/..\secret`, "/boot/f//../secret", "/boot/f/./../secret", "/boot/f/debian-12/../../secret", "/boot/f/%00secret", "/boot/f/vmlinuz%00.gz",
		"/boot/../secret", "/boot/%2e%2e/secret", "/boot//etc/passwd", "//etc/passwd", "/boot/f//etc/passwd", "/boot/f/" + strings.Repeat("x", 300), "/boot/f/" + strings.Repeat("x/", 2000),
		"/muster/grub/../../secret/grub.cfg", "/boot/f/link/../../secret", "/boot/.secret", "/boot/f/%ff%fe"} {
		resp, body := r.ask(t, "GET", target)
		if resp.StatusCode != http.StatusNotFound || strings.Contains(body, "canary") || strings.Contains(body, "root:") {
			t.Errorf("GET %.80s = %d %q; want 404", target, resp.StatusCode, body)
		}
	}
	resp, body := r.ask(t, "GET", "/boot/f/link")
	if resp.StatusCode < 400 || strings.Contains(body, "canary") {
		t.Errorf("a link out of the root: %d %q", resp.StatusCode, body)
	}
	for _, name := range []string{"../secret", "boot/f/../secret", "/boot/f/link", `boot\f\..\secret`, "boot/f/\x00"} {
		if f, err := r.Resolve(t.Context(), name, Client{}); err == nil {
			t.Errorf("Resolve(%q) = a file of %d bytes", name, f.Size)
		}
	}
}

// TestT25HostDoesNotMakeURLs is H4 as well: firmware leaves the port out of Host.
func TestT25HostDoesNotMakeURLs(t *testing.T) {
	r := newRig(t, nil)
	_, want := r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56")
	for _, h := range []string{"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "Forwarded: host=evil.example", "X-Forwarded-For: 203.0.113.9"} {
		if _, got := r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56", h); got != want {
			t.Errorf("with %s:\n%s", h, cmp.Diff(want, got))
		}
	}
	_, got := r.ask(t, "GET", "http://evil.example/boot/ipxe?mac=52:54:00:12:34:56")
	if got != want || !strings.Contains(got, testBase+"/boot/f/vmlinuz") || strings.Contains(got, "evil") {
		t.Errorf("with another host in the request line:\n%s", got)
	}
}

// TestN8TheSameScriptTwice: a loader may ask twice, and a HEAD is no second story.
func TestN8TheSameScriptTwice(t *testing.T) {
	r := newRig(t, nil)
	for _, target := range []string{"/boot/ipxe?mac=52:54:00:12:34:56&platform=efi", "/muster/grub/52:54:00:12:34:56/grub.cfg"} {
		_, first := r.ask(t, "GET", target)
		resp, again := r.ask(t, "GET", target)
		if first != again || first == "" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s twice (Cache-Control %q):\n%s", target, resp.Header.Get("Cache-Control"), cmp.Diff(first, again))
		}
	}
	want := Client{MAC: testMAC, Kind: KindIPXE, Arch: ArchX64, Addr: netip.MustParseAddr("127.0.0.1")}
	if diff := cmp.Diff([]Client{want, want}, r.source.asked[:2], cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the Source was asked for (-want +got):\n%s", diff)
	}
	seen := len(r.seen)
	r.ask(t, "HEAD", "/boot/ipxe?mac=52:54:00:12:34:56")
	if seen != 4 || len(r.seen) != seen {
		t.Errorf("%d sightings of four reads, %d after a HEAD", seen, len(r.seen))
	}
}

func TestQueryIdsThatAreGarbage(t *testing.T) {
	r := newRig(t, nil)
	q := url.Values{"mac": {"52:54:00:12:34:56"}, "uuid": {"Not Settable"}, "platform": {"efi\nx"}, "serial": {"a\x1b[2J\nb" + strings.Repeat("x", 400)}, "asset": {"\xff${x}"}, "other": {"y"}}
	resp, body := r.ask(t, "GET", "/boot/ipxe?"+q.Encode())
	c := r.source.last(t)
	if resp.StatusCode != 200 || !c.UUID.IsZero() || c.Arch != ArchBIOS || len(c.Serial) > 255 || strings.Contains(c.Serial+c.Asset+body, "\x1b") || !utf8.ValidString(c.Asset) {
		t.Errorf("garbage ids: %d, client %+v", resp.StatusCode, c)
	}
	q = url.Values{"mac": {"52:54:00:12:34:56"}, "uuid": {"F7B4D8C9-CCE8-418C-8B52-8A6F124E8655"}, "serial": {"ABC1234"}, "asset": {"rack 7"}, "platform": {"efi"}}
	r.ask(t, "GET", "/boot/ipxe?"+q.Encode())
	c = r.source.last(t)
	if c.UUID.String() != "f7b4d8c9-cce8-418c-8b52-8a6f124e8655" || c.Serial != "ABC1234" || c.Asset != "rack 7" || c.Arch != ArchX64 {
		t.Errorf("good ids: %+v", c)
	}
}

// TestAnAddressIsNoIdentity: what DHCP knew of an address is another machine's when the MACs differ, and would hand
// out that machine's script.
func TestAnAddressIsNoIdentity(t *testing.T) {
	other, err := ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	if err != nil {
		t.Fatal(err)
	}
	known := Client{MAC: testMAC, UUID: other, Arch: ArchX64, Serial: "of-another", Features: []string{"http"}}
	r := newRig(t, func(c *Config) {
		c.Client = func(a netip.Addr) Client { known.Addr = a; return known }
	})
	r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:00:00:09")
	if c := r.source.last(t); !c.UUID.IsZero() || c.Arch != ArchBIOS || c.Serial != "" || c.MAC.String() != "52:54:00:00:00:09" {
		t.Errorf("iPXE with another MAC: %+v", c)
	}
	r.ask(t, "GET", "/muster/grub/52:54:00:00:00:09/grub.cfg")
	if c := r.source.last(t); !c.UUID.IsZero() || c.MAC.String() != "52:54:00:00:00:09" || c.Kind != KindGRUB {
		t.Errorf("GRUB with another MAC: %+v", c)
	}
	r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56")
	if c := r.source.last(t); c.UUID != other || c.Arch != ArchX64 {
		t.Errorf("the machine itself: %+v", c)
	}
}

func TestABrokenSourceIsAnAnswerToo(t *testing.T) {
	r := newRig(t, nil)
	r.source.err = errors.New("the disk is full: canary")
	for _, target := range []string{"/boot/ipxe?mac=52:54:00:12:34:56", "/muster/grub/52:54:00:12:34:56/grub.cfg"} {
		resp, body := r.ask(t, "GET", target)
		if resp.StatusCode != http.StatusServiceUnavailable || body == "" || strings.Contains(body, "canary") || !resp.Close {
			t.Errorf("GET %s = %d %q, close %v; want 503 with a body that tells nothing of the cause", target, resp.StatusCode, body, resp.Close)
		}
	}
	if resp, _ := r.ask(t, "GET", "/boot/f/vmlinuz"); resp.StatusCode != 200 {
		t.Errorf("files need no Source: %d", resp.StatusCode)
	}
}

func TestAStepThatCanNotBeSaidIsRefusedOnTheScreen(t *testing.T) {
	r := newRig(t, nil)
	r.source.step.Args[0].Value = "a\nreboot"
	resp, body := r.ask(t, "GET", "/boot/ipxe?mac=52:54:00:12:34:56")
	if resp.StatusCode != 200 || !strings.Contains(body, "echo muster: this step can not be rendered") || strings.Contains(body, "kernel ") {
		t.Errorf("%d %q; want a script that says so", resp.StatusCode, body)
	}
}

func TestBootFilesAreOnlyRead(t *testing.T) {
	r := newRig(t, nil)
	for _, m := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		resp, body := r.ask(t, m, "/boot/f/vmlinuz", "Content-Length: 0")
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" || body == "" {
			t.Errorf("%s = %d, Allow %q", m, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestARangeResumesAFile(t *testing.T) {
	resp, body := newRig(t, nil).ask(t, "GET", "/boot/f/vmlinuz", "Range: bytes=2-")
	if resp.StatusCode != http.StatusPartialContent || body != "kernel" {
		t.Errorf("bytes 2 on = %d %q", resp.StatusCode, body)
	}
}

// A file's name stands for its bytes: what was read once is good for ever, and a broken transfer goes on where it stopped.
func TestFilesAreImmutable(t *testing.T) {
	r := newRig(t, nil)
	const tag, other = `"debian-12/initrd.gz"`, `"vmlinuz"`
	for _, tt := range []struct {
		name   string
		method string
		header []string
		status int
		body   string
	}{
		{"the whole", "GET", nil, 200, "an initrd"},
		{"only its head", "HEAD", nil, 200, ""},
		{"known already", "GET", []string{"If-None-Match: " + tag}, 304, ""},
		{"another is known", "GET", []string{"If-None-Match: " + other}, 200, "an initrd"},
		{"the rest of what was begun", "GET", []string{"Range: bytes=3-", "If-Range: " + tag}, 206, "initrd"},
		{"the rest of something else", "GET", []string{"Range: bytes=3-", "If-Range: " + other}, 200, "an initrd"},
		{"past its end", "GET", []string{"Range: bytes=99-"}, 416, "invalid range: failed to overlap\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := r.ask(t, tt.method, "/boot/f/debian-12/initrd.gz", tt.header...)
			if resp.StatusCode != tt.status || body != tt.body {
				t.Errorf("%d %q; want %d %q", resp.StatusCode, body, tt.status, tt.body)
			}
			if tt.status == 416 {
				return
			}
			if h := resp.Header; h.Get("ETag") != tag || h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("Last-Modified") != "" {
				t.Errorf("ETag %s, Cache-Control %s, Last-Modified %q", h.Get("ETag"), h.Get("Cache-Control"), h.Get("Last-Modified"))
			}
		})
	}
	if resp, _ := r.ask(t, "GET", "/boot/undionly.kpxe"); resp.Header.Get("ETag") != "" || resp.Header.Get("Cache-Control") != "" {
		t.Errorf("a loader, which the next package replaces: %v", resp.Header)
	}
}

func TestTheScriptKnowsTheArchitecture(t *testing.T) {
	r := newRig(t, nil)
	for _, want := range []Arch{ArchBIOS, ArchX64, ArchARM64} {
		u, err := url.Parse(r.ScriptURL(Client{MAC: testMAC, Arch: want}))
		if err != nil {
			t.Fatal(err)
		}
		r.ask(t, "GET", u.RequestURI())
		if got := r.source.last(t).Arch; got != want {
			t.Errorf("%s: the Source was asked for %s", u, got)
		}
		again, err := url.Parse(ipxeAgain(testBase, Client{MAC: testMAC, Arch: want}, ""))
		if err != nil {
			t.Fatal(err)
		}
		r.ask(t, "GET", again.RequestURI())
		if got := r.source.last(t).Arch; got != want {
			t.Errorf("%s: the Source was asked for %s", again, got)
		}
	}
}

// TestTheScreenSaysWhyNot: a machine that can not be given its step shows the reason, and no value of the step's.
func TestTheScreenSaysWhyNot(t *testing.T) {
	withToken := windows()
	withToken.Args = kargs.Line{kargs.Set("muster.token", "canary")}
	for _, tt := range []struct {
		name, target string
		step         Step
		says         string
	}{
		{"wimboot is not there", "/boot/ipxe?mac=52:54:00:12:34:56", windows(), "echo muster: wimboot is not in the loader directory"},
		{"the memory test is not there", "/pxelinux.cfg/01-52-54-00-12-34-56", Step{Kind: StepChain, Chain: "memtest.lkrn"}, "SAY muster: memtest.lkrn is not in the loader directory"},
		{"GRUB and Windows", "/muster/grub/52:54:00:12:34:56/x86_64-efi.cfg", windows(), "echo 'muster: Windows is started by iPXE and wimboot, not by grub'"},
		{"pxelinux and Windows", "/pxelinux.cfg/01-52-54-00-12-34-56", windows(), "SAY muster: Windows is started by iPXE and wimboot, not by pxelinux"},
		{"wimboot on ARM64", "/boot/ipxe?mac=52:54:00:12:34:56&platform=efi&arch=arm64", windows(), "echo muster: wimboot starts x64 machines, not ARM64 UEFI"},
		{"a value that can not be said", "/boot/ipxe?mac=52:54:00:12:34:56", withToken, "echo muster: this step can not be rendered, see the server log"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.Source = &answers{step: tt.step}
				if !strings.Contains(tt.name, "not there") {
					c.Loaders.Dir = t.TempDir()
					write(t, filepath.Join(c.Loaders.Dir, "wimboot"), "MZ")
				}
			})
			if _, body := r.ask(t, "GET", tt.target); !strings.Contains(body, tt.says+"\n") || strings.Contains(body, "canary") {
				t.Errorf("the machine is told:\n%s\nwant %s", body, tt.says)
			}
		})
	}
}

func TestHandles(t *testing.T) {
	for p, want := range map[string]bool{"/boot/ipxe": true, "//boot/x": true, "/grub/grub.cfg": true, "/muster/grub/x": true, "/grub2/grub.cfg": true, "/pxelinux.cfg/default": true, "/autoexec.ipxe": true, "/i13/autoexec.ipxe": false, "/": false, "/boot": false,
		"/api/v1/nodes": false, "/bootx/y": false, "/muster/x": false, "/node/v1/checkin": false} {
		if Handles(p) != want {
			t.Errorf("Handles(%q) = %v", p, !want)
		}
	}
}

func TestURLsForDHCP(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Loaders.UEFI = "shim" })
	u, err := ParseUUID("f7b4d8c9-cce8-418c-8b52-8a6f124e8655")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.ScriptURL(Client{MAC: testMAC, UUID: u, Arch: ArchX64}), testBase+"/boot/ipxe?mac=52:54:00:12:34:56&platform=efi&uuid=f7b4d8c9-cce8-418c-8b52-8a6f124e8655"; got != want {
		t.Errorf("ScriptURL = %s; want %s", got, want)
	}
	if got, want := r.ScriptURL(Client{MAC: testMAC}), testBase+"/boot/ipxe?mac=52:54:00:12:34:56"; got != want {
		t.Errorf("ScriptURL = %s; want %s", got, want)
	}
	if got, ok := r.Loader(Client{Arch: ArchX64HTTP, Kind: KindUEFIHTTP}); got != testBase+"/boot/shimx64.efi" || !ok {
		t.Errorf("UEFI HTTP boot is given %q", got)
	}
	if got, ok := r.Loader(Client{Arch: ArchX64, Kind: KindUEFI}); got != "shimx64.efi" || !ok {
		t.Errorf("UEFI PXE is given %q", got)
	}
	if got, ok := r.Loader(Client{Arch: 0x1b}); ok {
		t.Errorf("RISC-V is given %q", got)
	}
}

func TestNewRefusesAConfigurationThatCanNotWork(t *testing.T) {
	for _, base := range []string{"", "192.0.2.10:8080", "ftp://192.0.2.10", "http://", "http://h/path", "http://h/?x", "http://h/#x", "http://u:p@h/", "http://a b", "http://a\nb"} {
		if _, err := New(Config{BaseURL: base, Source: &answers{}}); err == nil || !strings.Contains(err.Error(), "base URL") {
			t.Errorf("New with base URL %q: %v", base, err)
		}
	}
	if _, err := New(Config{BaseURL: testBase}); err == nil {
		t.Error("a server without a Source was made")
	}
	s, err := New(Config{BaseURL: testBase, Source: &answers{step: discovery()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "boot/f/vmlinuz", Client{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("a file without a directory: %v", err)
	}
}

func TestSightingsHoldNoControlBytes(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, "GET", "/boot/%1b%5b2J%0aforged%20line")
	if len(r.seen) != 1 || r.seen[0].What != "miss" || strings.ContainsAny(r.seen[0].Name, "\x1b\n") {
		b, _ := json.Marshal(r.seen)
		t.Errorf("sightings %s", b)
	}
}

// readResponse reads one answer whole.
func readResponse(conn net.Conn, method string) (*http.Response, string, error) {
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}
