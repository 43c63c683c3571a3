package storm

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// kept is how much of a file a machine looks at: a script, or the head of a program.
const kept = 64 << 10

// maxFile ends a transfer that does not end.
const maxFile = 4 << 30

// patience is how long a loader waits for the next packet or byte.
const patience = 5 * time.Second

func isURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// fetch gets a file by URL or, for any other name, by TFTP from the machine's server with a loader's usual options.
func (s *session) fetch(name string) ([]byte, error) {
	switch rest, ok := strings.CutPrefix(name, "tftp://"); {
	case isURL(name):
		return s.http("GET", name)
	case ok:
		host, path, _ := strings.Cut(rest, "/")
		if a, err := netip.ParseAddr(host); err == nil {
			s.server = a
		}
		return s.tftp(path, []string{"blksize", "1432", "tsize", "0"})
	}
	return s.tftp(name, []string{"blksize", "1432", "tsize", "0"})
}

var client = &http.Client{
	Timeout: 10 * time.Minute,
	// shim and firmware follow no redirect.
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// http asks by URL and reads the whole answer; a machine that says HEAD reads none.
func (s *session) http(method, target string) ([]byte, error) {
	if s.files != nil {
		return s.files(target)
	}
	q := Request{Proto: "http", Asked: method + " " + target}
	began := time.Now()
	body, err := s.httpBody(method, target, &q)
	q.Took = time.Since(began)
	if err != nil {
		q.Failed = true
		if q.Answer == "" {
			q.Answer = err.Error()
		}
	}
	s.note(q)
	return body, err
}

func (s *session) httpBody(method, target string, q *Request) ([]byte, error) {
	if _, err := url.Parse(target); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(s.ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", s.agent())
	a, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	sum := sha256.New()
	head, n, err := read(io.TeeReader(a.Body, sum))
	if q.Bytes, q.Answer = n, a.Status; n > 0 {
		q.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("after %d bytes: %w", n, err)
	case a.StatusCode != http.StatusOK:
		return nil, errors.New(a.Status)
	case method == "GET" && a.ContentLength >= 0 && n != a.ContentLength:
		return nil, fmt.Errorf("%d bytes of %d", n, a.ContentLength)
	}
	return head, nil
}

// agent is how the running program calls itself.
func (s *session) agent() string {
	if s.log.Loader == "firmware" {
		return "UefiHttpBoot/1.0"
	}
	return s.log.Loader + " (muster storm)"
}

// read keeps the beginning and counts the rest.
func read(r io.Reader) ([]byte, int64, error) {
	head, err := io.ReadAll(io.LimitReader(r, kept))
	n := int64(len(head))
	if err == nil && n == kept {
		var more int64
		more, err = io.Copy(io.Discard, io.LimitReader(r, maxFile))
		n += more
	}
	return head, n, err
}

// Operations of TFTP (RFC 1350 section 5, RFC 2347).
const (
	opRead  = 1
	opData  = 3
	opAck   = 4
	opError = 5
	opOAck  = 6
)

// ReadTFTP reads the head of a file from a server's port 69, as a loader does.
func ReadTFTP(ctx context.Context, server netip.Addr, name string) ([]byte, error) {
	s := &session{ctx: ctx, server: server}
	return s.tftp(name, []string{"blksize", "1432", "tsize", "0"})
}

// tftpSize asks for a file's size and gives the transfer up with ERROR 8, as EDK2 does.
func (s *session) tftpSize(name string) error {
	_, err := s.transfer(name, []string{"tsize", "0", "blksize", "1468", "windowsize", "4"}, true)
	return err
}

func (s *session) tftp(name string, words []string) ([]byte, error) {
	return s.transfer(name, words, false)
}

// transfer reads a file and notes it.
func (s *session) transfer(name string, words []string, sizeOnly bool) ([]byte, error) {
	if s.files != nil {
		return s.files(name)
	}
	q := Request{Proto: "tftp", Asked: name}
	for i := 0; i+1 < len(words); i += 2 {
		q.Asked += " " + words[i] + "=" + words[i+1]
	}
	began := time.Now()
	t := &transfer{size: 512, window: 1, want: 1, sizeOnly: sizeOnly}
	err := t.run(s, netip.AddrPortFrom(s.server, 69), name, words)
	q.Took, q.Bytes, q.Answer = time.Since(began), t.bytes, t.answer
	if err != nil {
		q.Failed, q.Answer = true, err.Error()
	}
	s.note(q)
	return t.head, err
}

// A transfer is one read of a file (RFC 1350, 2347 to 2349, 7440).
type transfer struct {
	conn         *net.UDPConn
	to           netip.AddrPort // the service, then the transfer's own port
	size, window int
	sizeOnly     bool
	last         []byte // sent, and sent again when nothing comes
	want         uint16 // the next block
	inWindow     int    // blocks since the last ACK
	head         []byte
	bytes        int64
	answer       string
}

func (t *transfer) run(s *session, service netip.AddrPort, name string, words []string) error {
	if !service.Addr().IsValid() {
		return errors.New("no TFTP server is known: no siaddr and no server id in the offer")
	}
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer stop()
	t.conn, t.to = conn, service
	ask := append([]byte{0, opRead}, name+"\x00octet\x00"...)
	for _, w := range words {
		ask = append(ask, w+"\x00"...)
	}
	if err := t.send(ask); err != nil {
		return err
	}
	return t.packets()
}

// packets takes packets until the file is there or the server falls silent.
func (t *transfer) packets() error {
	buf := make([]byte, 1<<16)
	for tries := 0; tries <= 5; {
		op, body, err := t.next(buf)
		before := t.want
		done := false
		switch {
		case errors.Is(err, errSilence):
			tries, t.inWindow = tries+1, 0
			err = t.send(t.last)
		case err == nil:
			done, err = t.packet(op, body)
		}
		if done || err != nil {
			return err
		}
		if t.want != before {
			tries = 0
		}
	}
	return fmt.Errorf("no answer after %d bytes", t.bytes)
}

// packet takes one, and says whether it was the last.
func (t *transfer) packet(op uint16, body []byte) (bool, error) {
	switch {
	case op == opError:
		return true, tftpError(body)
	case op == opOAck && t.want == 1 && t.bytes == 0:
		if err := t.agree(body); err != nil {
			return true, err
		}
		if t.sizeOnly {
			return true, t.send([]byte{0, opError, 0, 8, 0}) // user aborted the transfer (EDK2)
		}
		return false, t.send(ack(0))
	case op == opData && len(body) >= 2:
		return t.block(binary.BigEndian.Uint16(body), body[2:])
	}
	return false, nil
}

// block takes one of the file. Of one that is not the next, the sender is told what came last, once for a window
// (RFC 7440 section 4); a doubled one is passed over (RFC 1123 section 4.2.3.1).
func (t *transfer) block(n uint16, data []byte) (bool, error) {
	if n != t.want {
		if n == t.want-1 || t.window == 1 {
			return false, nil
		}
		t.inWindow = 0
		return false, t.send(ack(t.want - 1))
	}
	if len(data) > t.size {
		return true, fmt.Errorf("block %d has %d bytes of %d", n, len(data), t.size)
	}
	t.take(data)
	t.want++
	t.inWindow++
	last := len(data) < t.size
	switch {
	case t.bytes > maxFile:
		return true, fmt.Errorf("more than %d bytes", int64(maxFile))
	case last || t.inWindow >= t.window:
		t.inWindow = 0
		return last, t.send(ack(n))
	}
	return false, nil
}

func (t *transfer) send(b []byte) error {
	t.last = b
	_, err := t.conn.WriteToUDPAddrPort(b, t.to)
	return err
}

func ack(n uint16) []byte { return binary.BigEndian.AppendUint16([]byte{0, opAck}, n) }

var errSilence = errors.New("silence")

// next gives a packet of the transfer; those of other ports are passed over.
func (t *transfer) next(buf []byte) (op uint16, body []byte, err error) {
	t.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		n, from, err := t.conn.ReadFromUDPAddrPort(buf)
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return 0, nil, errSilence
		case err != nil:
			return 0, nil, err
		case n < 4 || from.Addr().Unmap() != t.to.Addr() || t.to.Port() != 69 && from.Port() != t.to.Port():
			continue
		}
		t.to = netip.AddrPortFrom(t.to.Addr(), from.Port())
		return binary.BigEndian.Uint16(buf), buf[2:n], nil
	}
}

