package tftp

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
)

// Codes of RFC 1350.
const (
	opRead  = 1
	opWrite = 2
	opError = 5

	codeUndefined = 0
	codeAccess    = 2
	codeIllegal   = 4
)

// maxRequest is the longest request: RFC 2347 allows 512 bytes.
const maxRequest = 512

// A request is a read request.
type request struct {
	name  string
	mode  string
	block int  // data bytes per block asked for; 0: none
	size  bool // the size is asked for
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

// parseRequest reads a packet from the service port. Unknown options are dropped, the first of two wins, a value out
// of range is as if not asked (RFC 2347: an option left out of the answer is refused).
func parseRequest(p []byte) (request, *refusal) {
	if len(p) < 4 || len(p) > maxRequest || p[len(p)-1] != 0 {
		return request{}, &refusal{codeIllegal, "Illegal TFTP operation"}
	}
	switch binary.BigEndian.Uint16(p) {
	case opRead:
	case opWrite:
		return request{}, &refusal{codeAccess, "Access violation"}
	default:
		return request{}, &refusal{codeIllegal, "Illegal TFTP operation"}
	}
	words := strings.Split(string(p[2:len(p)-1]), "\x00")
	if len(words) < 2 || words[0] == "" {
		return request{}, &refusal{codeIllegal, "Illegal TFTP operation"}
	}
	q := request{name: words[0], mode: strings.ToLower(words[1])}
	if q.mode != "octet" && q.mode != "netascii" {
		return request{}, &refusal{codeIllegal, "Unknown transfer mode"}
	}
	q.options(words[2:])
	return q, nil
}

func (q *request) options(words []string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(words); i += 2 {
		name := strings.ToLower(words[i])
		if seen[name] {
			continue
		}
		seen[name] = true
		n, err := strconv.ParseUint(words[i+1], 10, 63)
		if err != nil {
			continue
		}
		switch {
		case name == "blksize" && n >= 8 && n <= 65464:
			q.block = min(int(n), maxBlock)
		case name == "tsize" && q.mode == "octet": // netascii grows on the way: its size is not known before
			q.size = true
		}
	}
}

// clean writes the request as pin/tftp reads it: lower case, options it serves, and a size of "00". That library takes
// the words "tsize 0" of an empty file for a size not known and leaves it out; two digits pass, and are zero to every
// client. A block below 512 bytes is left out: the library serves none, and RFC 2348 lets the client take 512.
func (q request) clean() []byte {
	var b bytes.Buffer
	b.Write([]byte{0, opRead})
	for _, w := range []string{q.name, q.mode} {
		b.WriteString(w)
		b.WriteByte(0)
	}
	if q.size {
		b.WriteString("tsize\x0000\x00")
	}
	if q.block >= 512 {
		b.WriteString("blksize\x00" + strconv.Itoa(q.block) + "\x00")
	}
	return b.Bytes()
}
