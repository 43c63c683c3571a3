package facts

import (
	"encoding/json"
	"strconv"
)

// Dotted is every fact under its dotted name, disks.0.serial, as a string, bool or int64. A list or table that was
// looked for and found empty is there as an empty []any or map[string]any. Facts that cannot be encoded give nil.
func (f *Facts) Dotted() map[string]any {
	tree, err := f.tree()
	if err != nil {
		return nil
	}
	flat := map[string]any{}
	flatten(flat, "", tree)
	return flat
}

func flatten(flat map[string]any, name string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, item := range v {
			flatten(flat, dot(name, key), item)
		}
		if len(v) == 0 && name != "" {
			flat[name] = v
		}
	case []any:
		for i, item := range v {
			flatten(flat, dot(name, strconv.Itoa(i)), item)
		}
		if len(v) == 0 {
			flat[name] = v
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			flat[name] = n
		}
	default:
		flat[name] = v
	}
}

func dot(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
}
