package rule

import (
	"encoding/json"
	"reflect"
)

// Usages lists how each function is called.
func Usages() []string {
	var usages []string
	for _, fn := range functions {
		usages = append(usages, fn.usage)
	}
	return usages
}

// Same says that two programs have the same terms.
func Same(a, b *Program) bool { return same(a.root, b.root) }

func same(a, b *term) bool {
	if a.shape != b.shape || a.word != b.word || a.folded != b.folded || len(a.args) != len(b.args) ||
		!reflect.DeepEqual(a.konst, b.konst) || !reflect.DeepEqual(a.ref, b.ref) || a.typ.kind != b.typ.kind {
		return false
	}
	for i := range a.args {
		if !same(a.args[i], b.args[i]) {
			return false
		}
	}
	return true
}

// ReadTree is a tree from any JSON text.
func ReadTree(doc string) (any, error) { return Tree(json.RawMessage(doc)) }

// TreeThroughText is Tree by encoding/json alone.
func TreeThroughText(v any) (any, error) { return throughText(reflect.ValueOf(v)) }
