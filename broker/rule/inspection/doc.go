// Package inspection is the language of OpenStack Ironic's inspection rules and of ironic-inspector's before them, for
// operators who bring their rules along: a rule is a JSON object with conditions. It is a package of its own beside
// muster's language (package rule) and Razor's (package razor), because it is Python underneath: true is 1, null has a
// text, and what is missing is an answer. They share verdicts, causes and parts, so that the broker need not know which
// one a tag speaks.
//
// # Rules
//
// A rule is {"conditions": [...]} as it was sent to /v1/rules (ironic-inspector) or /v1/inspection_rules (Ironic). All
// conditions must hold; without any, a rule holds on every node. The form of the conditions tells the dialect. A test
// runs every line of this page on the inventory {"bmc_address": "10.20.0.17", "cpu": {"architecture": "x86_64", "count":
// 32}, "disks": [{"name": "/dev/sda", "size": 500, "wwn": "0x5"}, {"name": "/dev/sdb", "size": 4000, "wwn": null}],
// "system_vendor": {"product_name": "PowerEdge R640"}}, with the data {"cpus": 32} beside it, and the node {"name": "r12",
// "extra": {"rack": "b7"}, "properties": {"inspection_scope": "lab"}}.
//
// A rule may have description, uuid, sensitive and phase main, which have no effect; scope (ironic-inspector), which is
// held against the node's properties.inspection_scope; and priority (Ironic), with a warning: tags have no order.
//
//	{"conditions": []}                                         // yes
//	{"conditions": [], "scope": "prod"}                        // no
//	{"conditions": [], "priority": 10000}                      // refused: priority-out-of-range at /priority: a priority is an integer from 0 to 9999, not 10000
//	{"conditions": [], "actions": [{"op": "add-trait", "args": {"name": "CUSTOM_X"}}]} // refused: actions at /actions/0: a tag does nothing, so leave "add-trait" out; the tag stands for the trait: policies ask for it in tags
//
// # The form of ironic-inspector
//
// A condition is {"op", "field", "value", "multiple", "invert"}. field is a path into the data (data://, which may be
// left out) or into the node (node://): names, names in quotes, [0], [*] and .*, as jsonpath-rw reads them.
//
//	eq ne lt gt le ge  a field is made a number when value is one; true and false are 1 and 0
//	in-net             host bits in the network are taken; version 6 is never in version 4
//	matches            from the start of the text to its end
//	contains           anywhere in the text
//	is-empty           null, "", [] and {}; takes no value
//
//	{"conditions": [{"op": "eq", "field": "inventory.cpu.count", "value": 32}]}                          // yes
//	{"conditions": [{"op": "eq", "field": "cpus", "value": "32"}]}                                       // no
//	{"conditions": [{"op": "gt", "field": "inventory.cpu.architecture", "value": 5}]}                    // undecided: cannot-convert at /conditions/0/value: "x86_64" is not a number, as 5 is
//	{"conditions": [{"op": "in-net", "field": "data://inventory.bmc_address", "value": "10.20.0.1/24"}]} // yes
//	{"conditions": [{"op": "eq", "field": "node://extra.rack", "value": "b7"}]}                          // yes
//	{"conditions": [{"op": "gt", "field": "inventory..size", "value": 5}]}                               // refused: bad-path at /conditions/0/field: path "inventory..size" is not understood from "..size": `..` (any depth) is not supported: write the whole path
//
// A path may lead to several values. multiple is any (the default), all, or first; invert turns the answer of each value.
// A field that is missing makes the condition false, inverted or not; only is-empty sees it.
//
//	{"conditions": [{"op": "gt", "field": "inventory.disks[*].size", "value": 1000}]}                    // yes
//	{"conditions": [{"op": "gt", "field": "inventory.disks[*].size", "value": 1000, "multiple": "all"}]} // no
//	{"conditions": [{"op": "gt", "field": "inventory.disks[*].size", "value": 1000, "invert": true}]}    // yes
//	{"conditions": [{"op": "eq", "field": "inventory.gpu", "value": 1, "invert": true}]}                 // no
//	{"conditions": [{"op": "is-empty", "field": "inventory.gpu"}]}                                       // yes
//
// # The form of Ironic
//
// A condition is {"op", "args", "loop", "multiple"}; ! before the operator turns its answer. args are a map, or a list in
// this order:
//
//	eq lt gt          values, [force_strings]   each value and the next; fewer than two are true
//	in-net            address, subnet
//	matches contains  value, regex
//	one-of            value, [values]
//	is-empty          value                     the texts "", None, [] and {}, and what is missing
//	is-none           value                     null that stands in the rule
//	is-true           value                     true, a number that is not 0, yes or true in any case
//	is-false          value                     false, 0, null, no or false in any case
//
// A string may have templates, {inventory[cpu][count]}, {plugin_data[..]} and {node.name}: the result is a string, always.
// {{ and }} are braces; a string with braces and no template, such as a pattern, stays as it is.
//
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory[cpu][architecture]}", "x86_64"]}}]}              // yes
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory[cpu][count]}", 32]}}]}                           // no
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory[cpu][count]}", 32], "force_strings": true}}]}    // yes
//	{"conditions": [{"op": "gt", "args": {"values": ["{inventory[cpu][count]}", 16]}}]}                           // refused: bad-value at /conditions/0/args: a template gives a string, which has no order with a number; to compare numbers write {op: gt, field: inventory.cpu.count, value: 16}
//	{"conditions": [{"op": "!matches", "args": ["{inventory[system_vendor][product_name]}", "PowerEdge R[0-9]{3}"]}]} // no
//	{"conditions": [{"op": "is-empty", "args": {"value": "{inventory[disks][1][wwn]}"}}]}                         // yes
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory.bmc_address}", "10.20.0.17"]}}]}                 // refused: bad-path at /conditions/0/args/values/0: "{inventory.bmc_address}" names nothing in Ironic; write {inventory[bmc_address]}
//	{"conditions": [{"op": "!!eq", "args": {"values": [1, 1]}}]}                                                  // refused: double-inversion at /conditions/0/op: "!!eq" inverts twice; write one ! or none
//
// Where a template names what is missing, the string stays as it is written: that is Ironic's way, and a warning is given
// for names that no inventory has here. A loop makes the condition once for each item, {item} or {item[key]}; multiple is
// any (the default), all, first, which is any, or last. In a loop values are compared as text.
//
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory[gpu]}", "{inventory[gpu]}"]}}]}                            // yes
//	{"conditions": [{"op": "eq", "args": {"values": ["{inventory[cpu][count]}", "{item}"]}, "loop": [16, 32]}]}             // yes
//	{"conditions": [{"op": "contains", "args": ["{node.name}", "{item}"], "loop": ["r", "b"], "multiple": "all"}]}          // no
//
// # Patterns
//
// A pattern is RE2 and stands in the rule. What Python has and RE2 has not is refused, as is what only RE2 has, with what
// to write instead. matches is Python's match with $ behind it: of a|b only b is held to the end, with a warning.
//
//	{"conditions": [{"op": "matches", "field": "inventory.system_vendor.product_name", "value": "PowerEdge"}]}            // no
//	{"conditions": [{"op": "matches", "field": "inventory.system_vendor.product_name", "value": "PowerEdge|x"}]}          // yes
//	{"conditions": [{"op": "contains", "field": "inventory.system_vendor.product_name", "value": "(?i)poweredge"}]}       // yes
//	{"conditions": [{"op": "contains", "field": "inventory.system_vendor.product_name", "value": "R(?!64)"}]}             // refused: bad-regex at /conditions/0/value: RE2 has no (?! (a look-ahead); rewrite it, or use several conditions, with invert or ! where that is needed
//
// What is taken finds what Python finds, but for \b and \B, which know the letters of ASCII only.
//
// # What differs from Ironic
//
// A rule that fails concerns its own tag, which is then undecided; it does not fail the inspection. A section of facts
// that could not be read whole makes a condition on it undecided, unless what is known decides: one value for any, or
// against all. What muster's agent never reads (a Schema says what) is undecided, not missing, as is a value that is
// Unknown. Networks, patterns and the forms of values are checked when a rule is saved, in both dialects. An object has
// no text, because its members have no order here; {inventory[..]} of a secret, which Ironic masks, and is-none of a
// template, of which Ironic's releases disagree, are refused, as are nested values in args, templates with formats, and
// templates in the items of a loop.
//
// A rule has at most 32768 bytes and 1000 conditions, each counted as often as its loop runs; a path has 32 steps; an
// evaluation takes at most 100000 steps.
package inspection
