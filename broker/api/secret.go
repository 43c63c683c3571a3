package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"muster/broker"
)

// secretFields are names of fields, in lower case, that only an admin sees.
var secretFields = []string{"secret", "token", "password", "key", "private_key", "headers", "env"}

// seenBy is the document of an object as its caller may see it: what is sealed in it is seen by nobody.
func seenBy(ctx context.Context, o broker.Object) json.RawMessage {
	o, err := o.Hidden()
	if err != nil {
		return json.RawMessage(`"***"`)
	}
	if broker.CallerOf(ctx).Role.May(broker.Admin) {
		return o.Doc
	}
	d := json.NewDecoder(bytes.NewReader(o.Doc))
	d.UseNumber()
	var doc any
	if err := d.Decode(&doc); err != nil {
		return json.RawMessage(`"***"`)
	}
	if !mask(&doc) {
		return o.Doc // as it was written, its fields in their order
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return json.RawMessage(`"***"`)
	}
	return raw
}

// mask hides secrets in a tree, and says whether there were any.
func mask(v *any) (hid bool) {
	switch x := (*v).(type) {
	case map[string]any:
		for k, e := range x {
			if slices.Contains(secretFields, strings.ToLower(k)) {
				e, hid = "***", true
			} else {
				hid = mask(&e) || hid
			}
			x[k] = e
		}
	case []any:
		for i := range x {
			hid = mask(&x[i]) || hid
		}
	case string:
		if u, err := url.Parse(x); err == nil && u.User != nil {
			u.User = url.User("***")
			*v, hid = u.String(), true
		}
	}
	return hid
}
