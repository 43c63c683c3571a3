package inspection

// What Python has a word about.
var (
	Native  = native
	Text    = text
	Integer = integer
	Float   = float
	Equal   = equal
	Compare = compare
)

// Match is matches or contains: taken is false when the pattern is refused.
func Match(pattern, s string, full bool) (yes, taken bool) {
	c := &checker{program: &Program{}}
	m := c.pattern("", pattern, full)
	if len(c.faults) > 0 {
		return false, false
	}
	yes, _ = m.match(&run{}, "", s)
	return yes, true
}

// InNet is in-net; taken is false when one of both is refused.
func InNet(network, address string) (yes, taken bool) {
	c := &checker{program: &Program{}}
	p := c.network("", network)
	if len(c.faults) > 0 {
		return false, false
	}
	yes, err := inNet(p, address)
	return yes, err == nil
}

// Covers says how a path of a schema lies to one that is read.
func Covers(known, read string) string {
	return [...]string{"apart", "above", "same"}[covers(known, read)]
}
