package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A script is a wire that answers as told and takes the time that waiting takes; under synctest that is none.
type script struct {
	began   time.Time
	sent    []time.Duration // when each packet was sent
	blocks  []uint16
	answer  func(packets [][]byte) [][]byte // to what was written, all packets of a window together
	waiting [][]byte
	err     error // of writing
}

func (s *script) write(written []byte, each int) error {
	packets := slices.Collect(slices.Chunk(written, each))
	for _, p := range packets {
		s.sent = append(s.sent, time.Since(s.began))
		if p[1] == opData {
			s.blocks = append(s.blocks, binary.BigEndian.Uint16(p[2:]))
		}
	}
	s.waiting = append(s.waiting, s.answer(packets)...)
	return s.err
}

func (s *script) read(p []byte, wait time.Duration) (int, error) {
	if len(s.waiting) == 0 {
		time.Sleep(wait)
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(p, s.waiting[0])
	s.waiting = s.waiting[1:]
	return n, nil
}

func ackOf(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0, opAck}, n) }

func silence([][]byte) [][]byte { return nil }

// once answers the first packets, and then no more.
func once(answers ...[]byte) func([][]byte) [][]byte {
	return func([][]byte) [][]byte {
		if len(answers) == 0 {
			return nil
		}
		first := answers[0]
		answers = answers[1:]
		return [][]byte{first}
	}
}

func TestSilentReaderIsGivenUp(t *testing.T) {
	s := time.Second
	down := syscall.ENETUNREACH
	for _, row := range []struct {
		name   string
		terms  terms
		answer func([][]byte) [][]byte
		err    error
		sent   []time.Duration
		end    time.Duration
		want   error
	}{
		{"T15: one that was never heard after three packets", terms{block: 512, window: 1}, silence, nil,
			[]time.Duration{0, s, 3 * s}, 7 * s, errSilent},
		{"T15: so with options", terms{block: 512, window: 64, oack: []byte{0, 6}}, silence, nil,
			[]time.Duration{0, s, 3 * s}, 7 * s, errSilent},
		{"one that has answered after a minute", terms{block: 512, window: 1}, once(ackOf(1)), nil,
			[]time.Duration{0, 0, s, 3 * s, 7 * s, 11 * s, 15 * s, 19 * s, 23 * s, 27 * s, 31 * s, 35 * s, 39 * s, 43 * s, 47 * s, 51 * s, 55 * s}, 59 * s, errSilent},
		{"T16: at the pace that was agreed", terms{block: 512, window: 1, wait: 3 * s}, once(ackOf(1)), nil,
			[]time.Duration{0, 0, 3 * s, 6 * s, 9 * s, 12 * s, 15 * s}, 18 * s, errSilent},
		{"a link that is down is waited for as long", terms{block: 512, window: 1}, silence, down,
			[]time.Duration{0, s, 3 * s}, 7 * s, down},
		{"a port that is closed ends at once", terms{block: 512, window: 1}, silence, syscall.ECONNREFUSED,
			[]time.Duration{0}, 0, errGone},
		{"packets that mean nothing gain no time", terms{block: 512, window: 1}, once([]byte{0, opData, 0, 1}), nil,
			[]time.Duration{0, s, 3 * s}, 7 * s, errSilent},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				wire := &script{began: time.Now(), answer: row.answer, err: row.err}
				err := newSender(t.Context(), row.terms, wire, bytes.NewReader(noise(2000)), func() {}).run()
				if !errors.Is(err, row.want) {
					t.Errorf("run = %v; want %v", err, row.want)
				}
				if d := cmp.Diff(row.sent, wire.sent); d != "" {
					t.Errorf("packets were sent at (-want +got):\n%s", d)
				}
				if end := time.Since(wire.began); end != row.end {
					t.Errorf("ended after %v; want %v", end, row.end)
				}
			})
		})
	}
}

func TestLostWindowIsSentAgainFromTheLastAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := once(ackOf(4), ackOf(4), ackOf(6), ackOf(10)) // the second is a duplicate: blocks 5 to 8 got lost
		wire := &script{began: time.Now(), answer: answers}
		if err := newSender(t.Context(), terms{block: 8, window: 4}, wire, bytes.NewReader(noise(77)), func() {}).run(); err != nil {
			t.Fatal(err)
		}
		want := []uint16{1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8, 7, 8, 9, 10}
		if d := cmp.Diff(want, wire.blocks); d != "" {
			t.Errorf("blocks (-want +got):\n%s", d)
		}
		if took := time.Since(wire.began); took != time.Second {
			t.Errorf("took %v; want the one time-out of the lost window", took)
		}
	})
}

