package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A File is what a name resolves to. Its size is known before the first byte is read, as TFTP's tsize and HTTP's
// Content-Length need.
type File struct {
	Size    int64
	ModTime time.Time // zero for a rendered file
	Tag     string    // not empty: the name stands for these bytes for ever (HTTP's strong entity tag, RFC 9110 section 8.8.3)
	Sum     string    // not empty: the sha256 of these bytes, and another import may put others under the name
	Content interface {
		io.ReadSeekCloser
		io.ReaderAt // TFTP reads again what got lost
	}
}

// A FileStore has kernels and ramdisks, each under a name that stands for its bytes for ever: what is replaced gets
// another name, so that a machine that was told of a kernel and a ramdisk gets those two. Open gives fs.ErrNotExist for
// a name that is none. A *os.Root is one.
type FileStore interface {
	Open(name string) (*os.File, error)
}

// ResolveFunc gives the file that a loader's name stands for, the same for TFTP and HTTP; ErrNotFound when there is
// none. Server.Resolve is one; the TFTP server calls one.
type ResolveFunc func(ctx context.Context, name string, c Client) (File, error)

// Config says what a Server serves.
type Config struct {
	BaseURL string                                               // of the broker as machines reach it, e.g. http://192.0.2.10:8080; URLs are never made from Host
	Source  Source                                               // decides
	Files   FileStore                                            // kernels and ramdisks; if nil, none
	Repo    func(ctx context.Context, path string) (File, error) // NAME/PATH of a file in a repo, or ErrNotFound; if nil, none
	Loaders Loaders
	Client  func(netip.Addr) Client // who has that address; if nil, nobody is known by address
	Observe func(Sighting)          // every request; if nil, none
	Now     func() time.Time        // if nil, time.Now
	Log     *slog.Logger            // if nil, slog.Default
}

// Server gives loaders their files and scripts. It is the http.Handler for the paths that it Handles, and
// its Resolve serves TFTP.
type Server struct {
	cfg   Config
	tries tries
}

// New checks the configuration.
func New(cfg Config) (*Server, error) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("base URL %q: want http://ADDRESS:PORT without a path", cfg.BaseURL)
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if cfg.Source == nil {
		return nil, errors.New("a boot server needs a Source")
	}
	if cfg.Client == nil {
		cfg.Client = func(a netip.Addr) Client { return Client{Addr: a} }
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Sighting) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, tries: tries{now: cfg.Now}}, nil
}

// Handles says whether an HTTP path belongs to the boot server.
func Handles(urlPath string) bool {
	p := strings.TrimLeft(urlPath, "/")
	return p == "autoexec.ipxe" || slices.ContainsFunc(roots, func(root string) bool { return strings.HasPrefix(p, root) })
}

// roots are the folders that loaders ask at the server's root, wherever they were loaded from.
var roots = []string{"boot/", "grub/", "grub2/", "muster/grub/", "debian-installer/", "pxelinux.cfg/"}

// ScriptURL is what iPXE is told to load: the identity is the packet's own, so that no bootstrap script is needed. It is
// empty for an iPXE that tells its features and can not load from here.
func (s *Server) ScriptURL(c Client) string {
	s.tries.runs(c.MAC)
	if strings.HasPrefix(s.cfg.BaseURL, "https:") && len(c.Features) > 0 && !slices.Contains(c.Features, "https") {
		s.cfg.Observe(Sighting{Time: s.cfg.Now(), Client: c, Proto: "dhcp", What: "refused", Text: "this iPXE has no HTTPS, and the base URL is " + s.cfg.BaseURL})
		return ""
	}
	q := url.Values{"mac": {c.MAC.String()}}
	if !c.UUID.IsZero() {
		q.Set("uuid", c.UUID.String())
	}
	if c.Arch.EFI() {
		q.Set("platform", "efi")
	}
	if arch := c.Arch.ipxe(); arch != "" {
		q.Set("arch", arch)
	}
	return s.cfg.BaseURL + "/boot/ipxe?" + strings.ReplaceAll(q.Encode(), "%3A", ":")
}

// Loader names the first program a firmware client is given: a TFTP name, or a URL for UEFI HTTP boot.
func (s *Server) Loader(c Client) (string, bool) {
	name, ok := s.cfg.Loaders.Name(c, s.tries.offer(c.MAC))
	if ok && c.Kind == KindUEFIHTTP {
		name = s.cfg.BaseURL + "/boot/" + name
	}
	return name, ok
}

