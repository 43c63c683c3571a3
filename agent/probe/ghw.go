package probe

import (
	"log/slog"
	"regexp"
	"strings"

	"github.com/jaypipes/ghw"
)

// askGHW calls one constructor of ghw, which then reads these files of the tree, calls no program and prints nothing.
// They are called one by one: ghw.Host fails as a whole when one part does, such as a machine without a USB bus.
// WithLogger, and not WithDisableWarnings, because nested calls undo the latter.
func askGHW[T any](t tree, ask func(...any) (T, error), files ...string) (got T, err error) {
	err = t.lend(func(root string) error {
		got, err = ask(ghw.WithChroot(root), ghw.WithDisableTools(), ghw.WithLogger(slog.New(slog.DiscardHandler)))
		return err
	}, append(files, devicetree...)...)
	return got, err
}

// devicetree is what ghw reads of a machine without DMI.
var devicetree = dmiFiles("/sys/firmware/devicetree/base/", "model compatible serial-number")

func dmiFiles(dir, names string) []string {
	files := strings.Fields(names)
	for i := range files {
		files[i] = dir + files[i]
	}
	return files
}

const dmiDir = "/sys/class/dmi/id/"

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

func (t tree) ghwProduct() (*ghw.ProductInfo, error) {
	return askGHW(t, ghw.Product, dmiFiles(dmiDir, "product_family product_name sys_vendor product_serial product_uuid product_sku product_version")...)
}

func (t tree) ghwBaseboard() (*ghw.BaseboardInfo, error) {
	return askGHW(t, ghw.Baseboard, dmiFiles(dmiDir, "board_asset_tag board_serial board_vendor board_version board_name")...)
}

func (t tree) ghwChassis() (*ghw.ChassisInfo, error) {
	return askGHW(t, ghw.Chassis, dmiFiles(dmiDir, "chassis_asset_tag chassis_serial chassis_type chassis_vendor chassis_version")...)
}

func (t tree) ghwBIOS() (*ghw.BIOSInfo, error) {
	return askGHW(t, ghw.BIOS, dmiFiles(dmiDir, "bios_vendor bios_version bios_date")...)
}

var cpuName = regexp.MustCompile(`^cpu[0-9]+$`)

// ghwFlags are the features of the first processor that has some.
func (t tree) ghwFlags() []string {
	files := []string{cpuinfoFile}
	for _, name := range t.names(cpuDir) { // ghw speaks of processors with a directory only
		if cpuName.MatchString(name) && len(files) < 16 {
			files = append(files, cpuDir+"/"+name+"/online")
		}
	}
	info, err := askGHW(t, ghw.CPU, files...)
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
