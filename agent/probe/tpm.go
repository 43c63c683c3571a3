package probe

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

const (
	tpmDir    = "/sys/class/tpm/tpm0"
	tpmDevice = "/dev/tpmrm0" // of the resource manager: others may use the TPM at the same time
)

// tpm reads what sysfs says of the first TPM, and asks a TPM 2.0 who made it.
func tpm(ctx context.Context, m machine) (section, error) {
	if err := m.stat("/sys/class/tpm"); err != nil {
		return nil, err
	}
	t := facts.TPM{
		Present:      m.exists(tpmDir),
		VersionMajor: int(m.count(tpmDir + "/tpm_version_major")),
		Driver:       m.driver(tpmDir + "/device"),
	}
	m.readTPM1(&t)
	var err error
	if t.VersionMajor == 2 && m.openTPM != nil {
		err = partial(m.askTPM(ctx, &t))
	}
	return func(f *facts.Facts, _ *facts.State) { f.TPM = &t }, err
}

// readTPM1 reads what the driver tells of a TPM 1.2:
//
//	Manufacturer: 0x49465800
//	TCG version: 1.2
//	Firmware version: 3.17
func (m machine) readTPM1(t *facts.TPM) {
	for line := range strings.Lines(cmp.Or(m.text(tpmDir+"/caps"), m.text(tpmDir+"/device/caps"))) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Manufacturer":
			var id uint32
			if _, err := fmt.Sscanf(value, "0x%x", &id); err == nil {
				t.Manufacturer = tpmText(id)
			}
		case "TCG version":
			t.Revision = facts.Clean(value)
		case "Firmware version":
			t.Firmware = facts.Clean(value)
		}
	}
}

// openTPM is the device of the running machine. It waits for its answers: a descriptor of package os would not, and read
// nothing where the driver is still at work (tpm_common_read gives 0, not EAGAIN).
func openTPM() (io.ReadWriteCloser, error) {
	fd, err := unix.Open(tpmDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: tpmDevice, Err: err}
	}
	return os.NewFile(uintptr(fd), tpmDevice), nil
}

// getTPMProperties is TPM2_GetCapability (TPM 2.0 part 3, section 30.2) without a session: 22 bytes, capability 6 is
// TPM_PROPERTIES, 16 of them from 100h on.
var getTPMProperties = []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 0x01, 0, 0, 0, 0, 16}

// maxTPMAnswer is the size of the buffer of the driver (TPM_BUFSIZE).
const maxTPMAnswer = 4096

// askTPM asks over the device of the driver. One that is busy or does not answer is an error; it is left to whoever
// waits for it, for its driver cannot be interrupted.
func (m machine) askTPM(ctx context.Context, t *facts.TPM) error {
	type reply struct {
		bytes []byte
		err   error
	}
	replies := make(chan reply, 1)
	go func() {
		b, err := m.exchangeTPM(getTPMProperties)
		replies <- reply{b, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	select {
	case r := <-replies:
		m.steps.Add(1)
		if r.err != nil {
			return r.err
		}
		return parseTPMProperties(r.bytes, t)
	case <-ctx.Done():
		return fmt.Errorf("ask %s: no answer: %w", tpmDevice, context.DeadlineExceeded)
	}
}

// exchangeTPM sends a command in one write and reads its answer in one read, as the driver wants it.
func (m machine) exchangeTPM(command []byte) ([]byte, error) {
	link, err := m.openTPM()
	if err != nil {
		return nil, err
	}
	defer link.Close()
	if _, err := link.Write(command); err != nil {
		return nil, err
	}
	b := make([]byte, maxTPMAnswer)
	n, err := link.Read(b)
	return b[:n], err
}

// Properties of TPM 2.0 part 2, section 6.13.
const (
	tpmRevision     = 0x102 // of the specification, times 100
	tpmManufacturer = 0x105
	tpmVendor1      = 0x106 // to 0x109
	tpmFirmware1    = 0x10b
	tpmFirmware2    = 0x10c
)

// parseTPMProperties reads an answer: tag, size, response code; whether there is more, the capability, how many, then
// pairs of a property and its value.
func parseTPMProperties(b []byte, t *facts.TPM) error {
	const header, list = 10, 19
	if len(b) < header {
		return malformed{fmt.Errorf("TPM answer of %d bytes; want %d at least", len(b), header)}
	}
	if code := binary.BigEndian.Uint32(b[6:]); code != 0 {
		return fmt.Errorf("TPM2_GetCapability: response code %03xh", code)
	}
	if size := binary.BigEndian.Uint32(b[2:]); int64(size) != int64(len(b)) || len(b) < list {
		return malformed{fmt.Errorf("TPM answer of %d bytes says %d", len(b), size)}
	}
	count, pairs := binary.BigEndian.Uint32(b[15:]), b[list:]
	if capability := binary.BigEndian.Uint32(b[11:]); capability != 6 || int64(len(pairs)) != 8*int64(count) {
		return malformed{fmt.Errorf("TPM answer about capability %d: %d properties in %d bytes", capability, count, len(pairs))}
	}
	property := map[uint32]uint32{}
	for ; len(pairs) > 0; pairs = pairs[8:] {
		property[binary.BigEndian.Uint32(pairs)] = binary.BigEndian.Uint32(pairs[4:])
	}
	t.Manufacturer = tpmText(property[tpmManufacturer])
	t.VendorString = tpmText(property[tpmVendor1], property[tpmVendor1+1], property[tpmVendor1+2], property[tpmVendor1+3])
	if one, two := property[tpmFirmware1], property[tpmFirmware2]; one != 0 || two != 0 {
		t.Firmware = fmt.Sprintf("%d.%d.%d.%d", one>>16, one&0xffff, two>>16, two&0xffff)
	}
	if revision := property[tpmRevision]; revision != 0 {
		t.Revision = fmt.Sprintf("%d.%02d", revision/100, revision%100)
	}
	return nil
}

// tpmText is four characters of each value.
func tpmText(values ...uint32) string {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return facts.Clean(string(b))
}
