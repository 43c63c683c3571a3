package initramfs

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultCommands are the u-root commands of a ramdisk beside the agent: init starts it all, the others let a person at
// the console see what the agent sees. Each costs 20 to 200 kB of the compressed userland.
var DefaultCommands = []string{
	"github.com/u-root/u-root/cmds/core/cat",
	"github.com/u-root/u-root/cmds/core/df",
	"github.com/u-root/u-root/cmds/core/dmesg",
	"github.com/u-root/u-root/cmds/core/free",
	"github.com/u-root/u-root/cmds/core/gosh",
	"github.com/u-root/u-root/cmds/core/grep",
	"github.com/u-root/u-root/cmds/core/hexdump",
	"github.com/u-root/u-root/cmds/core/init",
	"github.com/u-root/u-root/cmds/core/insmod",
	"github.com/u-root/u-root/cmds/core/ip",
	"github.com/u-root/u-root/cmds/core/ls",
	"github.com/u-root/u-root/cmds/core/lsmod",
	"github.com/u-root/u-root/cmds/core/mount",
	"github.com/u-root/u-root/cmds/core/ps",
	"github.com/u-root/u-root/cmds/core/rmmod",
	"github.com/u-root/u-root/cmds/core/shutdown",
	"github.com/u-root/u-root/cmds/core/umount",
	"github.com/u-root/u-root/cmds/core/uname",
}

// coreCommands is where u-root keeps its commands.
const coreCommands = "github.com/u-root/u-root/cmds/core/"

// neededCommands are what no ramdisk starts without; sshCommand is for those with keys.
var neededCommands = []string{coreCommands + "gosh", coreCommands + "init"}

const sshCommand = coreCommands + "sshd"

// commandName is how a command of u-root may be called.
var commandName = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]*$`)

// Commands turns words into import paths for Config.Commands: names of u-root's core commands, import paths, and
// "default" for DefaultCommands, which no words at all mean as well. What init needs is always there, sshd on demand.
func Commands(words []string, sshd bool) ([]string, error) {
	if words == nil {
		words = []string{"default"}
	}
	var paths []string
	for _, word := range words {
		switch {
		case word == "default":
			paths = append(paths, DefaultCommands...)
		case strings.Contains(word, "/"):
			paths = append(paths, word)
		case commandName.MatchString(word):
			paths = append(paths, coreCommands+word)
		default:
			return nil, fmt.Errorf("%q is no name of a command", word)
		}
	}
	if paths = append(paths, neededCommands...); sshd {
		paths = append(paths, sshCommand)
	}
	return paths, nil
}