// Prefix is what a first loader puts before every name that it asks for, empty when that is the folder it came from:
// lpxelinux.0 comes by TFTP and can load the rest by HTTP.
func (s *Server) Prefix(loader string) string {
	if loader == lpxelinux {
		return s.cfg.BaseURL + "/boot/"
	}
	return ""
}

// lpxelinux is the PXELINUX that knows HTTP (SYSLINUX doc/pxelinux.txt).
const lpxelinux = "lpxelinux.0"

// Resolve gives the file a name stands for: a script (see scriptNames), a file below boot/f/, one of a repo below repo/
// or boot/f/repo/, or a loader.
func (s *Server) Resolve(ctx context.Context, name string, c Client) (File, error) {
	q := parseName(name)
	// Install trees hold files that are called as scripts are: boot/grub/grub.cfg.
	if p, ok := strings.CutPrefix(strings.TrimPrefix(q.name, "boot/f/"), "repo/"); ok && s.cfg.Repo != nil {
		return s.cfg.Repo(ctx, p)
	}
	switch {
	case q.dialect == "" && strings.HasPrefix(q.name, "boot/f/"):
		return s.open(strings.TrimPrefix(q.name, "boot/f/"))
	case q.dialect == "":
		name := strings.TrimPrefix(q.name, "boot/")
		s.fetched(c, name)
		return s.cfg.Loaders.Open(name)
	case q.dialect == GRUB && q.key == "":
		return rendered(grubStub("${net_default_mac}")), nil
	}
	return s.named(ctx, q, c)
}

// named is the script that a name stands for: of the first client that it may mean and the Source knows.
func (s *Server) named(ctx context.Context, q request, c Client) (File, error) {
	byHTTP := c.HTTP
	for _, c := range s.candidates(q, c) {
		if c.Kind, c.Try, c.HTTP = kinds[q.dialect], q.try, byHTTP; q.dialect != PXELINUX {
			c.Arch = q.arch
		}
		f, err := s.script(ctx, c, q.dialect, q.choice)
		switch {
		case errors.Is(err, ErrNotFound):
		case q.stub && err == nil:
			return rendered(grubStub(c.nameKey())), nil
		case q.dialect == IPXE && err == nil:
			return withDHCP(f)
		default:
			return f, err
		}
	}
	if q.dialect == IPXE {
		return rendered(autoexec(s.cfg.BaseURL)), nil
	}
	return File{}, ErrNotFound
}

func (s *Server) script(ctx context.Context, c Client, d Dialect, choice string) (File, error) {
	s.tries.started(c.MAC, d)
	step, err := s.cfg.Source.Next(ctx, c)
	if err != nil {
		return File{}, fmt.Errorf("decide for %s: %w", c.nameKey(), err)
	}
	if choice != "" {
		step = step.choose(choice)
	}
	if name, ok := s.cfg.Loaders.instead(c); ok && d == IPXE {
		step = Step{Kind: StepChain, Chain: name, Because: "this machine's loader is " + name}
	}
	if name := s.cfg.Loaders.missing(step); name != "" {
		step = Step{Kind: StepRefuse, Text: name + " is not in the loader directory", Because: step.Because}
	}
	text, err := Render(d, s.cfg.BaseURL, c, step)
	if err != nil {
		// A machine that gets nothing sits at a prompt; it is told why instead.
		s.cfg.Log.Error("render boot script", "mac", c.MAC.String(), "dialect", string(d), "err", err)
		text, err = Render(d, s.cfg.BaseURL, c, Step{Kind: StepRefuse, Text: reason(err), Because: step.Because})
	}
	return rendered(text), err
}

func (s *Server) open(name string) (File, error) {
	if s.cfg.Files == nil {
		return File{}, fmt.Errorf("file %q: %w", name, ErrNotFound)
	}
	if len(name) > 255 || strings.ContainsRune(name, 0) {
		return File{}, fmt.Errorf("file %q: %w", Printable(name), ErrNotFound)
	}
	f, err := openFile(s.cfg.Files.Open(name))
	f.Tag = name
	return f, err
}

// openFile turns an open file into a File, and whatever is no plain file into ErrNotFound.
func openFile(f *os.File, err error) (File, error) {
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return File{}, ErrNotFound
		}
		return File{}, fmt.Errorf("open boot file: %w", err)
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		f.Close()
		return File{}, ErrNotFound
	}
	return File{Size: st.Size(), ModTime: st.ModTime(), Content: f}, nil
}

type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func rendered(text string) File {
	return File{Size: int64(len(text)), Content: memory{bytes.NewReader([]byte(text))}}
}

