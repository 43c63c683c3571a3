package main

import (
	"cmp"
	"encoding/json"
	"io"
	"regexp"
	"slices"

	"muster/broker"
)

// inventory is what Ansible asks an inventory script for: its groups by name, and the variables of all hosts
// (docs.ansible.com, "Developing dynamic inventory"). A node is in a group for each tag it carries, one for its state, and
// one for its policy.
func inventory(nodes []broker.NodeSummary) map[string]any {
	hosts, groups := map[string]any{}, map[string][]string{}
	for _, n := range nodes {
		name := cmp.Or(n.Hostname, n.ID)
		if hosts[name] != nil {
			name = n.ID // two machines say one hostname
		}
		hosts[name] = hostVars(n)
		for _, tag := range n.Tags {
			groups["tag_"+tag] = append(groups["tag_"+tag], name)
		}
		groups["state_"+string(n.State)] = append(groups["state_"+string(n.State)], name)
		if n.Policy != "" {
			groups["policy_"+n.Policy] = append(groups["policy_"+n.Policy], name)
		}
	}
	all := map[string]any{"_meta": map[string]any{"hostvars": hosts}}
	for name, members := range groups {
		name = noGroup.ReplaceAllString(name, "_")
		if same, ok := all[name].(group); ok {
			members = append(members, same.Hosts...)
		}
		slices.Sort(members)
		all[name] = group{slices.Compact(members)}
	}
	return all
}

type group struct {
	Hosts []string `json:"hosts"`
}

// noGroup is what names of groups may not have, so that playbooks can name them as variables.
var noGroup = regexp.MustCompile(`[^A-Za-z0-9_]`)

// hostVars are the variables of a host. Ansible runs what looks like a template in one: what a machine said of itself is
// marked as text.
func hostVars(n broker.NodeSummary) map[string]any {
	vars := map[string]any{}
	for name, v := range map[string]string{"ansible_host": n.Addr, "muster_id": n.ID, "muster_state": string(n.State), "muster_policy": n.Policy,
		"muster_installed": n.Installed, "muster_mac": n.MAC, "muster_uuid": n.UUID} {
		if v != "" {
			vars[name] = v
		}
	}
	for name, v := range map[string]string{"muster_serial": n.Serial, "muster_hardware": n.Hardware} {
		if v != "" {
			vars[name] = map[string]string{"__ansible_unsafe": v}
		}
	}
	return vars
}

func showInventory(w io.Writer, nodes []broker.NodeSummary) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(inventory(nodes))
}
