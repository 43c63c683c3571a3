package probe

import (
	"errors"
	"os"
	"path"
)

// maxLent is read of /proc/cpuinfo for a library: the first processors are in it.
const maxLent = 64 << 10

// lend calls a library with a root directory in which it finds these files. Libraries follow symbolic links out of any
// root and read without bound, which is no harm on a running machine; of another tree they get a copy, taken inside of
// it. A file that is not there, or cannot be read, is not in the copy.
func (t tree) lend(library func(root string) error, files ...string) error {
	if t.live() {
		return library("/")
	}
	content := make([][]byte, len(files))
	for i, name := range files { // before the directory is made: a file may hang for ever
		if name == cpuinfoFile { // as long as there are processors
			content[i], _ = t.read(name, maxLent)
			continue
		}
		content[i] = t.bytes(name)
	}
	dir, err := os.MkdirTemp("", "muster-probe")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, name := range files {
		// The directory tells too: ghw takes its presence for a machine with DMI, or for a processor.
		if t.exists(path.Dir(name)) {
			err = errors.Join(err, os.MkdirAll(dir+path.Dir(name), 0o700))
		}
		if content[i] != nil {
			err = errors.Join(err, os.WriteFile(dir+name, content[i], 0o600))
		}
	}
	if err != nil {
		return err
	}
	return library(dir)
}
