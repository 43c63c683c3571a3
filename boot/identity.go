package boot

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// MAC is an Ethernet address. The zero value means none.
type MAC [6]byte

// ParseMAC reads 52:54:00:12:34:56, with dashes, with dots, without separators, or with the hardware type 01 in front.
func ParseMAC(s string) (MAC, error) {
	digits := strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.TrimSpace(s))
	if len(digits) == 14 && strings.HasPrefix(digits, "01") {
		digits = digits[2:]
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 6 {
		return MAC{}, fmt.Errorf("parse MAC %q: want six bytes such as 52:54:00:12:34:56", s)
	}
	return MAC(b), nil
}

// IsZero says that no address is there.
func (m MAC) IsZero() bool { return m == MAC{} }

// String is the form with colons, lower case.
func (m MAC) String() string { return m.join(':') }

// Dashes is the form with dashes, lower case, as pxelinux and BOOTIF write it.
func (m MAC) Dashes() string { return m.join('-') }

func (m MAC) join(sep byte) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, c := range m {
		if i > 0 {
			b = append(b, sep)
		}
		b = append(b, digits[c>>4], digits[c&15])
	}
	return string(b)
}

// UUID is an SMBIOS system UUID in logical order, the order dmidecode and iPXE print. The zero value means none.
type UUID [16]byte

// ParseUUID reads 32 hexadecimal digits with or without dashes and braces.
func ParseUUID(s string) (UUID, error) {
	digits := strings.NewReplacer("-", "", "{", "", "}", "").Replace(strings.TrimSpace(s))
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != 16 {
		return UUID{}, fmt.Errorf("parse UUID %q: want 32 hexadecimal digits", s)
	}
	return UUID(b), nil
}

// IsZero says that no UUID is there.
func (u UUID) IsZero() bool { return u == UUID{} }

// String is the dashed form, lower case.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Swapped turns the first three groups round: from wire order (DHCP option 97, pxelinux, GRUB) to logical order and
// back. SMBIOS 2.6 section 7.2.1 stores them little-endian.
func (u UUID) Swapped() UUID {
	return UUID{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}
