package probe

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	kernelLog     = "/dev/kmsg"
	maxLogRecords = 16384   // of one look
	maxLog        = 2 << 20 // bytes; twice the buffer of a large machine
	maxLogRecord  = 8192    // bytes (CONSOLE_EXT_LOG_MAX)
)

// readKernelLog gives the records of the kernel log (Documentation/ABI/testing/dev-kmsg), oldest first, without waiting
// for more. What cannot be read is not there: the log is a hint, and facts do not rest on it.
func (t tree) readKernelLog() string {
	f, err := t.openSource(kernelLog)
	if err != nil {
		return ""
	}
	defer f.Close()
	conn, err := f.SyscallConn()
	if err != nil {
		return ""
	}
	var log strings.Builder
	record := make([]byte, maxLogRecord)
	for range maxLogRecords {
		var n int
		var errno error
		err := conn.Read(func(fd uintptr) bool {
			n, errno = unix.Read(int(fd), record)
			return true // also when there is nothing: EAGAIN is the end
		})
		switch {
		case errno == unix.EPIPE, errno == unix.EINTR: // overwritten while it was read
			continue
		case err != nil, errno != nil, n <= 0, log.Len()+n > maxLog:
			return log.String()
		}
		log.Write(record[:n])
		t.steps.Add(1)
	}
	return log.String()
}

// lostFirmware matches what the firmware loader says when a file is not there (drivers/base/firmware_loader/main.c, error
// ENOENT), behind the driver and the device.
var lostFirmware = regexp.MustCompile(`^(\S+) (\S+)` + lostFirmwareMark + `(\S+) failed with error -2$`)

// lostFirmwareMark is in few of the thousand lines of a boot; looking for it takes a tenth of the time of the expression.
const lostFirmwareMark = ": Direct firmware load for "

// missingFirmware tells which files NIC drivers asked for and did not get: most NICs then have no link, and nothing in
// sysfs says why.
func (t tree) missingFirmware() []error {
	var lost []error
	told := map[string]bool{}
	for line := range strings.Lines(t.readKernelLog()) {
		if !strings.Contains(line, lostFirmwareMark) {
			continue
		}
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ";")
		found := lostFirmware.FindStringSubmatch(text)
		if found == nil || told[text] || len(lost) == maxErrors {
			continue
		}
		told[text] = true
		driver, address, file := found[1], found[2], found[3]
		if pciForm.MatchString(address) && strings.HasPrefix(t.pciClass(address), "02") {
			lost = append(lost, fmt.Errorf("firmware %s, for %s of %s: %w", file, address, driver, fs.ErrNotExist))
		}
	}
	return lost
}
