// Package hook carries one message to one program outside: a signed POST, or a command on this host. It is a leaf so
// that what is called, for how long and within which bounds can be read without the broker; which event becomes a
// message, when it is tried again and what an answer changes are the broker's.
package hook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// A Message is what a program outside is told.
type Message struct {
	ID   string    // the same at every attempt: who has seen it before may leave it
	Time time.Time // of this attempt
	Body []byte    // JSON
}

// An Answer is what the program said of a message that it took.
type Answer struct {
	Body []byte // JSON, or what a command said; empty when it said nothing
	Note string // what was wrong with the answer, though the message was taken
}

// MaxAnswer is the most bytes of an answer that are read.
const MaxAnswer = 64 << 10

// Classes of failures. Any other may be gone at the next attempt.
var (
	ErrRefused = errors.New("refused")    // the program is there and says no: a few more attempts, no more
	ErrGone    = errors.New("not wanted") // it says that it will never take it
)

// A Secret signs messages. It prints as ***, whatever prints it.
type Secret []byte

// secretPrefix marks a secret as Standard Webhooks writes it.
const secretPrefix = "whsec_"

// ParseSecret reads whsec_ and 24 to 64 bytes in base64 (Standard Webhooks, "Signature scheme"). The error never holds
// the text.
func ParseSecret(text string) (Secret, error) {
	raw, ok := strings.CutPrefix(text, secretPrefix)
	b, err := base64.StdEncoding.DecodeString(raw)
	if !ok || err != nil || len(b) < 24 || len(b) > 64 {
		return nil, errors.New("secret: want whsec_ and 24 to 64 bytes in base64 (echo whsec_$(openssl rand -base64 32))")
	}
	return b, nil
}

// String hides it.
func (Secret) String() string { return "***" }

// Format hides it from every verb, %x and %#v too.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue hides it.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides it.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
