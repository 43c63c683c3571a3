package tftp

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"
)

// Codes of RFC 1350, and of RFC 2347 for the last two.
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOACK  = 6

	codeUndefined = 0
	codeMissing   = 1
	codeAccess    = 2
	codeIllegal   = 4
	codeOptions   = 8
)

// Bounds of options. A value outside of them is as if not asked.
const (
	maxRequest  = 548              // bytes of a request: what every host takes in one piece (RFC 791); RFC 2347 asks for 512
	minBlock    = 8                // RFC 2348
	maxBlock    = 65464            // RFC 2348
	plainBlock  = 512              // RFC 1350: what a block holds when none was agreed
	maxWait     = 30 * time.Second // of 255 s (RFC 2349): a silent reader holds its place for several of them
	maxInFlight = 1 << 20          // bytes of a window: kept in memory until they are acknowledged
)

// A request is a read request.
type request struct {
	name    string
	mode    string
	options []option // as asked, each name once
	size    int      // bytes of the packet
}

type option struct {
	name  string
	value uint64
}

// Terms are what a request and the server agree on.
type terms struct {
	block  int
	window int           // blocks sent before an acknowledgement is waited for
	wait   time.Duration // before a packet is sent again; 0: the server's own
	oack   []byte        // what says so; nil: nothing was agreed beyond RFC 1350
}

// A refusal is an ERROR packet.
type refusal struct {
	code uint16
	text string
}

func (r refusal) packet() []byte {
	b := binary.BigEndian.AppendUint16(nil, opError)
	b = binary.BigEndian.AppendUint16(b, r.code)
	return append(append(b, r.text...), 0)
}

// isAnswer says that a packet is half of someone's conversation. Answering it could make two servers talk for ever.
func isAnswer(p []byte) bool { return len(p) >= 2 && binary.BigEndian.Uint16(p) > opWrite }

// parseRequest reads a packet from the service port.
func parseRequest(p []byte) (request, *refusal) {
	if len(p) < 4 || len(p) > maxRequest || p[len(p)-1] != 0 {
		return request{}, &refusal{codeIllegal, "Illegal TFTP operation"}
	}
	words := strings.Split(string(p[2:len(p)-1]), "\x00")
	switch op := binary.BigEndian.Uint16(p); {
	case op == opWrite:
		return request{name: words[0]}, &refusal{codeAccess, "Access violation"}
	case op != opRead || len(words) < 2 || words[0] == "":
		return request{}, &refusal{codeIllegal, "Illegal TFTP operation"}
	}
	q := request{name: words[0], mode: strings.ToLower(words[1]), size: len(p)}
	if q.mode != "octet" && q.mode != "netascii" {
		return request{name: q.name}, &refusal{codeIllegal, "Unknown transfer mode"}
	}
	q.options = parseOptions(words[2:])
	return q, nil
}

// parseOptions reads pairs of words. Names have no case (RFC 2347), the first of two equal ones counts, and a value
// that is no number is as if not asked.
func parseOptions(words []string) []option {
	var list []option
	seen := map[string]bool{}
	for i := 0; i+1 < len(words); i += 2 {
		name := strings.ToLower(words[i])
		if seen[name] {
			continue
		}
		seen[name] = true
		if n, err := strconv.ParseUint(words[i+1], 10, 63); err == nil {
			list = append(list, option{name, n})
		}
	}
	return list
}

// agree answers the options in the order they were asked, for a file of size bytes; block and window are the most that
// this server gives. The answer is never longer than the request, whose sender may be forged: where a long size would
// make it so, the size is left out.
func (q request) agree(size int64, block, window int) terms {
	t := q.terms(size, block, window)
	if len(t.oack) > q.size {
		t = q.terms(-1, block, window)
	}
	return t
}

func (q request) terms(size int64, block, window int) terms {
	t := terms{block: q.block(block), window: 1}
	for _, o := range q.options {
		switch n := o.value; {
		case o.name == "blksize" && n >= minBlock && n <= maxBlock:
			t.accept(o.name, int64(t.block))
		case o.name == "tsize" && q.mode == "octet" && size >= 0: // netascii grows on the way
			t.accept(o.name, size)
		case o.name == "timeout" && n >= 1 && n <= uint64(maxWait/time.Second):
			t.wait = time.Duration(n) * time.Second
			t.accept(o.name, int64(n))
		case o.name == "windowsize" && q.mode == "octet" && n >= 1 && n <= 65535: // RFC 7440; text is read once only
			t.window = min(int(n), window, max(1, maxInFlight/t.block))
			t.accept(o.name, int64(t.window))
		}
	}
	return t
}

// block is the size of a block, of which the room for a window depends wherever it is asked.
func (q request) block(most int) int {
	for _, o := range q.options {
		if o.name == "blksize" && o.value >= minBlock && o.value <= maxBlock {
			return min(int(o.value), most)
		}
	}
	return plainBlock
}

func (t *terms) accept(name string, value int64) {
	if t.oack == nil {
		t.oack = []byte{0, opOACK}
	}
	t.oack = append(append(t.oack, name...), 0)
	t.oack = append(strconv.AppendInt(t.oack, value, 10), 0)
}
