package facts

import (
	"slices"
	"strings"
)

// WipeMethods are the ways to wipe, the default first.
var WipeMethods = []string{WipeAuto, WipeSignatures, WipeDiscard, WipeSecure, WipeOverwrite}

// A Guard is something about a disk for whose sake it is not wiped, unless an order lifts the guard by its name (T54).
type Guard struct {
	Name  string
	Holds func(Disk) string // what it is, or ""
}

// Guards are all there are. The broker asks them when it chooses disks, the agent before it touches one.
var Guards = []Guard{
	{GuardRemovable, func(d Disk) string { return when(d.Removable, "is removable") }},
	{GuardUSB, func(d Disk) string { return when(d.Transport == "usb", "is behind USB") }},
	{GuardShared, func(d Disk) string {
		kind := sharedBy(d)
		return when(kind != "", "holds "+kind+", which other machines may have mounted")
	}},
}

func when(so bool, text string) string {
	if so {
		return text
	}
	return ""
}

// clusterTypes are GPT partition types of file systems that several machines mount at once.
var clusterTypes = map[string]string{
	"aa31e02a-400f-11db-9590-000c2911d1b8": "vmfs",
	"37affc90-ef7d-4e96-91c3-2d7ae055b174": "gpfs",
}

// sharedBy names the file system of a cluster that is on a disk, or "".
func sharedBy(d Disk) string {
	kind := shared(d.Content)
	for _, p := range d.Partitions {
		if kind == "" {
			kind = shared(p.Content)
		}
		if kind == "" {
			kind = clusterTypes[strings.ToLower(p.Type)]
		}
	}
	return kind
}

func shared(c *Content) string {
	if c != nil && slices.Contains([]string{"vmfs", "gfs2", "ocfs2"}, c.Type) {
		return c.Type
	}
	return ""
}
