package broker

import (
	"regexp"
	"strings"
	"text/template"
)

// label is RFC 1123 section 2.1: letters, digits and inner dashes, at most 63.
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// hostname renders a policy's pattern for its seq-th node. What comes out must be a host name; nothing of a node's
// facts goes in.
func hostname(pattern, id string, seq int64) (string, error) {
	if pattern == "" {
		return "", nil
	}
	if len(pattern) > 255 || strings.Count(pattern, "{{") > 4 {
		return "", invalid("hostname pattern is too long")
	}
	t, err := template.New("hostname").Option("missingkey=error").Parse(pattern)
	if err != nil {
		return "", invalid("hostname pattern %q: %s", pattern, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, struct {
		Seq int64
		ID  string
	}{seq, id}); err != nil {
		return "", invalid("hostname pattern %q: %s", pattern, err)
	}
	if err := checkHostname(b.String()); err != nil {
		return "", invalid("hostname pattern %q: %s", pattern, err)
	}
	return b.String(), nil
}

// checkHostname takes a host name in lower case.
func checkHostname(name string) error {
	if len(name) > 253 {
		return invalid("a host name has at most 253 bytes")
	}
	for _, l := range strings.Split(name, ".") {
		if !label.MatchString(l) {
			return invalid("%q is no host name (RFC 1123)", name)
		}
	}
	return nil
}
