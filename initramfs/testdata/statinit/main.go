// Command statinit is the init of a ramdisk that is judged by the kernel which unpacked it: it prints what is there.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func main() {
	const consoleLevel = 8                         // SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2): the kernel must not speak into a line
	syscall.Klogctl(consoleLevel, make([]byte, 1)) // as many bytes as the level
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(out, "\nTREE BEGINS")
	names := map[uint64]string{}
	err := filepath.WalkDir("/", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "/" {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(name, &st); err != nil {
			return err
		}
		if names[st.Ino] == "" {
			names[st.Ino] = name[1:]
		}
		target, _ := os.Readlink(name)
		sum := ""
		if d.Type().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			sum = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		// A rootfs of tmpfs or ramfs gives each file a number of its own.
		fmt.Fprintf(out, "%q %o %d %d %d %d:%d %d %q %q %s\n", name[1:], st.Mode, st.Uid, st.Gid, st.Mtim.Sec,
			st.Rdev>>8&0xfff, st.Rdev&0xff|st.Rdev>>12&0xfff00, st.Size, names[st.Ino], target, sum)
		return nil
	})
	fmt.Fprintln(out, "TREE ENDS", err)
	out.Flush()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
