// Package inspection is the language of OpenStack Ironic's inspection rules and of ironic-inspector's before them, for
// operators who bring their rules along: a rule is a JSON object with conditions. It is a package of its own beside
// muster's language (package rule) and Razor's (package razor), because it is Python underneath: true is 1, null has a
// text, and what is missing is an answer. They share verdicts, causes and parts, so that the broker need not know which
// one a tag speaks.
package inspection
