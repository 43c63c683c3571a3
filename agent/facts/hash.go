package facts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Hash is the SHA-256, in hexadecimal, of the canonical JSON of all facts: keys sorted bytewise, no blanks, no HTML
// escapes, UTF-8. Any JSON library gives the same bytes, because facts hold integers and no U+2028 or U+2029.
func (f *Facts) Hash() (string, error) {
	tree, err := f.tree()
	if err != nil {
		return "", err
	}
	return sum(tree)
}

// labels are the facts that may differ between two boots of one unchanged machine: what the kernel named, and what
// the network gave. Keys are sections; the names below them are left out of the hardware hash.
var labels = map[string][]string{
	"disks":   {"name", "hctl"}, // hosts are numbered as their drivers come
	"optical": {"name"},
	"nics":    {"name", "ipv4", "ipv6"},
	"boot":    {"cmdline", "ip"},
}

// HardwareHash is Hash without kernel names and numbers, addresses, the command line and LLDP lifetimes: it changes when the
// hardware does.
func (f *Facts) HardwareHash() (string, error) {
	tree, err := f.tree()
	if err != nil {
		return "", err
	}
	dropLabels(tree)
	return sum(tree)
}

// Hashes gives Hash and HardwareHash, for the cost of little more than one.
func (f *Facts) Hashes() (whole, hardware string, err error) {
	tree, err := f.tree()
	if err != nil {
		return "", "", err
	}
	if whole, err = sum(tree); err != nil {
		return "", "", err
	}
	dropLabels(tree)
	hardware, err = sum(tree)
	return whole, hardware, err
}

func dropLabels(tree map[string]any) {
	for section, names := range labels {
		drop(tree[section], names)
	}
	nics, _ := tree["nics"].([]any)
	for _, nic := range nics {
		if m, ok := nic.(map[string]any); ok {
			drop(m["lldp"], []string{"ttl"})
		}
	}
}

// drop deletes names from an object, or from each object of an array.
func drop(section any, names []string) {
	switch s := section.(type) {
	case map[string]any:
		for _, name := range names {
			delete(s, name)
		}
	case []any:
		for _, item := range s {
			drop(item, names)
		}
	}
}

// tree is the JSON document of the facts as maps, slices and scalars; numbers are json.Number.
func (f *Facts) tree() (map[string]any, error) {
	b, err := encode(f)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("encode facts: %w", err)
	}
	return tree, nil
}

func sum(tree any) (string, error) {
	b, err := encode(tree)
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// encode writes JSON without HTML escapes. Go sorts the keys of maps.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode facts: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
