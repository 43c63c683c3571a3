// Package rule is the language of tags: a rule is compiled against the facts that exist, evaluated on a node to yes, no
// or undecided, and explained to people. It is a leaf, so that the broker, which saves and runs rules, and the tools,
// which check and print them, mean the same. The syntax is a part of expr's (its parser is used; its machine is not,
// because a fact that is absent must be neither false nor an error). This page is the manual of the language.
//
// # Examples
//
// Behind each rule stands what it says of the machine in testdata/node.json; a test runs every line of this page. Text
// behind // is a comment in a rule, too.
//
//	facts.system.manufacturer == "Dell Inc."                           // yes
//	facts.system.product matches "^PowerEdge"                          // yes
//	len(facts.disks) >= 12 and facts.memory.total_bytes >= 128 * GiB   // no
//	any(facts.disks, .transport == "nvme" and .size_bytes > 1 * TB)    // yes
//	count(facts.disks, .rotational) >= 2                               // undecided: facts.disks[2].rotational is not known
//	facts.custom.rack == "r12" and not node.protected                  // yes
//	facts.bmc.firmware == "1.0"                                        // undecided: facts.bmc.firmware is not known
//
// # Facts
//
// A name with dots is a fact: facts.memory.total_bytes. The first word is a root: facts (what the agent found), meta
// (what operators wrote on the node) and node (what the broker keeps) in muster. A list takes an index from its start,
// or from its end when negative. A key that is no word stands in brackets and quotes.
//
//	facts.disks[0].name == "sda"                                       // yes
//	facts.disks[-1].name == "sdb"                                      // yes
//	facts.disks[9].name == "sda"                                       // undecided: facts.disks[9].name is not known
//	facts.custom["rack-row"] == "c"                                    // yes
//	meta.site.floor == 2                                               // yes
//
// Names are checked when the rule is saved, as are types:
//
//	facts.memroy.total_bytes > 0                                       // refused: line 1, column 7: unknown fact facts.memroy; nearest is facts.memory
//	any(facts.disks, .transprt == "nvme")                              // refused: line 1, column 19: unknown fact facts.disks[].transprt; nearest is facts.disks[].transport
//	facts.cpu.cores == "32"                                            // refused: line 1, column 17: cannot compare facts.cpu.cores (number) with "32" (string)
//	facts.disks.name == "sda"                                          // refused: line 1, column 13: facts.disks is a list; write any(facts.disks, .name ...) or facts.disks[0].name
//	len(facts.disks)                                                   // refused: line 1, column 1: a rule is true or false; len(facts.disks) is a number
//
// Under facts.custom and meta any key may be asked for. Custom facts are strings. A value of meta is what the operator
// wrote; only a node can tell its kind, so the wrong kind makes the rule undecided.
//
//	facts.custom.colour == "red"                                       // undecided: facts.custom.colour is not known
//	facts.custom.u == 17                                               // refused: line 1, column 16: cannot compare facts.custom.u (string) with 17 (number)
//	meta.env == "prod"                                                 // yes
//	meta.cores == "32"                                                 // undecided: meta.cores is a number, compared with a string
//	meta.racked                                                        // yes
//
// # Values
//
// Values are numbers, strings, booleans, lists and objects. A number is 12, 0x1f, 1_000_000 or 1.5; integers of 64 bits
// are exact, and a number with a fraction is compared with them exactly. A string stands in double or single quotes, or
// in backticks without escapes. A boolean is true or false. A list of constants is written ["a", "b"]. Facts in bytes
// are compared with units: KB MB GB TB are powers of 1000, as disks are sold; KiB MiB GiB TiB are powers of 1024, as
// memory is. Nothing is converted by itself: "2" is not 2.
//
//	facts.memory.total_bytes >= 188 * GiB and 1 * TiB > 1 * TB         // yes
//	facts.arch in ["x86_64", 'aarch64']                                // yes
//	facts.cpu.cores / 5 == 6.4                                         // yes
//	facts.cpu.cores / 0 == 1                                           // undecided: facts.cpu.cores / 0 divides by zero
//
// # Operators
//
// From the weakest to the strongest; those in one row are equal and go from left to right.
//
//	or ||                                boolean, boolean
//	and &&                               boolean, boolean
//	== !=                                two numbers, two strings or two booleans
//	< <= > >=                            two numbers; 4 <= x <= 8 is 4 <= x and x <= 8
//	in                                   a number, string or boolean, and a list
//	matches                              a string and a pattern in quotes
//	contains startsWith endsWith         two strings; case counts
//	not !                                boolean
//	+ -                                  two numbers
//	* /                                  two numbers; 3 / 2 is 1.5
//	-                                    before a number
//
// The rows from == to endsWith are equally strong. Brackets ( ) group. "not in" and "not matches" read as they sound;
// but not binds tighter than ==, so write not (x == y). A pattern is RE2 (Go's regexp), found anywhere in the string
// unless it has ^ and $; (?i) before it ignores case.
//
//	4 <= facts.cpu.cores <= 64                                         // yes
//	"avx2" in facts.cpu.flags                                          // yes
//	facts.arch not in ["aarch64"]                                      // yes
//	facts.system.product contains "R640"                               // yes
//	facts.system.product startsWith "Power"                            // yes
//	facts.system.product endsWith "640"                                // yes
//	facts.system.manufacturer matches "(?i)^dell"                      // yes
//	facts.system.manufacturer matches "(dell"                          // refused: line 1, column 27: the pattern is not RE2: error parsing regexp: missing closing ): `(dell`
//	not (facts.arch == "aarch64")                                      // yes
//	not facts.arch == "aarch64"                                        // refused: line 1, column 1: not takes a boolean; facts.arch is a string (write not (x == y), with brackets)
//	-facts.cpu.cores + 2 * 16 == 0                                     // yes
//
// # Functions
//
// The first seven look at each element of a list. In their test # is the element and .name is a fact of it; a test
// inside a test sees the inner element only, and three lists may be looked into at once.
//
//	any(list, test)                      some element passes
//	all(list, test)                      every element passes; an empty list does
//	none(list, test)                     no element passes
//	one(list, test)                      exactly one element passes
//	count(list, test)                    how many elements pass
//	filter(list, test)                   the list of elements that pass
//	sum(list, number)                    the sum of a number of each element
//	len(list or string)                  how many elements or characters
//	known(fact)                          whether the fact is known: yes or no, never undecided
//	default(x, y)                        x, or y when x is not known
//	lower(string)                        the string in lower case
//	num(string)                          the decimal number in a string, such as a custom fact
//	version_less(a, b)                   whether version or date a comes before b: runs of digits count as numbers
//	tag("name")                          what another tag says of the node
//	cidr_contains("10.0.0.0/8", ip)      whether the network has the address; a prefix length behind it is ignored
//	mac_in(mac, "52:54:00:12:34:56", ...)  whether the MAC is one of these, case and separators aside; "52:54:00" is every MAC of a maker
//
// Each of them at work:
//
//	all(facts.disks, .size_bytes > 100 * GB)                           // yes
//	all(facts.nics, .speed_mbps >= 10000)                              // undecided: facts.nics[1].speed_mbps is not known
//	none(facts.disks, .transport == "usb")                             // undecided: facts.disks[2].transport is not known
//	one(facts.disks, .removable)                                       // yes
//	any(facts.nics, any(.lldp, .sys_name startsWith "rack12-"))        // yes
//	any(facts.nics, any(.ipv4, cidr_contains("10.20.0.0/16", #)))      // yes
//	any(facts.nics, mac_in(.mac, "246E.9611.2233", "52:54:00"))        // yes
//	len(filter(facts.disks, .size_bytes > 1 * TB)) == 2                // yes
//	sum(filter(facts.disks, not .removable), .size_bytes) > 5 * TB     // yes
//	known(facts.bmc) or facts.tpm.present                              // yes
//	default(facts.custom.colour, "none") == "none"                     // yes
//	any(facts.nics, default(.speed_mbps, 0) < 1000)                    // yes
//	lower(facts.system.serial) == "7xk2m93"                            // yes
//	num(facts.custom.u) > 9                                            // yes
//	num(facts.custom.note) > 9                                         // undecided: facts.custom.note is not a number: "n/a"
//	version_less(facts.firmware.version, "2.9")                        // no
//	version_less(facts.firmware.date, "2022-01-01")                    // yes
//	len(facts.custom.rack) == 3 and "osd" in meta.roles                // yes
//
// # Other tags
//
// tag("name") is the verdict of another tag, which may be written in either language: a rule that depends on an undecided
// one is undecided for the same cause. The name stands in quotes. Tags that refer to each other in a circle are refused
// when they are saved, with the names in order; a tag that does not exist is allowed, and not known.
//
//	tag("storage") and facts.cpu.cores >= 16                           // yes
//	not tag("old")                                                     // yes
//	tag("bmc-ok") and facts.cpu.cores >= 16                            // undecided: tag bmc-ok: facts.bmc.firmware is not known
//	tag("nowhere") or facts.cpu.cores >= 16                            // yes
//	tag(facts.arch)                                                    // refused: line 1, column 1: tag takes the name of a tag in quotes
//
// # Unknown
//
// A fact that is absent, or null, is not known; so is everything computed from it, and a rule that depends on it is
// undecided. An undecided tag is not carried by its node, and not denied to it: its policy is passed over with the
// cause, which names the first such fact. (A plain yes-or-no fact such as .removable is the exception: facts leave it
// out when it is false, so it is false when the rest of its object is there.) A rule is decided as soon as the known
// facts decide it, whatever the others may be (Kleene's logic; U is undecided):
//
//	and  | yes  no   U          or   | yes  no   U          not  |
//	yes  | yes  no   U          yes  | yes  yes  yes        yes  | no
//	no   | no   no   no         no   | yes  no   U          no   | yes
//	U    | U    no   U          U    | yes  U    U          U    | U
//
// any is or over the elements, all is and, none is not any. count, len and one know their bounds: with 3 disks that
// spin and one that may, count(...) >= 3 is yes, count(...) >= 5 is no and count(...) == 4 is undecided.
//
//	facts.bmc.present and facts.arch == "aarch64"                      // no
//	facts.bmc.present or facts.arch == "x86_64"                        // yes
//	facts.bmc.present and facts.arch == "x86_64"                       // undecided: facts.bmc.present is not known
//	not facts.bmc.present                                              // undecided: facts.bmc.present is not known
//	any(facts.disks, .rotational)                                      // yes
//	all(facts.disks, .rotational)                                      // no
//	any(facts.disks, .transport == "virtio")                           // undecided: facts.disks[2].transport is not known
//	count(facts.disks, .transport == "sas") >= 1                       // yes
//	count(facts.disks, .transport == "sas") > 2                        // no
//	meta.owner == "ops"                                                // undecided: meta.owner is not known
//	known(facts.disks[2].removable) and not facts.disks[1].removable   // yes
//
// # Incomplete sections
//
// A section that the agent could read in part only (one disk of many did not answer) holds what is there and lacks what
// may be. What its lists show is a lower bound: any may be yes and never no, all may be no and never yes, counts and
// lengths are known from below. Sums and indexes are not known, nor is what an object of the section leaves out, plain
// booleans too. The cause names the section and what its collector said. In this manual that is facts.usb:
//
//	any(facts.usb, .vendor == "Yubico")                                // yes
//	any(facts.usb, .vendor == "SanDisk")                               // undecided: facts.usb is incomplete: timeout: port 1-4: no answer
//	none(facts.usb, .vendor == "Yubico")                               // no
//	all(facts.usb, .vendor == "Yubico")                                // no
//	all(facts.usb, .speed_mbps > 1)                                    // undecided: facts.usb is incomplete: timeout: port 1-4: no answer
//	len(facts.usb) >= 2                                                // yes
//	len(facts.usb) == 2                                                // undecided: facts.usb is incomplete: timeout: port 1-4: no answer
//	count(facts.usb, .speed_mbps == 480) < 1                           // no
//	facts.usb[0].vendor == "Yubico"                                    // undecided: facts.usb[0].vendor is not known (facts.usb is incomplete: timeout: port 1-4: no answer)
//	known(facts.usb)                                                   // yes
//
// # Time
//
// There is no time in a rule, and no clock. A tag is judged when its node checks in and when tags change, at which moment
// the node was just seen: a tag that says "not seen for 15 minutes" would never hold, or hold until something unrelated
// asks again, and a policy would act on it. Ask such things where the answer is used at once, with muster get nodes.
//
// # Limits
//
// A rule has at most 4096 bytes, 1000 terms and 64 terms inside one another; a pattern 512 bytes and 2000 instructions.
// An evaluation takes at most 100000 steps; one that would take more is undecided, "too costly". Rules call nothing,
// read no clock and change nothing, so the same facts always give the same verdict.
package rule
