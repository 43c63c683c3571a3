package probe

import (
	"net"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// Commands of include/uapi/linux/ethtool.h.
const (
	ethtoolDrvinfo      = 0x03
	ethtoolPermaddr     = 0x20
	ethtoolLinksettings = 0x4c
)

// ethPorts are the connectors of struct ethtool_link_settings; "other" and "none" say nothing.
var ethPorts = map[byte]string{0: "tp", 1: "aui", 2: "mii", 3: "fibre", 4: "bnc", 5: "da"}

// readEthtool asks the driver of an interface of the running machine. What it does not answer stays unknown.
func readEthtool(name string, n *facts.NIC) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if mac := permanentMAC(fd, name); mac != "" && mac != n.MAC {
		n.MAC, n.CurrentMAC = mac, n.MAC
	}
	if info := ethtool(fd, name, ethtoolDrvinfo, 196); info != nil {
		n.Firmware = facts.Clean(cString(info[68:100]))
	}
	readLinkSettings(fd, name, n)
}

// permanentMAC is the address burnt into the hardware; "" when the driver knows of none.
func permanentMAC(fd int, name string) string {
	b := ethtool(fd, name, ethtoolPermaddr, 8+32, 32)
	if b == nil || *(*uint32)(unsafe.Pointer(&b[4])) != 6 {
		return ""
	}
	return facts.CleanMAC(net.HardwareAddr(b[8:14]).String())
}

// readLinkSettings asks twice: the first answer carries how many words the masks of link modes have, negated.
func readLinkSettings(fd int, name string, n *facts.NIC) {
	const words = 15 // offset of link_mode_masks_nwords
	b := ethtool(fd, name, ethtoolLinksettings, 48)
	if b == nil || int8(b[words]) >= 0 {
		return
	}
	masks := -int(int8(b[words]))
	request := make([]byte, 48+3*4*masks)
	request[words] = byte(masks)
	if b = ethtoolCall(fd, name, ethtoolLinksettings, request); b == nil {
		return
	}
	n.Modes = linkModes(b[48 : 48+4*masks]) // the first of three masks: what it can do
	n.Port = ethPorts[b[9]]
	if n.Port == "" {
		return // a virtual NIC: its autoneg means nothing
	}
	if on := b[11]; on == 0 || on == 1 {
		autoneg := on == 1
		n.Autoneg = &autoneg
	}
}

// ethtool makes a request of size bytes, with a second word where the command wants one.
func ethtool(fd int, name string, command uint32, size int, word ...uint32) []byte {
	request := make([]byte, size)
	if len(word) > 0 {
		*(*uint32)(unsafe.Pointer(&request[4])) = word[0]
	}
	return ethtoolCall(fd, name, command, request)
}

// ethtoolCall is the ioctl SIOCETHTOOL. The request, which begins with the command, becomes the answer; nil when the
// driver refuses.
func ethtoolCall(fd int, name string, command uint32, request []byte) []byte {
	if len(name) >= unix.IFNAMSIZ || strings.ContainsRune(name, 0) {
		return nil
	}
	*(*uint32)(unsafe.Pointer(&request[0])) = command
	var ifreq struct { // struct ifreq, linux/if.h
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [24 - unsafe.Sizeof(uintptr(0))]byte
	}
	copy(ifreq.name[:], name)
	ifreq.data = unsafe.Pointer(&request[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq)))
	runtime.KeepAlive(request)
	if errno != 0 {
		return nil
	}
	return request
}
