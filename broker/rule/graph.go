package rule

import "slices"

// Cycle finds a way from a tag back to itself through what rules say of other tags, such as a b a; nil when there is
// none. refs lists the tags that the rule of a tag names, in both languages; of those that do not exist it lists none.
func Cycle(tag string, refs func(tag string) []string) []string {
	seen := map[string]bool{}
	var walk func(way []string) []string
	walk = func(way []string) []string {
		for _, next := range refs(way[len(way)-1]) {
			if next == tag {
				return append(slices.Clone(way), tag)
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			if found := walk(append(slices.Clone(way), next)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk([]string{tag})
}
