package broker

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"muster/agent/facts"
	"muster/boot"
)

// A razorID is one value of Razor's hw_info: its key and value as Razor compares them, and the value as it was written.
type razorID struct{ key, value, said string }

// razorNet finds the keys that are MACs. It asks before keys are made lower case, and anywhere in them: Razor does.
var razorNet = regexp.MustCompile(`net[0-9]`)

// razorIDs gives hw_info the form that razor-server 1.9 stores and compares, in its order.
func razorIDs(hw map[string]any) (ids []razorID) {
	add := func(key string, v any) {
		list, is := v.([]any)
		if !is {
			list = []any{v}
		}
		for _, v := range list {
			if said := strings.TrimSpace(razorText(v)); said != "" {
				ids = append(ids, razorID{strings.ToLower(key), strings.ReplaceAll(strings.ToLower(said), ":", "-"), said})
			}
		}
	}
	for key, v := range hw {
		flat, is := v.(map[string]any)
		switch {
		case key == "facts" && is:
			for name, v := range flat {
				add("fact_"+name, v)
			}
		case razorNet.MatchString(key):
			add("mac", v)
		default:
			add(key, v)
		}
	}
	ids = slices.DeleteFunc(ids, func(id razorID) bool { return !razorCompares(id.key) })
	slices.SortFunc(ids, func(a, z razorID) int { return cmp.Or(cmp.Compare(a.key, z.key), cmp.Compare(a.value, z.value)) })
	return ids
}

// razorCompares says which keys stay, in lower case.
func razorCompares(key string) bool {
	return slices.Contains([]string{"mac", "serial", "asset", "uuid"}, key) || strings.HasPrefix(key, "fact_")
}

// razorText is a value as text: what is no scalar, as JSON.
func razorText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "" // it came as JSON
	}
	return string(raw)
}

// fromRazor reads a node of a razor-server (razor nodes NAME, or its API), or the arguments of register-node. What Razor
// matches machines by and muster does not goes into the metadata.
func (f *fileReading) fromRazor(place string, m fields) (r Registration, err error) {
	var n struct {
		Name      string
		HWInfo    map[string]any `json:"hw_info"`
		DHCPMAC   string         `json:"dhcp_mac"`
		Hostname  string
		Metadata  map[string]any
		Facts     struct{ Manufacturer string }
		Policy    struct{ Name string }
		Installed any
		State     struct{ Installed any }
	}
	if err := m.into(&n); err != nil {
		return r, fmt.Errorf("a node of Razor: %w", err)
	}
	r.Meta = map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(n.Metadata)) {
		f.note(place, &r, key, n.Metadata[key])
	}
	f.note(place, &r, "razor_node", n.Name)
	f.note(place, &r, "razor_policy", n.Policy.Name)
	ids := razorIDs(n.HWInfo)
	if n.DHCPMAC != "" {
		ids = append(ids, razorID{"mac", n.DHCPMAC, n.DHCPMAC})
	}
	for _, id := range ids {
		f.identify(place, &r, id)
	}
	if r.Serial != "" {
		r.Manufacturer = facts.Clean(n.Facts.Manufacturer)
	}
	f.name(place, &r, n.Hostname)
	r.Installed = razorInstalled(cmp.Or(n.Installed, n.State.Installed))
	for key := range n.HWInfo {
		if key != "facts" && !razorNet.MatchString(key) && !razorCompares(strings.ToLower(key)) {
			f.leave(place, "%.64q of hw_info is not taken, as Razor does not take it", key)
		}
	}
	f.leaveRest(place, m, "hw_info", "dhcp_mac", "hostname", "metadata", "policy", "installed", "state", "name")
	return r, nil
}

// razorInstalled is what Razor says of an install. Its +protected means that nobody decided: muster's nodes begin so.
func razorInstalled(v any) any {
	if v == "+protected" {
		return nil
	}
	return v
}

// identify takes one id, or says why it is none.
func (f *fileReading) identify(place string, r *Registration, id razorID) {
	switch id.key {
	case "mac":
		m, err := boot.ParseMAC(id.said)
		switch {
		case err != nil || canonicalMAC(m) == "":
			f.leave(place, "MAC %.64q tells no machine from another, and is not taken", id.said)
		case !slices.Contains(r.MACs, m.String()):
			r.MACs = append(r.MACs, m.String())
		}
	case "uuid":
		u, err := boot.ParseUUID(id.said)
		if err != nil || canonicalUUID(u) == "" {
			f.leave(place, "UUID %.64q tells no machine from another, and is not taken", id.said)
			return
		}
		r.UUID = u.String()
	case "serial":
		if facts.CleanSerial(id.said) == "" {
			f.leave(place, "serial %.64q tells no machine from another, and is not taken", id.said)
			return
		}
		r.Serial = id.said
	default: // asset, fact_*
		f.note(place, r, id.key, id.said)
	}
}

// name takes a hostname, or says that it is none.
func (f *fileReading) name(place string, r *Registration, hostname string) {
	if hostname == "" {
		return
	}
	if err := checkHostname(strings.ToLower(hostname)); err != nil {
		f.leave(place, "%s, and it is not taken as one", err)
		return
	}
	r.Hostname = strings.ToLower(hostname)
}

// note puts a value into the metadata. What rules can not read there is kept as its JSON; what does not fit is told.
func (f *fileReading) note(place string, r *Registration, key string, v any) {
	if v == nil || v == "" {
		return
	}
	if !plainValue(v, true) {
		f.leave(place, "metadata %.64q is no plain value, and is kept as the text of its JSON", key)
		v = razorText(v)
	}
	if old, has := r.Meta[key]; has {
		if fmt.Sprint(old) != fmt.Sprint(v) {
			f.leave(place, "metadata has a %.64q of its own, so that of another place is not taken", key)
		}
		return
	}
	r.Meta[key] = v
	if err := checkMeta(r.Meta); err != nil {
		delete(r.Meta, key)
		f.leave(place, "not taken: %s", err)
	}
}
