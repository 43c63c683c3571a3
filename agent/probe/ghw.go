package probe

import (
	"log/slog"
	"strings"

	"github.com/jaypipes/ghw"
)

// ghwOptions make ghw read below the tree, call no program and print nothing. Its constructors are called one by one:
// ghw.Host fails as a whole when one part does, such as a machine without a USB bus. WithLogger, and not
// WithDisableWarnings, because nested calls undo the latter.
func (t tree) ghwOptions() []any {
	return []any{ghw.WithChroot(t.dir), ghw.WithDisableTools(), ghw.WithLogger(slog.New(slog.DiscardHandler))}
}

// dmiSources are where ghw finds who made the machine; without any of them it says "unknown" to everything.
var dmiSources = []string{"/sys/class/dmi/id", "/sys/firmware/devicetree/base"}

// checkDMI says why DMI strings cannot be read.
func (t tree) checkDMI() error {
	var first error
	for _, source := range dmiSources {
		err := t.stat(source)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// denied is the error of reading a DMI file that only root may read, if it is there and this is not root: ghw gives
// "unknown" for it, as for a file that is not there.
func (t tree) denied(file string) error {
	name := "/sys/class/dmi/id/" + file
	if !t.exists(name) {
		return nil
	}
	_, err := t.read(name, maxFile)
	return err
}

func (t tree) ghwProduct() (*ghw.ProductInfo, error)     { return ghw.Product(t.ghwOptions()...) }
func (t tree) ghwBaseboard() (*ghw.BaseboardInfo, error) { return ghw.Baseboard(t.ghwOptions()...) }
func (t tree) ghwChassis() (*ghw.ChassisInfo, error)     { return ghw.Chassis(t.ghwOptions()...) }
func (t tree) ghwBIOS() (*ghw.BIOSInfo, error)           { return ghw.BIOS(t.ghwOptions()...) }

// ghwFlags are the features of the first processor that has some.
func (t tree) ghwFlags() []string {
	info, err := ghw.CPU(t.ghwOptions()...)
	if err != nil {
		return nil
	}
	for _, p := range info.Processors {
		if len(p.Capabilities) > 0 {
			return strings.Fields(strings.Join(p.Capabilities, " "))
		}
	}
	return nil
}
