package broker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// fromCobbler reads a system as cobblerd keeps it (collections/systems/*.json, config/systems.d/*.json): its name, its
// NICs, its profile. Bonds, bridges and VLANs have the MAC of a NIC, and a BMC's is no NIC of the machine.
func (f *fileReading) fromCobbler(place string, m fields) (r Registration, err error) {
	var s struct {
		Name, Hostname, Profile, Comment string
		Interfaces                       map[string]struct {
			MAC  string `json:"mac_address"`
			Type string `json:"interface_type"`
		}
	}
	if err := m.into(&s); err != nil {
		return r, fmt.Errorf("a system of Cobbler: %w", err)
	}
	r.Meta = map[string]any{}
	f.name(place, &r, cmp.Or(s.Hostname, s.Name))
	for _, name := range slices.Sorted(maps.Keys(s.Interfaces)) {
		switch nic := s.Interfaces[name]; {
		case nic.MAC == "":
		case nic.Type == "bmc":
			f.leave(place, "interface %.64q is a BMC, and its MAC is not taken", name)
		default:
			f.identify(place, &r, razorID{"mac", nic.MAC, nic.MAC})
		}
	}
	f.note(place, &r, "cobbler_system", s.Name)
	f.note(place, &r, "profile", s.Profile)
	f.note(place, &r, "comment", s.Comment)
	f.leaveRest(place, m, "name", "hostname", "interfaces", "profile", "comment")
	return r, nil
}
