package probe

import (
	"context"

	"muster/agent/facts"
)

// tpm reads what sysfs says of the first TPM.
func tpm(_ context.Context, m machine) (section, error) {
	if err := m.stat("/sys/class/tpm"); err != nil {
		return nil, err
	}
	const dir = "/sys/class/tpm/tpm0"
	t := facts.TPM{
		Present:      m.exists(dir),
		VersionMajor: int(m.count(dir + "/tpm_version_major")),
		Driver:       m.driver(dir + "/device"),
	}
	return func(f *facts.Facts, _ *facts.State) { f.TPM = &t }, nil
}
