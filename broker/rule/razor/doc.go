// Package razor is Razor's language of tags, for operators who bring their rules along: a rule is a JSON array such as
// ["=", ["fact", "a"], 1]. It is a package of its own beside muster's language (package rule), and no front end of it,
// because the two disagree on what matters: here null is a value, an error met from left to right is the result, and
// numbers have no bounds. They share verdicts, causes and parts, so that the broker need not know which one a tag speaks.
//
// # Rules
//
// A rule is [operator, argument...]; an argument is a literal (string, number, boolean, null) or another rule. A test
// runs every line of this page on the facts {"a": 1, "b": {"c": "x"}, "d": null, "l": [1, 2], "macaddress_eth0":
// "52:54:00:AA:00:01"}, the metadata {"rack": "r12"} and the state {"installed": "web"}.
//
//	["=", ["fact", "a"], 1]                                   // yes
//	["and", ["=", ["fact", "a"], 2], ["=", ["fact", "z"], 1]] // no
//	["or", ["=", ["fact", "z"], 1], ["=", ["fact", "a"], 1]]  // undecided: missing-fact at /1/1: there is no fact "z"
//
// # Operators
//
//	and or        boolean...                  boolean  from left to right, until one decides or fails
//	not           boolean                     boolean
//	fact metadata string, [scalar]            scalar   by name or path; the second is the default
//	state         string, [string]            scalar   installed: the policy, "+protected", or null
//	tag           string                      scalar   what another tag says of the node
//	eq = neq !=   scalar, scalar              boolean  nothing is converted: "2" is not 2, 1 is 1.0
//	in            scalar, scalar...           boolean  the first is one of the others
//	like          string, pattern             boolean  found anywhere in the string
//	gt > gte >= lt < lte <=  number, number   boolean  exact
//	num           scalar                      number   a number of a string
//	str           scalar                      string
//	lower upper   string                      string
//	has_macaddress       string...            boolean  a fact whose name begins with macaddress is one of these
//	has_macaddress_like  pattern...           boolean
//
// What has the wrong type is refused when the rule is saved. fact, metadata, state and tag may give anything, so a
// conversion stands around them where one type is wanted:
//
//	["like", ["fact", "b.c"], "^x"]           // refused: argument-type at /1: fact may give any scalar and like takes a string; write ["str", ["fact", "b.c"]]
//	["like", ["str", ["fact", "b.c"]], "^x"]  // yes
//	[">", ["num", ["fact", "a"]], 0.5]        // yes
//	["tag", "small"]                          // refused: root-not-boolean: tag may give any scalar and a rule is true or false; write ["=", ["tag", "small"], true]
//	["or", ["lower", 1], ["<", 1]]            // refused: argument-type at /1: lower gives a string and or takes a boolean; argument-type at /1/1: 1 is a number and lower takes a string; too-few-arguments at /2: < takes 2 arguments
//
// # Look-up
//
// The exact name comes first, whatever its value: null is found, and hides the default; a list or an object is an error.
// Otherwise a name with dots is a path; a list has the indexes 0, 1, ... and -1, -2, ... from its end, and length. A
// path that ends at null, a list or an object finds nothing.
//
//	["=", ["fact", "d", "default"], null]     // yes
//	["=", ["fact", "b.c"], "x"]               // yes
//	["=", ["fact", "l.-1"], ["fact", "l.length"]] // yes
//	["=", ["fact", "l", 1], 1]                // undecided: not-scalar at /1: fact "l" is a list
//	["=", ["fact", "b.d", "default"], "default"] // yes
//	["=", ["metadata", "rack"], "r12"]        // yes
//	["=", ["state", "installed"], "web"]      // yes
//
// # Numbers and strings
//
// Integers are exact, all others are floats of 64 bits. num reads 0b11 and 027 as binary and octal integers, and
// everything else as a float: decimal or 0x1f, white space around it and single _ between digits allowed. str writes a
// float with a fraction, and with an exponent below 1e-4 and from 1e15.
//
//	["=", ["num", "027"], 23]                 // yes
//	["=", ["num", "+027"], 27]                // yes
//	["=", ["num", "1."], 1]                   // undecided: not-a-number at /1: "1." is not a number
//	["=", ["str", ["num", "8"]], "8.0"]       // yes
//	["=", ["str", 1e15], "1.0e+15"]           // yes
//	["=", ["upper", "straße"], "STRASSE"]     // yes
//
// # Patterns
//
// A pattern is RE2 with ^ and $ at lines, and stands in the rule as a string. What Ruby has and RE2 has not is refused,
// as is what RE2 reads in another way, with what to write instead.
//
//	["like", "aa", "(a)\\1"]                  // refused: bad-regex at /2: RE2 has no \1 (a back-reference); rewrite it, or use several like under and, or, not
//	["like", "aa", "\\h+"]                    // refused: bad-regex at /2: RE2 has no \h; write [0-9a-fA-F]
//	["has_macaddress_like", "^52:54:00:aa"]   // yes
//	["has_macaddress", "52-54-00-aa-00-01"]   // no
//
// These are taken and differ: [[:alpha:]] and \b know ASCII only, \s has no vertical tab, ^ also stands behind a final
// newline, (?i) folds single letters.
//
// # What differs from Razor
//
// and and or stop early. A rule that fails concerns its own tag, which is then undecided. Tags that refer to each other
// in a circle are refused when they are saved. Whether a rule is valid does not depend on the order of its arguments.
// Patterns are literal and RE2. Where the agent could not read all interfaces, has_macaddress is undecided instead of no.
//
// A rule has at most 32768 bytes, 4000 values and 64 rules inside one another; an evaluation takes at most 100000 steps.
package razor
