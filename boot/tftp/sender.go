package tftp

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
)

// Retransmission. A packet is sent again after 1, 2, and then every 4 seconds; a silent reader is given up after 59 s.
// That long, because GRUB 2.12 opens the ramdisk and reads it only when the kernel's EFI stub asks for it (LoadFile2):
// the kernel's signature is checked between. A reader that agreed on a time-out of its own has six tries. While nobody
// has answered from the reader's port, its address may be forged: it gets a packet at most three times.
const (
	beat         = 1 * time.Second
	tries        = 16
	triesAgreed  = 6
	triesUnheard = 3
	readAhead    = 64 << 10 // bytes of the file read at once
)

// How a transfer ends early. The reader's own ERROR is a peerError.
var (
	errSilent  = errors.New("the client fell silent")
	errGone    = errors.New("the client closed its port")
	errStopped = errors.New("the server stops")
	errSlow    = errors.New("the client is too slow")
	errEarly   = errors.New("the file ended early")
)

// A peerError is an ERROR packet of the reader.
type peerError struct {
	code uint16
	text string
}

func (e *peerError) Error() string { return fmt.Sprintf("error %d %q", e.code, e.text) }

// A wire carries the packets of one transfer.
type wire interface {
	write(packets [][]byte) error                   // in this order
	read(p []byte, wait time.Duration) (int, error) // os.ErrDeadlineExceeded: none came
}

// A sender gives a file to one reader, in windows (RFC 7440); without one agreed a window is one block, as in RFC 1350.
type sender struct {
	terms
	ctx   context.Context
	wire  wire
	file  io.Reader
	beat  time.Duration
	heard func() // called when the reader has answered

	answered bool
	acked    uint64 // blocks that the reader has; block n has the number n mod 65536
	filled   uint64 // blocks read from the file
	last     uint64 // the last block, once it is read
	bytes    int64  // of data that the reader has
	ring     [][]byte
	queue    [][]byte // the window as it is sent
	in       [516]byte
	lost     error // of the last write
	broken   error // of the file
}

func newSender(ctx context.Context, t terms, w wire, file io.Reader, heard func()) *sender {
	s := &sender{terms: t, ctx: ctx, wire: w, file: file, beat: beat, heard: heard}
	if t.block < readAhead/4 {
		s.file = bufio.NewReaderSize(file, readAhead)
	}
	slots := make([]byte, (t.window+1)*(4+t.block))
	for i := range t.window + 1 {
		s.ring = append(s.ring, slots[i*(4+t.block):(i+1)*(4+t.block)])
	}
	return s
}

// run sends the whole file. The OACK is block 0: the reader acknowledges it with that number.
func (s *sender) run() error {
	if s.oack != nil {
		s.queue = append(s.queue, s.oack)
		if err := s.exchange(func(n uint16) bool { return n == 0 }); err != nil {
			return err
		}
	}
	for s.last == 0 || s.acked < s.last {
		if err := s.fill(s.acked + uint64(s.window)); err != nil {
			_ = s.wire.write([][]byte{refusal{codeUndefined, "Read error"}.packet()}) // the reader would find out by waiting
			return err
		}
		s.enqueue()
		if err := s.exchange(s.progress); err != nil {
			return err
		}
	}
	return nil
}

// slot is the place of a block in the ring, header included. The last block leaves its end unused.
func (s *sender) slot(block uint64) []byte { return s.ring[block%uint64(len(s.ring))] }

// fill reads blocks of the file up to that one.
func (s *sender) fill(until uint64) error {
	for s.last == 0 && s.filled < until && s.broken == nil {
		slot := s.slot(s.filled + 1)
		n, err := io.ReadFull(s.file, slot[4:])
		switch {
		case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
			s.last = s.filled + 1
			s.ring[s.last%uint64(len(s.ring))] = slot[:4+n]
		case err != nil:
			s.broken = err
			return err // what was read of the block is gone: no second try
		}
		s.filled++
		binary.BigEndian.PutUint16(slot, opData)
		binary.BigEndian.PutUint16(slot[2:], uint16(s.filled))
	}
	return s.broken
}

// enqueue takes the blocks of the window that the reader lacks: what was sent and lost, too.
func (s *sender) enqueue() {
	s.queue = s.queue[:0]
	for b := s.acked + 1; b <= min(s.filled, s.acked+uint64(s.window)); b++ {
		s.queue = append(s.queue, s.slot(b))
	}
}

// progress takes an acknowledgement of a block in flight. One that was taken before is a duplicate: answering it would
// send every block twice from then on (RFC 1123 section 4.2.3.1).
func (s *sender) progress(n uint16) bool {
	more := uint64(n - uint16(s.acked))
	if more == 0 || more > uint64(len(s.queue)) {
		return false
	}
	for range more {
		s.acked++
		s.bytes += int64(len(s.slot(s.acked)) - 4)
	}
	return true
}

// exchange sends the queue until the reader acknowledges something of it.
func (s *sender) exchange(accept func(uint16) bool) error {
	for try := 0; try < s.tries(); try++ {
		err := s.wire.write(s.queue)
		switch {
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case errors.Is(err, syscall.ECONNREFUSED):
			return errGone
		default:
			s.lost = err // a link that is down for a moment loses packets too
		}
		_ = s.fill(s.filled + s.spare()) // while the window travels; an error is told with the next window
		if err := s.await(accept, s.patience(try)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	if s.lost != nil {
		return fmt.Errorf("%w; the last packet to it was not sent: %w", errSilent, s.lost)
	}
	return errSilent
}

// spare is how many slots of the ring the window leaves free.
func (s *sender) spare() uint64 { return s.acked + uint64(len(s.ring)) - s.filled }

func (s *sender) tries() int {
	switch {
	case !s.answered:
		return triesUnheard
	case s.wait > 0:
		return triesAgreed
	}
	return tries
}

func (s *sender) patience(try int) time.Duration {
	if s.wait > 0 {
		return s.wait
	}
	return s.beat << min(try, 2)
}

// await reads until accept takes an acknowledgement.
func (s *sender) await(accept func(uint16) bool, wait time.Duration) error {
	for end := time.Now().Add(wait); wait > 0; wait = time.Until(end) {
		n, err := s.wire.read(s.in[:], wait)
		switch {
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case errors.Is(err, syscall.ECONNREFUSED):
			return errGone
		case err != nil:
			return err
		case n < 4:
			continue
		}
		word := binary.BigEndian.Uint16(s.in[2:])
		switch binary.BigEndian.Uint16(s.in[:]) {
		case opAck:
			if accept(word) {
				s.hear()
				return nil
			}
		case opError:
			text, _, _ := strings.Cut(string(s.in[4:n]), "\x00")
			return &peerError{word, text}
		}
	}
	return os.ErrDeadlineExceeded
}

func (s *sender) hear() {
	if !s.answered {
		s.answered = true
		s.heard()
	}
}
