package peers

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

const (
	recordLimit = 256 << 20 // bytes of an unpacked record: a machine that was measured may send anything
	recordType  = "MUSTER PEERS RECORD"
)

// Encode writes the record as PEM (RFC 7468) of gzip of JSON, which finds its way over a serial console.
func (r *Record) Encode(w io.Writer) error {
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(packed).Encode(r), packed.Close()); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil { // a block begins a line, and a console may stand in the middle of one
		return fmt.Errorf("write record: %w", err)
	}
	return pem.Encode(w, &pem.Block{Type: recordType, Bytes: b.Bytes()})
}

// Decode finds the record in whatever else the console said.
func Decode(console []byte) (*Record, error) {
	for block, rest := pem.Decode(console); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != recordType {
			continue
		}
		r, err := unpack(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
		return r, nil
	}
	return nil, errors.New("read record: there is none")
}

func unpack(b []byte) (*Record, error) {
	packed, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(packed, recordLimit+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > recordLimit {
		return nil, fmt.Errorf("more than %d bytes", recordLimit)
	}
	var r Record
	return &r, json.Unmarshal(raw, &r)
}
