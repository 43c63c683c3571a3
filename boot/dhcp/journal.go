package dhcp

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"muster/boot"
)

// A journal is the lease file: one line for each change, the last line for a machine or an address counts.
//
//	52:54:00:12:34:56 192.0.2.91 1767225600 5ab27b50
//
// is the machine (all zero: quarantined), the address, the end in seconds since 1970, and the CRC-32 of the line before
// it, so that a line torn by a power cut is known as such. Lines that wait together share one write and one sync.
type journal struct {
	name     string
	snapshot func() []binding

	mu    sync.Mutex
	batch *batch // collecting; nil: none

	disk  sync.Mutex // held while writing
	file  *os.File
	lines int  // in the file
	begun int  // lines when the file was new
	dirty bool // a write failed: nothing may be appended behind it
	ended bool // closed: the file may be another server's now
}

// A batch is what one sync makes durable.
type batch struct {
	text  []byte
	lines int
	done  chan struct{}
	err   error // set when done is closed
}

// rewriteAt is how many lines more than at its beginning a file may have before it is written anew.
const rewriteAt = 20000

// openJournal writes a new file with what snapshot gives.
func openJournal(name string, snapshot func() []binding) (*journal, error) {
	j := &journal{name: name, snapshot: snapshot}
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	return j, nil
}

// add puts a line into the next write; the result waits for it. The first who waits does the writing.
func (j *journal) add(b binding) func() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	lead := j.batch == nil
	if lead {
		j.batch = &batch{done: make(chan struct{})}
	}
	mine := j.batch
	mine.text = appendLine(mine.text, b)
	mine.lines++
	return func() error {
		if lead {
			j.flush(mine)
		}
		<-mine.done
		return mine.err
	}
}

// flush waits for the write before, while others still join, and writes the batch.
func (j *journal) flush(b *batch) {
	j.disk.Lock()
	defer j.disk.Unlock()
	j.mu.Lock()
	j.batch = nil
	j.mu.Unlock()
	b.err = j.write(b)
	close(b.done)
}

// write makes a batch durable. A file grown too long, or with a failed write at its end, is written anew: that holds
// the batch, as the leases have it already.
func (j *journal) write(b *batch) error {
	if j.ended {
		return fmt.Errorf("write lease file: %w", os.ErrClosed)
	}
	if j.dirty || j.lines-j.begun > rewriteAt {
		return j.rewrite()
	}
	if _, err := j.file.Write(b.text); err != nil {
		j.dirty = true
		return fmt.Errorf("write lease file: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		j.dirty = true
		return fmt.Errorf("sync lease file: %w", err)
	}
	j.lines += b.lines
	return nil
}

// rewrite replaces the file by one line for each binding. After a failure the old file stays, and the next write
// begins here again.
func (j *journal) rewrite() (err error) {
	defer func() { j.dirty = err != nil }()
	list := j.snapshot()
	var text []byte
	for _, b := range list {
		text = appendLine(text, b)
	}
	next, err := os.OpenFile(j.name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite lease file: %w", err)
	}
	_, err = next.Write(text)
	err = errors.Join(err, next.Sync())
	if err == nil {
		err = os.Rename(j.name+".new", j.name)
	}
	if err = errors.Join(err, syncDir(filepath.Dir(j.name))); err != nil {
		next.Close()
		return fmt.Errorf("rewrite lease file: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, j.lines, j.begun = next, len(list), len(list)
	return nil
}

func (j *journal) close() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	j.ended = true
	return j.file.Close()
}

// syncDir makes a rename durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// appendLine writes a line with its end.
func appendLine(text []byte, b binding) []byte {
	begin := len(text)
	text = append(text, b.mac.String()...)
	text = toAddr(b.addr).AppendTo(append(text, ' '))
	text = strconv.AppendInt(append(text, ' '), b.until.Unix(), 10)
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE(text[begin:]))
	text = hex.AppendEncode(append(text, ' '), sum[:])
	return append(text, '\n')
}

// parseLine reads a line without its end.
func parseLine(line string) (binding, error) {
	text, check, _ := cutLast(line)
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) != check {
		return binding{}, fmt.Errorf("read lease %.80q: checksum differs", line)
	}
	f := strings.Split(text, " ")
	if len(f) != 3 {
		return binding{}, fmt.Errorf("read lease %.80q: want three fields", line)
	}
	mac, errMAC := boot.ParseMAC(f[0])
	addr, errAddr := netip.ParseAddr(f[1])
	until, errUntil := strconv.ParseInt(f[2], 10, 64)
	if err := errors.Join(errMAC, errAddr, errUntil); err != nil || !addr.Is4() {
		return binding{}, fmt.Errorf("read lease %.80q: %w", line, errors.Join(err, errors.New("want MAC, IPv4, seconds")))
	}
	return binding{mac: mac, addr: toUint(addr), until: time.Unix(until, 0), leased: !mac.IsZero()}, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// replay gives the bindings of a file in order, and how many lines could not be read. No file is an empty one.
func replay(name string, put func(binding)) (lost int, err error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read lease file: %w", err)
	}
	defer f.Close()
	return readLines(f, put)
}

// readLines reads lines of bounded length; a longer one is lost as a whole.
func readLines(in io.Reader, put func(binding)) (lost int, err error) {
	r := bufio.NewReaderSize(in, 4096)
	for {
		line, long, err := r.ReadLine()
		if errors.Is(err, io.EOF) {
			return lost, nil
		}
		if err != nil {
			return lost, fmt.Errorf("read lease file: %w", err)
		}
		b, bad := parseLine(string(line))
		if long || bad != nil {
			lost++
		} else {
			put(b)
		}
		for long && err == nil {
			_, long, err = r.ReadLine()
		}
	}
}
