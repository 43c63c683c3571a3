package tftp

import (
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
	write(packets []byte, each int) error           // each so long, but the last may be shorter
	read(p []byte, wait time.Duration) (int, error) // os.ErrDeadlineExceeded: none came
}

// A sender gives a file to one reader, in windows (RFC 7440); without one agreed a window is one block, as in RFC 1350.
type sender struct {
	terms
	ctx   context.Context
	wire  wire
	batch *batch
	beat  time.Duration
	heard func() // called when the reader has answered

	answered bool
	acked    uint64 // blocks that the reader has; block n has the number n mod 65536
	sent     uint64 // blocks that it has or that are on their way
	in       [516]byte
	lost     error // of the last write
	broken   error // of the file
}

func newSender(ctx context.Context, t terms, w wire, file io.ReaderAt, heard func()) *sender {
	return &sender{terms: t, ctx: ctx, wire: w, batch: newBatch(file, t), beat: beat, heard: heard}
}

// run sends the whole file. The OACK is block 0: the reader acknowledges it with that number.
func (s *sender) run() error {
	if s.oack != nil {
		err := s.exchange(func() error { return s.wire.write(s.oack, len(s.oack)) }, func(n uint16) bool { return n == 0 })
		if err != nil {
			return err
		}
	}
	for !s.batch.end(s.acked + 1) {
		if err := s.exchange(s.sendWindow, s.progress); err != nil {
			return err
		}
	}
	return nil
}

// sendWindow sends all that the reader lacks of the window: what was sent and lost, too.
func (s *sender) sendWindow() (lost error) {
	s.sent = s.acked
	for most := s.acked + uint64(s.window); s.sent < most && !s.batch.end(s.sent+1); {
		packets, count, err := s.batch.packets(s.sent+1, most)
		if err != nil {
			s.broken = err
			return nil
		}
		if err := s.wire.write(packets, s.batch.each()); err != nil {
			lost = err
		}
		s.sent += count
	}
	return lost
}

// progress takes an acknowledgement of a block in flight. One that was taken before is a duplicate: answering it would
// send every block twice from then on (RFC 1123 section 4.2.3.1).
func (s *sender) progress(n uint16) bool {
	more := uint64(n - uint16(s.acked))
	if more == 0 || more > s.sent-s.acked {
		return false
	}
	s.acked += more
	return true
}

// bytes is how much data the reader has.
func (s *sender) bytes() int64 {
	if s.acked == s.batch.last && s.acked > 0 {
		return s.batch.size
	}
	return int64(s.acked) * int64(s.block)
}

// exchange sends until the reader acknowledges something of it.
func (s *sender) exchange(send func() error, accept func(uint16) bool) error {
	for try := 0; try < s.tries(); try++ {
		err := send()
		switch {
		case s.ctx.Err() != nil:
			return context.Cause(s.ctx)
		case s.broken != nil:
			s.tell("Read error")
			return s.broken
		case errors.Is(err, syscall.ECONNREFUSED):
			return errGone
		default:
			s.lost = err // a link that is down for a moment loses packets too
		}
		s.batch.prepare(s.sent + 1) // while the window travels
		if err := s.await(accept, s.patience(try)); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	if s.lost != nil {
		return fmt.Errorf("%w; the last packet to it was not sent: %w", errSilent, s.lost)
	}
	return errSilent
}

// tell sends an ERROR: else the reader would find out by waiting.
func (s *sender) tell(text string) {
	p := refusal{codeUndefined, text}.packet()
	_ = s.wire.write(p, len(p))
}

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
