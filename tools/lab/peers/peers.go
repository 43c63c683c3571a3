// Package peers measures the inventory tools of the field beside muster-agent: what each finds of what was planted in a
// machine, and how long it takes.
//
// It is a package of its own because one half of it, Measure, runs inside the measured machine, and the other, Judge,
// on the host, and neither may know how the machine was made.
//
// The rule of judging is the same for every tool, ours included. An item is found when one of its accepted spellings
// stands in the output as a whole token, whatever its case; sizes are accepted in bytes, in sectors and in every usual
// unit, rounded as people round. A value that could mean anything ("2", "full") must stand behind a label that says
// what it is. A value that many things have must stand with its thing: in one block of the output (a JSON object; in
// text a paragraph, or a line with what is indented below it) that names the thing and no other of its kind. Where a
// person would find a value in another way, a pattern for that tool says how; there is none for muster-agent.
package peers

// A Tool is a command that prints an inventory of the machine it runs on.
type Tool struct {
	Name string   // in tables
	Args []string // the command
	In   string   // its standard input
	JSON bool     // else text
}

// Ours is the name of the tool that the others are compared with.
const Ours = "muster-agent"

// Tools are measured in this order, each in the form that says the most. ohai's list of PCI devices is off by default.
var Tools = []Tool{
	{Name: Ours, Args: []string{"muster-agent", "facts", "--errors"}, JSON: true},
	{Name: "lshw", Args: []string{"lshw", "-quiet", "-json"}, JSON: true},
	{Name: "hwinfo", Args: []string{"hwinfo"}},
	{Name: "facter", Args: []string{"facter", "-j"}, JSON: true},
	{Name: "ohai", Args: []string{"ohai", "-c", "/proc/self/fd/0"}, In: "ohai.optional_plugins = [:Lspci]\n", JSON: true},
	{Name: "dmidecode", Args: []string{"dmidecode"}},
	{Name: "lspci", Args: []string{"lspci", "-D", "-vmm", "-nn", "-k"}},
	{Name: "lsblk", Args: []string{"lsblk", "-J", "-O", "-b"}, JSON: true},
}
