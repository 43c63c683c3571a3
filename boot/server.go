package boot

import (
	"context"
	"io"
	"time"
)

// A File is what a name resolves to. Its size is known before the first byte is read, as TFTP's tsize and HTTP's
// Content-Length need.
type File struct {
	Size    int64
	ModTime time.Time // zero for a rendered file
	Content io.ReadSeekCloser
}

// ResolveFunc gives the file that a loader's name stands for, the same for TFTP and HTTP; ErrNotFound when there is
// none. Server.Resolve is one; the TFTP server calls one.
type ResolveFunc func(ctx context.Context, name string, c Client) (File, error)
