package initramfs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"path"
	"strings"
	"unicode/utf8"
)

// A Manifest says what a ramdisk holds, in enough detail to write the same archives again.
type Manifest struct {
	Key      string    `json:"key,omitempty"`      // Config.Key of the build, when the builder filled it in
	SHA256   string    `json:"sha256"`             // of the file, lower-case hex
	Format   string    `json:"format"`             // compression of the last compressed segment: gzip, zstd, xz ...; else none
	Archives int       `json:"archives"`           // archives in a row; a kernel unpacks them one over the other
	Kernel   string    `json:"kernel,omitempty"`   // release of the packed modules, e.g. 6.1.0-56-amd64
	Modules  []string  `json:"modules,omitempty"`  // packed modules, sorted, as /proc/modules spells them
	Absent   []string  `json:"absent,omitempty"`   // modules of a profile that this kernel does not have; Build only
	Firmware []string  `json:"firmware,omitempty"` // files packed modules may ask for that are not packed; Build only
	Userland Sizes     `json:"userland"`           // everything outside /lib/modules
	Drivers  Sizes     `json:"drivers"`            // everything in /lib/modules
	Total    Sizes     `json:"total"`              // Gzip is the size of the file, however it is compressed
	Segments []Segment `json:"segments,omitempty"` // in the order of the file
	Entries  []Entry   `json:"entries"`            // in the order of the archives
}

// Sizes are bytes of cpio archive, headers included.
type Sizes struct {
	Files int   `json:"files"` // regular files
	Raw   int64 `json:"raw_bytes"`
	Gzip  int64 `json:"gzip_bytes,omitempty"` // what this part takes compressed alone; 0 when not measured
}

// A Segment is a stretch of the file that a kernel unpacks at once: one plain archive, or one compressed member with the
// archives in it.
type Segment struct {
	Format   string    `json:"format"`            // none, or the compression
	Offset   int64     `json:"offset"`            // of its first byte in the file
	Size     int64     `json:"size"`              // in the file
	Unpacked int64     `json:"unpacked"`          // bytes of archives and the zeros between them
	Padding  int64     `json:"padding,omitempty"` // zeros after it
	Archives []Archive `json:"archives"`          // at least one
}

// An Archive is a run of entries up to a trailer. Its entries are those of Manifest.Entries with its number.
type Archive struct {
	Offset  int64 `json:"offset"`            // in what its segment unpacks to
	Size    int64 `json:"size"`              // with its trailer
	Upper   bool  `json:"upper,omitempty"`   // header numbers have capital letters, as GNU cpio writes them
	Trailer Entry `json:"trailer"`           // "TRAILER!!!" with the numbers its writer gave it
	Padding int64 `json:"padding,omitempty"` // zeros after it, inside a compressed member
}

// An Entry is one member of an archive.
type Entry struct {
	Name     string `json:"name"`
	Mode     uint32 `json:"mode"` // type and permissions, as in struct stat
	UID      uint32 `json:"uid"`
	GID      uint32 `json:"gid"`
	Links    uint32 `json:"links"`
	Ino      uint32 `json:"ino"`
	Time     uint32 `json:"mtime"`            // seconds since 1970
	Size     uint32 `json:"size"`             // bytes of content
	Major    uint32 `json:"major,omitempty"`  // of a device node
	Minor    uint32 `json:"minor,omitempty"`  // of a device node
	Target   string `json:"target,omitempty"` // of a symbolic link
	SHA256   string `json:"sha256,omitempty"` // of a regular file's content
	Archive  int    `json:"archive,omitempty"`
	Replaced bool   `json:"replaced,omitempty"` // a later entry takes its place
	Lost     string `json:"lost,omitempty"`     // why a kernel makes nothing of it

	Offset   int64  `json:"offset"`              // of its header in what its segment unpacks to
	Checked  bool   `json:"checked,omitempty"`   // of the 070702 format, whose headers hold a sum
	Check    uint32 `json:"check,omitempty"`     // that sum, of all bytes
	DevMajor uint32 `json:"dev_major,omitempty"` // of the file system the file was packed from; with Ino, which files are one
	DevMinor uint32 `json:"dev_minor,omitempty"`
	NameSize uint32 `json:"name_size,omitempty"` // when zeros stretch the name, to align what follows; else 0
}

// rawEntry is how an Entry with bytes that are no UTF-8 in its name or target is written: JSON has no such strings.
type rawEntry struct {
	plainEntry
	RawName   []byte `json:"raw_name,omitempty"`
	RawTarget []byte `json:"raw_target,omitempty"`
}

type plainEntry Entry

// MarshalJSON implements json.Marshaler.
func (e Entry) MarshalJSON() ([]byte, error) {
	raw := rawEntry{plainEntry: plainEntry(e)}
	if !utf8.ValidString(e.Name) {
		raw.RawName = []byte(e.Name)
	}
	if !utf8.ValidString(e.Target) {
		raw.RawTarget = []byte(e.Target)
	}
	return json.Marshal(raw)
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Entry) UnmarshalJSON(b []byte) error {
	var raw rawEntry
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*e = Entry(raw.plainEntry)
	if raw.RawName != nil {
		e.Name = string(raw.RawName)
	}
	if raw.RawTarget != nil {
		e.Target = string(raw.RawTarget)
	}
	return nil
}

// WriteJSON writes the manifest entry by entry: as one value, 32 Ki of them would fill 64 MB in the encoder alone.
func (m *Manifest) WriteJSON(to io.Writer) error {
	head := *m
	head.Entries = []Entry{}
	b, err := json.MarshalIndent(head, "", "  ")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(to)
	out.Write(bytes.TrimSuffix(b, []byte("]\n}")))
	for i := range m.Entries {
		separator := ",\n    "
		if i == 0 {
			separator = "\n    "
		}
		if b, err = json.Marshal(&m.Entries[i]); err != nil {
			return err
		}
		out.WriteString(separator)
		out.Write(b)
	}
	out.WriteString("\n  ]\n}\n")
	return out.Flush()
}

// kind is the file type of e.
func (e *Entry) kind() uint32 { return e.Mode & typeMask }

// Lookup finds what a kernel leaves at name after unpacking: the last entry of that name.
func (m *Manifest) Lookup(name string) (Entry, bool) {
	name = cleanName(name)
	for i := len(m.Entries) - 1; i >= 0; i-- {
		if cleanName(m.Entries[i].Name) == name && m.Entries[i].Lost == "" {
			return m.Entries[i], true
		}
	}
	return Entry{}, false
}

// segmentOf gives the place of an archive: which segment holds it, and which of its archives it is.
func (m *Manifest) segmentOf(archive int) (segment, nth int) {
	for i := range m.Segments {
		n := len(m.Segments[i].Archives)
		if archive < n {
			return i, archive
		}
		archive -= n
	}
	return len(m.Segments), archive
}

// cleanName makes "./a", "/a" and "a/" one name.
func cleanName(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}
