package rule

// Cycle finds tags whose rules refer to each other in a circle, such as b a b; nil when there are none. It looks from
// each of the tags in turn, so that a circle begins with the first of them that lies on it. refs lists the tags that the
// rule of a tag refers to, in either language.
func Cycle(tags []string, refs func(tag string) []string) []string {
	g := graph{refs: refs, done: map[string]bool{}, on: map[string]int{}}
	for _, tag := range tags {
		if circle := g.walk(tag); circle != nil {
			return circle
		}
	}
	return nil
}

// A graph is walked depth first.
type graph struct {
	refs func(string) []string
	done map[string]bool // no circle is behind these
	way  []string        // from where the walk began
	on   map[string]int  // place on the way
}

func (g *graph) walk(tag string) []string {
	if at, ok := g.on[tag]; ok {
		return append(g.way[at:len(g.way):len(g.way)], tag)
	}
	if g.done[tag] {
		return nil
	}
	g.on[tag] = len(g.way)
	g.way = append(g.way, tag)
	for _, next := range g.refs(tag) {
		if circle := g.walk(next); circle != nil {
			return circle
		}
	}
	g.way = g.way[:len(g.way)-1]
	delete(g.on, tag)
	g.done[tag] = true
	return nil
}
