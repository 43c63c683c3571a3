package facts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A FieldError says which field of a document is wrong: facts.disks[3].size_bytes. An empty path is the document.
type FieldError struct {
	Path string
	Msg  string
}

func (e *FieldError) Error() string {
	if e.Path == "" {
		return e.Msg
	}
	return e.Path + ": " + e.Msg
}

// fault is an error about the value at hand; those who called down to it add where that is.
func fault(format string, args ...any) error {
	return &FieldError{Msg: fmt.Sprintf(format, args...)}
}

// within puts a step in front of the path of a FieldError: a name, or the number of an item in brackets.
func within(step string, err error) error {
	var f *FieldError
	switch {
	case !errors.As(err, &f):
	case f.Path == "" || f.Path[0] == '[':
		f.Path = step + f.Path
	default:
		f.Path = step + "." + f.Path
	}
	return err
}

// member is the step to a field of an object. A name that is not a plain word, or longer than 64 bytes, is quoted and
// cut, because it came from outside.
func member(name string) string {
	if name == "" || len(name) > 64 || strings.IndexFunc(name, notPlain) >= 0 {
		return fmt.Sprintf("%.64q", name)
	}
	return name
}

// item is the step to an element of an array.
func item(i int) string { return "[" + strconv.Itoa(i) + "]" }

func notPlain(r rune) bool {
	return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}
