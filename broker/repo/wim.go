package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
)

// readWindows knows installation media by the WIM that Windows PE boots from, and reads from the other which editions
// can be installed.
func readWindows(tree fs.FS) (OS, error) {
	if firstThere(tree, "", []string{"sources/boot.wim"}) == "" {
		return OS{}, fs.ErrNotExist
	}
	found := OS{Name: "windows"}
	install := firstThere(tree, "", []string{"sources/install.wim", "sources/install.esd", "sources/install.swm"})
	if install == "" {
		install = "sources/boot.wim" // a medium that was cut down, for repair
	}
	images, err := readWIM(tree, install)
	if err != nil {
		return OS{}, fmt.Errorf("%s: %w", install, err)
	}
	for _, x := range images {
		found.Editions = append(found.Editions, fmt.Sprintf("%d %s", x.Index, x.Name))
	}
	if len(images) > 0 {
		found.Arch, found.Version = images[0].arch(), images[0].version()
	}
	found.Note = "Windows boots by wimboot, which is not on it: put it beside the loaders"
	return found, nil
}

// A wimImage is one image of a WIM, as its XML says.
type wimImage struct {
	Index   int    `xml:"INDEX,attr"`
	Name    string `xml:"NAME"`
	Windows struct {
		Arch    string `xml:"ARCH"`
		Version struct {
			Major, Minor, Build string
		} `xml:"VERSION"`
	} `xml:"WINDOWS"`
}

// arch reads PROCESSOR_ARCHITECTURE_* (winnt.h).
func (x wimImage) arch() string {
	return map[string]string{"0": "386", "9": "amd64", "12": "arm64"}[x.Windows.Arch]
}

var windowsRelease = regexp.MustCompile(`^Windows (?:Server )?([0-9]+(?: R2)?)\b`)

// version is how it is sold, else its build.
func (x wimImage) version() string {
	if m := windowsRelease.FindStringSubmatch(x.Name); m != nil {
		return strings.ReplaceAll(m[1], " ", "")
	}
	return x.Windows.Version.Build
}

// maxWIM bounds the XML of a WIM and the images it tells of.
const (
	maxWIM       = 4 << 20
	maxWIMImages = 64
)

// readWIM reads the list of images of a WIM file (Microsoft's "Windows Imaging File Format (WIM)", resource rhXmlData).
func readWIM(tree fs.FS, name string) ([]wimImage, error) {
	f, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, ok := f.(io.ReaderAt)
	if !ok {
		return nil, nil // a mirror: the list lies at its far end
	}
	head := make([]byte, 208)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, fmt.Errorf("read header: %w", err)
	}
	if string(head[:8]) != "MSWIM\x00\x00\x00" {
		return nil, errors.New("it is no WIM file")
	}
	size := binary.LittleEndian.Uint64(head[72:]) & (1<<56 - 1)
	at, flags := binary.LittleEndian.Uint64(head[80:]), head[79]
	if size > maxWIM || at > 1<<62 || flags&4 != 0 { // 4: compressed, which the XML never is
		return nil, fmt.Errorf("its XML has %d bytes at %d, flags %#x", size, at, flags)
	}
	text := make([]byte, size)
	if n, err := r.ReadAt(text, int64(at)); n < len(text) {
		return nil, fmt.Errorf("read its XML: %w", err)
	}
	return parseWIM(text)
}

// parseWIM reads the XML, which is UTF-16 with a byte order mark.
func parseWIM(text []byte) ([]wimImage, error) {
	text = bytes.TrimPrefix(text, []byte{0xff, 0xfe})
	u := make([]uint16, len(text)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(text[2*i:])
	}
	var doc struct {
		Image []wimImage `xml:"IMAGE"`
	}
	d := xml.NewDecoder(strings.NewReader(string(utf16.Decode(u))))
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // decoded already
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read its XML: %w", err)
	}
	if len(doc.Image) > maxWIMImages {
		return nil, fmt.Errorf("it has %d images", len(doc.Image))
	}
	for i := range doc.Image {
		if !printable(doc.Image[i].Name) {
			doc.Image[i].Name = strconv.QuoteToASCII(doc.Image[i].Name)
		}
	}
	return doc.Image, nil
}

// readESXi reads boot.cfg of VMware's media: what mboot loads, and in which order.
func readESXi(tree fs.FS) (OS, error) {
	text, err := readMark(tree, "boot.cfg")
	if err != nil {
		return OS{}, err
	}
	lines := readINI(text)
	if !strings.Contains(lines[".title"], "ESXi") {
		return OS{}, fs.ErrNotExist
	}
	version, _, _ := strings.Cut(lines[".build"], "-")
	found := OS{Name: "esxi", Version: version, Arch: "amd64", Kernel: bootCfgPath(lines, lines[".kernel"])}
	for m := range strings.SplitSeq(lines[".modules"], "---") {
		if m = strings.TrimSpace(m); m != "" && len(found.Initrds) < maxModules {
			found.Initrds = append(found.Initrds, bootCfgPath(lines, m))
		}
	}
	return found, found.checkPaths()
}

// maxModules is more than an ESXi has: 8.0 loads some 150.
const maxModules = 512

// bootCfgPath is a path as mboot takes it: below prefix, where there is one, and else from the root.
func bootCfgPath(lines ini, p string) string {
	p, _, _ = strings.Cut(strings.TrimSpace(p), " ")
	return strings.TrimPrefix(path.Join("/", lines[".prefix"], p), "/")
}