// A flaky file can not be read at times.
type flaky struct {
	bytes.Reader
	reads int
	fails func(read int) bool
}

func (f *flaky) ReadAt(p []byte, at int64) (int, error) {
	if f.reads++; f.fails(f.reads) {
		n, _ := f.Reader.ReadAt(p[:2], at)
		return n, syscall.EIO
	}
	return f.Reader.ReadAt(p, at)
}

func TestFileThatCannotBeReadHasNoHole(t *testing.T) {
	for _, row := range []struct {
		name  string
		fails func(read int) bool
		want  error
	}{
		{"what fails ahead of time is read again", func(n int) bool { return n == 2 }, nil},
		{"what fails when it is needed ends the transfer", func(n int) bool { return n >= 2 }, syscall.EIO},
		{"at once, too", func(n int) bool { return n >= 1 }, syscall.EIO},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				data, got := noise(100_000), []byte(nil)
				wire := &script{answer: func(out [][]byte) [][]byte {
					if out[0][1] == opError {
						return nil
					}
					got = append(got, out[0][4:]...)
					return [][]byte{ackOf(binary.BigEndian.Uint16(out[0][2:]))}
				}}
				file := &flaky{fails: row.fails}
				file.Reset(data)
				err := newSender(t.Context(), terms{block: 32 << 10, window: 1}, wire, file, func() {}).run()
				if !errors.Is(err, row.want) || !bytes.HasPrefix(data, got) || row.want == nil && len(got) != len(data) {
					t.Errorf("run = %v with %d bytes of the file: %t; want %v", err, len(got), bytes.HasPrefix(data, got), row.want)
				}
			})
		})
	}
}

// FuzzReader is the other half of Z3: whatever a reader sends, it is given blocks of the file only, and no packet more
// than once for what it acknowledged.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x00\x04\x00\x01\x00\x04\x00\x02"), byte(1))
	f.Add([]byte("\x00\x04\x00\x04\x00\x04\x00\x04\x00\x04\x00\x03\x00\x04\xff\xff"), byte(4))
	f.Add([]byte("\x00\x05\x00\x00\x00\x04\x00\x01"), byte(64))
	f.Fuzz(func(t *testing.T, packets []byte, window byte) {
		synctest.Test(t, func(t *testing.T) { // a machine that stops for a second is no reader that falls silent
			file := noise(100)
			agreed := terms{block: 8, window: max(1, int(window)%65)}
			said := slices.Collect(slices.Chunk(packets, 4))
			sent := 0
			wire := &script{answer: func(out [][]byte) [][]byte {
				sent += len(out)
				for _, p := range out {
					n := int(binary.BigEndian.Uint16(p[2:]))
					if n < 1 || n > 13 || p[1] != opData || !bytes.Equal(p[4:], file[(n-1)*8:min(n*8, len(file))]) {
						t.Fatalf("sent %q: not block %d of the file", p, n)
					}
				}
				answers := said
				said = nil
				return answers
			}}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s := newSender(ctx, agreed, &hasty{wire, cancel}, bytes.NewReader(file), func() {})
			err := s.run()
			if s.bytes() > int64(len(file)) || err == nil && s.bytes() != int64(len(file)) {
				t.Errorf("run = %v with %d bytes acknowledged of %d", err, s.bytes(), len(file))
			}
			if most := (len(packets)/4 + 1) * agreed.window; sent > most {
				t.Errorf("%d packets for %d of the reader; want at most %d", sent, len(packets)/4, most)
			}
		})
	})
}

// hasty ends the transfer instead of waiting.
type hasty struct {
	*script
	stop context.CancelCauseFunc
}

func (h *hasty) read(p []byte, wait time.Duration) (int, error) {
	if len(h.waiting) == 0 {
		h.stop(errStopped)
		return 0, os.ErrDeadlineExceeded
	}
	return h.script.read(p, wait)
}