// agree reads the options that the server took.
func (t *transfer) agree(b []byte) error {
	words := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	t.answer = "OACK"
	for i := 0; i+1 < len(words); i += 2 {
		t.answer += " " + words[i] + "=" + words[i+1]
		n, err := strconv.Atoi(words[i+1])
		if err != nil || n < 0 {
			return fmt.Errorf("OACK says %s=%q", words[i], words[i+1])
		}
		switch strings.ToLower(words[i]) {
		case "blksize":
			t.size = n
		case "windowsize":
			t.window = max(1, n)
		}
	}
	return nil
}

func (t *transfer) take(data []byte) {
	t.bytes += int64(len(data))
	if room := kept - len(t.head); room > 0 {
		t.head = append(t.head, data[:min(room, len(data))]...)
	}
	if t.answer == "" {
		t.answer = "DATA"
	}
}

func tftpError(b []byte) error {
	if len(b) < 2 {
		return errors.New("ERROR cut short")
	}
	return fmt.Errorf("ERROR %d %s", binary.BigEndian.Uint16(b), oneLine(strings.TrimRight(string(b[2:]), "\x00")))
}

// note keeps a request, up to a bound.
func (s *session) note(q Request) {
	if len(s.log.Requests) < maxRequests {
		s.log.Requests = append(s.log.Requests, q)
	}
}

// say keeps a line of the screen.
func (s *session) say(line string) {
	if len(s.log.Screen) < maxRequests {
		s.log.Screen = append(s.log.Screen, oneLine(line))
	}
}
