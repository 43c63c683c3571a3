package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Uevent is what the kernel says when a device comes, changes or goes.
type Uevent struct {
	Action    string // add, remove, change, bind, ...
	Subsystem string
	Modalias  string
	DevType   string // disk, partition, ...
}

// parseUevent reads a message of the kernel's uevent socket (lib/kobject_uevent.c): "ACTION@PATH" and KEY=VALUE
// fields, each ended by a NUL. ok is false for one of another sender.
func parseUevent(b []byte) (e Uevent, ok bool) {
	fields := bytes.Split(b, []byte{0})
	if !bytes.Contains(fields[0], []byte("@")) {
		return Uevent{}, false
	}
	for _, f := range fields[1:] {
		key, value, _ := bytes.Cut(f, []byte("="))
		switch string(key) {
		case "ACTION":
			e.Action = string(value)
		case "SUBSYSTEM":
			e.Subsystem = string(value)
		case "MODALIAS":
			e.Modalias = string(value)
		case "DEVTYPE":
			e.DevType = string(value)
		}
	}
	return e, true
}

// Uevents listens to the kernel. It needs no udev.
type Uevents struct {
	fd   int
	last atomic.Int64 // nanoseconds of the last message, by now
	now  func() time.Time
}

// ListenUevents opens the socket; from now on no message is missed.
func ListenUevents(now func() time.Time) (*Uevents, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("listen to device events: %w", err)
	}
	u := &Uevents{fd: fd, now: now}
	u.last.Store(now().UnixNano())
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
	if err == nil { // coldplug makes hundreds of messages at once; root may go over the limit of the system
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 500_000})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to device events: %w", err)
	}
	return u, nil
}

// Run gives every event to f until ctx ends.
func (u *Uevents) Run(ctx context.Context, f func(Uevent)) {
	defer unix.Close(u.fd)
	buf := make([]byte, 16<<10)
	for ctx.Err() == nil {
		n, from, err := unix.Recvfrom(u.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS):
			continue
		case err != nil:
			return
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 {
			continue // not the kernel
		}
		u.last.Store(u.now().UnixNano())
		if e, ok := parseUevent(buf[:n]); ok {
			f(e)
		}
	}
}

// Quiet is how long no device came or went.
func (u *Uevents) Quiet() time.Duration { return u.now().Sub(time.Unix(0, u.last.Load())) }
