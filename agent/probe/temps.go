package probe

import (
	"cmp"
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"

	"muster/agent/facts"
)

const (
	hwmonDir   = "/sys/class/hwmon"
	maxSensors = 64 // of one chip
)

var tempInput = regexp.MustCompile(`^temp[0-9]+_input$`)

// diskSensors are chips that are disks: to read them is to ask the disk, which is the business of health.
var diskSensors = map[string]bool{"nvme": true, "drivetemp": true}

// temps reads the temperature sensors of the machine (the kernel's Documentation/hwmon/sysfs-interface.rst). A chip that hangs
// costs its own.
func temps(ctx context.Context, m machine) (section, error) {
	chips, errs := each(ctx, m, m.names(hwmonDir), func(name string) ([]facts.Temperature, error) { return m.chip(hwmonDir + "/" + name), nil })
	all := slices.Concat(chips...)
	slices.SortStableFunc(all, func(a, b facts.Temperature) int {
		return cmp.Or(cmp.Compare(a.Sensor, b.Sensor), cmp.Compare(a.Label, b.Label))
	})
	if len(all) > facts.MaxTemps {
		all = all[:facts.MaxTemps]
	}
	return func(_ *facts.Facts, s *facts.State) { s.Temps = all }, errors.Join(errs...)
}

func (m machine) chip(dir string) (list []facts.Temperature) {
	chip := facts.Clean(m.text(dir + "/name"))
	if chip == "" || diskSensors[chip] {
		return nil
	}
	for _, name := range m.names(dir) {
		if !tempInput.MatchString(name) || len(list) == maxSensors {
			continue
		}
		milli, err := strconv.ParseInt(m.text(dir+"/"+name), 10, 64)
		celsius := within(milli/1000, facts.MinTempC, facts.MaxTempC)
		if err != nil || celsius == nil {
			continue
		}
		label := facts.Clean(m.text(dir + "/" + name[:len(name)-len("input")] + "label"))
		list = append(list, facts.Temperature{Sensor: chip, Label: label, TempC: *celsius})
	}
	return list
}