// ServeHTTP answers GET and HEAD for the names of Resolve, and /boot/ipxe with the machine's ids in the query.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "boot files are only read", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimLeft(r.URL.Path, "/")
	c := cookieClient(r, s.cfg.Client(remoteAddr(r)))
	var file File
	var err error
	what := "file"
	if path.Clean(name) == "boot/ipxe" {
		what = "script"
		if c, err = queryClient(r.URL.Query(), c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		file, err = s.script(r.Context(), c, IPXE, r.URL.Query().Get("choice"))
	} else {
		c.HTTP = true
		file, err = s.Resolve(r.Context(), name, c)
	}
	if err != nil {
		s.miss(w, c, name, err)
		return
	}
	defer file.Content.Close()
	head := w.Header()
	head.Set("Content-Type", contentType(name, what))
	switch {
	case file.Tag != "": // a proxy beside the machines may keep it
		head.Set("ETag", `"`+file.Tag+`"`)
		head.Set("Cache-Control", "public, max-age=31536000, immutable")
		file.ModTime = time.Time{}
	case file.Sum != "":
		head.Set("ETag", `"`+file.Sum+`"`)
		head.Set("Cache-Control", "no-cache")
		file.ModTime = time.Time{}
	case file.ModTime.IsZero():
		head.Set("Cache-Control", "no-store")
	}
	if r.Method == http.MethodGet {
		s.see(c, what, name, file.Size)
	}
	http.ServeContent(w, r, "", file.ModTime, file.Content)
}

// miss answers 404 with a body and a closed connection: shim waits for ever on an empty one that is kept alive.
func (s *Server) miss(w http.ResponseWriter, c Client, name string, err error) {
	w.Header().Set("Connection", "close")
	if errors.Is(err, context.Canceled) {
		return // the machine has gone
	}
	if !errors.Is(err, ErrNotFound) {
		s.cfg.Log.Error("serve boot file", "name", name, "err", err)
		http.Error(w, "muster can not answer now", http.StatusServiceUnavailable)
		return
	}
	s.see(c, "miss", name, 0)
	http.Error(w, "no such boot file", http.StatusNotFound)
}

func (s *Server) see(c Client, what, name string, size int64) {
	s.cfg.Observe(Sighting{Time: s.cfg.Now(), Client: c, Proto: "http", What: what, Name: Printable(name), Bytes: size})
}

func contentType(name, what string) string {
	switch {
	case what == "script", parseName(name).dialect != "":
		return "text/plain; charset=utf-8"
	case strings.HasSuffix(name, ".efi"):
		return "application/efi"
	}
	return "application/octet-stream"
}

func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// sameMachine is the client that has that MAC. What is known by the address alone is another machine's when the MACs
// differ: addresses are leased again, and routers hide several machines behind one.
func sameMachine(c Client, mac MAC) Client {
	if !c.MAC.IsZero() && c.MAC != mac {
		c = Client{Addr: c.Addr}
	}
	c.MAC = mac
	return c
}

// queryClient reads the ids that iPXE puts into the query. Values that are no ids are left out, as firmware lies.
func queryClient(q url.Values, c Client) (Client, error) {
	mac, err := ParseMAC(q.Get("mac"))
	if err != nil {
		return c, fmt.Errorf("the query needs mac=: %w", err)
	}
	c = sameMachine(c, mac)
	c.Kind = KindIPXE
	if u, err := ParseUUID(q.Get("uuid")); err == nil {
		c.UUID = u
	}
	if q.Get("platform") == "efi" && !c.Arch.EFI() {
		c.Arch = ArchX64
	}
	c.Try, _ = strconv.Atoi(q.Get("try"))
	c.Try = min(max(c.Try, 0), maxTry)
	if q.Get("arch") == ArchARM64.ipxe() {
		c.Arch = ArchARM64
	}
	c.Serial, c.Asset = Printable(q.Get("serial")), Printable(q.Get("asset"))
	return c, nil
}

// cookieClient reads the MAC that lpxelinux.0 sends with every request (SYSLINUX doc/syslinux.txt, "SYSLINUX HTTP
// cookies"); an address tells less.
func cookieClient(r *http.Request, c Client) Client {
	k, err := r.Cookie("_Syslinux_BOOTIF")
	if err != nil {
		return c
	}
	if mac, err := ParseMAC(k.Value); err == nil {
		return sameMachine(c, mac)
	}
	return c
}

// Printable makes text from a machine fit for one line: at most 255 bytes of printable ASCII, the rest as "?".
func Printable(s string) string {
	if len(s) > 255 {
		s = s[:255]
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}
