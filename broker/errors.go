package broker

import (
	"errors"
	"fmt"
)

// The classes of errors that callers tell apart; api turns each into one HTTP status.
var (
	ErrNotFound = errors.New("not found")   // 404
	ErrConflict = errors.New("conflict")    // 409
	ErrInvalid  = errors.New("invalid")     // 422
	ErrBusy     = errors.New("busy")        // 503, try again
	ErrDenied   = errors.New("not allowed") // 404 on node routes, whatever the cause
)

// classed is an error with its own text and one of the classes above.
type classed struct {
	class error
	text  string
}

func (e *classed) Error() string { return e.text }
func (e *classed) Unwrap() error { return e.class }

func notFound(format string, a ...any) error { return &classed{ErrNotFound, fmt.Sprintf(format, a...)} }
func conflict(format string, a ...any) error { return &classed{ErrConflict, fmt.Sprintf(format, a...)} }
func invalid(format string, a ...any) error  { return &classed{ErrInvalid, fmt.Sprintf(format, a...)} }
