package agent

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// What a kernel gets is what was signed: module, signature and the marker at its end.
func TestUnpackModule(t *testing.T) {
	signed := append(bytes.Repeat([]byte("\x7fELF text of a module"), 10_000), "~Module signature appended~\n"...)
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := z.EncodeAll(signed, nil)
	bomb := z.EncodeAll(make([]byte, maxModule+1), nil)
	for _, row := range []struct {
		name, content string
		want          []byte
		err           string
	}{
		{"whole", string(packed), signed, ""},
		{"cut short", string(packed[:len(packed)-5]), nil, "unexpected EOF"},
		{"not compressed", string(signed), nil, "magic"},
		{"of more memory than a module may take", string(bomb), nil, "exceeds"},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.ko.zst")
			put(t, path, row.content)
			got, err := unpackModule(path)
			if row.err == "" && (err != nil || !bytes.Equal(got, row.want)) {
				t.Errorf("unpacked %d bytes, %v; want the %d that were packed", len(got), err, len(row.want))
			}
			if row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err) || !strings.Contains(err.Error(), path)) {
				t.Errorf("unpacked %d bytes, %v; want an error of %q that names the file", len(got), err, row.err)
			}
		})
	}
}
