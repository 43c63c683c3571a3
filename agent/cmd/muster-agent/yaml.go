package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// printYAML prints a tree of JSON values as block YAML. Every string is in double quotes, where YAML knows all escapes
// that JSON has, so that no serial number is taken for a number, a date or "no".
func printYAML(w io.Writer, tree any) error {
	var b strings.Builder
	writeYAML(&b, "", tree)
	_, err := io.WriteString(w, strings.TrimPrefix(b.String(), "\n"))
	return err
}

// writeYAML continues the line of a key or a dash: with a blank and a scalar, or with lines below it.
func writeYAML(b *strings.Builder, indent string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(indent + yamlKey(key) + ":")
			writeYAML(b, indent+"  ", v[key])
		}
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		for _, item := range v {
			b.WriteString(indent + "-")
			writeYAML(b, indent+"  ", item)
		}
	default:
		b.WriteString(" " + yamlScalar(v) + "\n")
	}
}

// plainKey matches names that no version of YAML takes for anything but text; y, n, on and no are too short for it.
var plainKey = regexp.MustCompile(`^[a-z]+_[a-z0-9_]*$|^[a-z]{6,}$|^(schema|arch|cpu|bmc|pci|usb|tpm|id|name|mac|path)$`)

func yamlKey(key string) string {
	if plainKey.MatchString(key) {
		return key
	}
	return yamlScalar(key)
}

// yamlScalar is a JSON scalar, which is YAML as it stands.
func yamlScalar(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprintf("%q", fmt.Sprint(v))
	}
	return strings.TrimSuffix(b.String(), "\n")
}
