package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func nothing(int64) {}

// newTrees is a store whose clock the test moves.
func newTrees(t *testing.T) (s *Trees, clock *time.Time) {
	t.Helper()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	s, err := OpenTrees(filepath.Join(t.TempDir(), "trees"), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return s, &now
}

// newSource reads a directory with these files; -> in front of a text makes it a link.
func newSource(t *testing.T, fold bool, files map[string]string) *Source {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		to, link := strings.CutPrefix(text, "->")
		err := os.WriteFile(name, []byte(text), 0o644)
		if link {
			err = errors.Join(os.Remove(name), os.Symlink(to, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	s, err := ReadSource(t.Context(), ReadDir(root), nothing)
	if err == nil {
		err = s.Name(fold)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// imported sends a source, all of it or as many files as said, and gives how many the store said were missing.
func imported(t *testing.T, s *Trees, src *Source, files int) int {
	t.Helper()
	if err := s.ImportManifest(bytes.NewReader(src.Encoded), src.Sum); err != nil {
		t.Fatal(err)
	}
	st, err := s.State(src.Sum)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := src.Send(t.Context(), &out, st.Missing[:min(files, len(st.Missing))], nothing); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(src.Sum, &out); err != nil {
		t.Fatal(err)
	}
	return st.MissingFiles
}

func readTree(t *testing.T, s *Trees, sum, path string) string {
	t.Helper()
	tree, err := s.Tree(sum)
	if err != nil {
		return err.Error()
	}
	e, err := tree.Lookup(path)
	if err != nil || e.SHA256 == "" {
		return fmt.Sprint(e.Path, " ", err)
	}
	f, err := s.Open(e)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestAnImportThatWasCutShortIsGoneOnWith: only what is missing is sent, a tree in part is held by no repo, and trees share.
func TestAnImportThatWasCutShortIsGoneOnWith(t *testing.T) {
	s, _ := newTrees(t)
	src := newSource(t, false, map[string]string{"a": "1", "b": "2", "c/d": "3", "c/same": "1", "c/none": "", "c/e": "4"})
	if n := imported(t, s, src, 2); n != 5 {
		t.Errorf("%d files are missing of a new tree; want 5, for two are the same", n)
	}
	if err := s.Held(src.Sum, nil); err == nil || !strings.Contains(err.Error(), "3 of its 5 files are missing") {
		t.Errorf("a tree in part is held: %v", err)
	}
	// The server dies and comes back.
	s, err := OpenTrees(s.files.dir, s.files.now)
	if err != nil {
		t.Fatal(err)
	}
	if n := imported(t, s, src, 99); n != 3 {
		t.Errorf("%d files are missing after a part was sent; want 3", n)
	}
	if err := s.Held(src.Sum, []string{"c/d"}); err != nil {
		t.Error(err)
	}
	for _, p := range []string{"x", "c", "../a"} {
		if err := s.Held(src.Sum, []string{p}); err == nil {
			t.Errorf("a repo may name %q, which is no file of its tree", p)
		}
	}
	next := newSource(t, false, map[string]string{"a": "1", "b": "2", "c/d": "another"})
	if n := imported(t, s, next, 99); n != 1 {
		t.Errorf("%d files are missing of a tree that shares all but one", n)
	}
	if got := readTree(t, s, src.Sum, "c/d") + readTree(t, s, next.Sum, "c/d") + readTree(t, s, src.Sum, "c/none"); got != "3another" {
		t.Errorf("the trees read %q", got)
	}
}

// TestWhatIsNoFileOfTheTreeIsRefused, and what came before it is kept.
func TestWhatIsNoFileOfTheTreeIsRefused(t *testing.T) {
	one, two := newSource(t, false, map[string]string{"a": "one"}), newSource(t, false, map[string]string{"a": "two"})
	sumOne, sumTwo := one.Manifest.Entries[0].SHA256, two.Manifest.Entries[0].SHA256
	for _, tt := range []struct {
		name, want string
		head       tar.Header
		body       string
	}{
		{"another file", "none of this tree", tar.Header{Name: sumTwo, Size: 3}, "two"},
		{"another size", "none of this tree", tar.Header{Name: sumOne, Size: 4}, "one!"},
		{"other bytes", "its sha256 is", tar.Header{Name: sumOne, Size: 3}, "two"},
		{"a path", "each named by its sha256", tar.Header{Name: "../../etc/passwd", Size: 3}, "one"},
		{"a link", "want plain files", tar.Header{Typeflag: tar.TypeSymlink, Name: sumOne, Linkname: "/etc/passwd"}, ""},
		{"a device", "want plain files", tar.Header{Typeflag: tar.TypeChar, Name: sumOne}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := newTrees(t)
			imported(t, s, one, 0)
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			err := errors.Join(w.WriteHeader(&tt.head))
			if err == nil {
				_, err = io.WriteString(w, tt.body)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Import(one.Sum, &out); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Import = %v; want an error with %q", err, tt.want)
			}
			if left, _ := os.ReadDir(s.files.dir); len(left) != 1 {
				t.Errorf("%d files are there; want the manifest alone", len(left))
			}
		})
	}
}

// TestALineThatBreaksLosesOneFile: what came whole is kept.
func TestALineThatBreaksLosesOneFile(t *testing.T) {
	s, _ := newTrees(t)
	src := newSource(t, false, map[string]string{"a": strings.Repeat("1", 9000), "b": strings.Repeat("2", 9000), "c": strings.Repeat("3", 9000)})
	imported(t, s, src, 0)
	st, err := s.State(src.Sum)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := src.Send(t.Context(), &out, st.Missing, nothing); err != nil {
		t.Fatal(err)
	}
	cut := io.MultiReader(io.LimitReader(&out, 25000), iotest.ErrReader(errors.New("gone")))
	if n, err := s.Import(src.Sum, cut); n != 2 || err == nil {
		t.Errorf("Import = %d, %v; want two files and why it ended", n, err)
	}
	if st, err = s.State(src.Sum); st.MissingFiles != 1 || err != nil {
		t.Errorf("%d files are missing, %v; want 1", st.MissingFiles, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.files.dir, "import-*")); len(left) != 0 {
		t.Errorf("half a file is left: %v", left)
	}
}

// TestLookup: paths as installers ask for them.
func TestLookup(t *testing.T) {
	files := map[string]string{"Sources/Boot.wim": "boot", "sources/x/y": "y", "a-b": "ab", "a/b": "b", "debian": "->.", "dists/stable": "->bookworm",
		"dists/bookworm/Release": "rel", "up": "->dists/stable/../bookworm/Release", "loop": "->loop2", "loop2": "->loop", "deep/out": "->../a/b", "gone": "->nowhere"}
	for _, tt := range []struct{ path, exact, folded string }{
		{"Sources/Boot.wim", "boot", "boot"},
		{"sources/boot.wim", "sources/boot.wim", "boot"},
		{"SOURCES/X/Y", "SOURCES/X/Y", "y"},
		{"debian/debian/a/b", "b", "b"},
		{"dists/stable/Release", "rel", "rel"},
		{"dists//stable/./Release", "rel", "rel"},
		{"up", "rel", "rel"},
		{"deep/out", "b", "b"},
		{"a/../a/b", "b", "b"},
		{"../a/b", "../a/b", "../a/b"},
		{"a/b/", "a/b/", "a/b/"},
		{"a/b/c", "a/b/c", "a/b/c"},
		{"loop", "loop", "loop"},
		{"gone", "gone", "gone"},
		{"a\x00b", "a\x00b", "a\x00b"},
	} {
		for fold, want := range map[bool]string{false: tt.exact, true: tt.folded} {
			s, _ := newTrees(t)
			src := newSource(t, fold, files)
			imported(t, s, src, 99)
			got := readTree(t, s, src.Sum, tt.path)
			if got != want && !(want == tt.path && strings.Contains(got, "file does not exist")) {
				t.Errorf("fold %t: %q reads %q; want %q", fold, tt.path, got, want)
			}
		}
	}
}

func TestList(t *testing.T) {
	m := Manifest{Entries: newSource(t, false, map[string]string{"a": "->b", "b-c": "1", "b/c": "2", "b/d/e": "3", "b.x": "4"}).Manifest.Entries}
	tree := newTree("", &m)
	for dir, want := range map[string][]string{"": {"a", "b", "b-c", "b.x"}, "b": {"b/c", "b/d"}, "b/d": {"b/d/e"}, "x": nil} {
		var got []string
		for _, e := range tree.List(dir) {
			got = append(got, e.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", dir, diff)
		}
	}
}

// TestT36WhatLeadsOutOfATreeIsRefused: a manifest is a stranger's, whoever's muster wrote it.
func TestT36WhatLeadsOutOfATreeIsRefused(t *testing.T) {
	sum := strings.Repeat("a", 64)
	file := func(path string) string { return fmt.Sprintf(`{"path":%q,"size":1,"sha256":%q}`, path, sum) }
	link := func(path, to string) string { return fmt.Sprintf(`{"path":%q,"link":%q}`, path, to) }
	for name, lines := range map[string][]string{
		"climbing":                  {file("../x")},
		"climbing within":           {file("a/../../x")},
		"absolute":                  {file("/etc/passwd")},
		"a slash at the end":        {file("a/")},
		"nothing between slashes":   {file("a//b")},
		"no name":                   {file("")},
		"itself":                    {file(".")},
		"a control character":       {file("a\x1b[2J")},
		"an absolute link":          {link("a", "/etc/passwd")},
		"a link out":                {link("a/b", "../../etc")},
		"a link out and in again":   {link("a", "../tree/b")},
		"twice":                     {file("a"), file("a")},
		"out of order":              {file("b"), file("a")},
		"below a file":              {file("a"), file("a/b")},
		"below a link":              {link("a", "b"), file("a/b")},
		"a file and a link":         {`{"path":"a","size":1,"sha256":"` + sum + `","link":"b"}`},
		"no sum":                    {`{"path":"a","size":1}`},
		"an upper-case sum":         {`{"path":"a","size":1,"sha256":"` + strings.ToUpper(sum) + `"}`},
		"a negative size":           {`{"path":"a","size":-1,"sha256":"` + sum + `"}`},
		"a giant":                   {`{"path":"a","size":1099511627776,"sha256":"` + sum + `"}`},
		"set-user-ID":               {`{"path":"a","mode":2541,"size":1,"sha256":"` + sum + `"}`},
		"unknown fields":            {`{"path":"a","size":1,"sha256":"` + sum + `","x":1}`},
		"a field twice":             {`{"path":"b","path":"a","size":1,"sha256":"` + sum + `"}`},
		"other spaces":              {`{"path": "a","size":1,"sha256":"` + sum + `"}`},
		"nothing":                   {},
		"more below a file, sorted": {file("a"), file("a-b"), file("a/b")},
	} {
		text := strings.Join(append([]string{`{"tree":1}`}, lines...), "\n") + "\n"
		if m, err := ReadManifest(strings.NewReader(text)); err == nil {
			t.Errorf("%s: is taken: %v", name, m)
		}
	}
	for _, head := range []string{"", "{}", `{"tree":2}`, `{"tree":1,"x":2}`} {
		if _, err := ReadManifest(strings.NewReader(head + "\n" + file("a") + "\n")); err == nil {
			t.Errorf("the head %q is taken", head)
		}
	}
	good := `{"tree":1,"fold":true}` + "\n" + file("a") + "\n" + link("b/c", "../a") + "\n"
	m, err := ReadManifest(strings.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Encode(); string(again) != good || err != nil {
		t.Errorf("it is written again as %q, %v", again, err)
	}
}

func FuzzReadManifest(f *testing.F) {
	sum := strings.Repeat("a", 64)
	f.Add([]byte(`{"tree":1,"fold":true}` + "\n" + `{"path":"a/b","mode":420,"size":1,"sha256":"` + sum + `"}` + "\n" + `{"path":"a/c","link":"b"}` + "\n"))
	f.Add([]byte(`{"tree":1}` + "\n" + `{"path":"<&>","sha256":"` + sum + `"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ReadManifest(bytes.NewReader(raw))
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil || !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(raw, []byte("\n"))) {
			t.Fatalf("%q is written again as %q, %v", raw, again, err)
		}
		tree := newTree("", m)
		for _, e := range m.Entries {
			if !fs.ValidPath(e.Path) {
				t.Fatalf("path %q is taken", e.Path)
			}
			if got, err := tree.Lookup(e.Path); err == nil && e.SHA256 != "" && got.SHA256 != e.SHA256 {
				t.Fatalf("%q is found as %v", e.Path, got)
			}
		}
	})
}

// TestSweepKeepsTreesThatReposName, and what they share.
func TestSweepKeepsTreesThatReposName(t *testing.T) {
	s, now := newTrees(t)
	old := newSource(t, false, map[string]string{"kernel": "old", "shared": "same"})
	next := newSource(t, false, map[string]string{"kernel": "new", "shared": "same"})
	imported(t, s, old, 99)
	imported(t, s, next, 99)
	*now = now.Add(23 * time.Hour)
	both, one := map[string]bool{old.Sum: true, next.Sum: true}, map[string]bool{next.Sum: true}
	if gone, err := s.Sweep(both, 24*time.Hour); len(gone) != 0 || err != nil {
		t.Errorf("swept %v, %v", gone, err)
	}
	*now = now.Add(24 * time.Hour)
	gone, err := s.Sweep(one, 24*time.Hour)
	if len(gone) != 2 || err != nil { // the manifest and the kernel
		t.Errorf("swept %v, %v; want the old kernel and manifest", gone, err)
	}
	if got := readTree(t, s, next.Sum, "kernel") + readTree(t, s, next.Sum, "shared"); got != "newsame" {
		t.Errorf("the tree that is named reads %q", got)
	}
}

// A manifest that cannot be read may name anything, so that nothing goes.
func TestSweepLeavesAllWhereAManifestIsSpoilt(t *testing.T) {
	s, now := newTrees(t)
	src := newSource(t, false, map[string]string{"a": "1"})
	imported(t, s, src, 99)
	p, _ := s.files.path(src.Sum)
	if err := os.WriteFile(p, bytes.Replace(src.Encoded, []byte(`"a"`), []byte(`"b"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(99 * time.Hour)
	s, err := OpenTrees(s.files.dir, s.files.now)
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := s.Sweep(map[string]bool{src.Sum: true}, time.Hour); len(gone) != 0 || err == nil || !strings.Contains(err.Error(), "spoilt") {
		t.Errorf("swept %v, %v", gone, err)
	}
	imported(t, s, src, 99)
	if got := readTree(t, s, src.Sum, "a"); got != "1" {
		t.Errorf("after the next import it reads %q", got)
	}
}

// TestVerifyTakesSpoiltFilesAway: of every kind of damage, and the next import makes it good.
func TestVerifyTakesSpoiltFilesAway(t *testing.T) {
	for name, harm := range map[string]func(string) error{
		"a bit":     func(p string) error { return os.WriteFile(p, []byte("kernem"), 0o600) },
		"cut short": func(p string) error { return os.Truncate(p, 2) },
		"gone":      os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newTrees(t)
			src := newSource(t, false, map[string]string{"boot/kernel": "kernel", "copy": "kernel", "other": "fine"})
			imported(t, s, src, 99)
			read := int64(0)
			if spoilt, err := s.Verify(t.Context(), src.Sum, func(n int64) { read += n }); len(spoilt) != 0 || err != nil || read != 10 {
				t.Fatalf("a whole tree: %v, %v, %d bytes read", spoilt, err, read)
			}
			p, _ := s.files.path(src.Manifest.Entries[0].SHA256)
			if err := harm(p); err != nil {
				t.Fatal(err)
			}
			spoilt, err := s.Verify(t.Context(), src.Sum, nothing)
			if diff := cmp.Diff([]string{"boot/kernel", "copy"}, spoilt); diff != "" || err != nil {
				t.Errorf("spoilt: %s, %v", diff, err)
			}
			if n := imported(t, s, src, 99); n != 1 {
				t.Errorf("%d files are sent again", n)
			}
			if got := readTree(t, s, src.Sum, "copy"); got != "kernel" {
				t.Errorf("it reads %q", got)
			}
		})
	}
}

// A directory that changes under the reader is no tree.
func TestASourceThatChangesIsRefused(t *testing.T) {
	src := newSource(t, false, map[string]string{"a": "1", "b": "2"})
	f := src.byPath["a"]
	f.Size = 5
	_, err := ReadSource(t.Context(), func(yield func(SourceFile, error) bool) { yield(f, nil) }, nothing)
	if err == nil || !strings.Contains(err.Error(), "changes while it is read") {
		t.Errorf("ReadSource = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ReadSource(ctx, func(yield func(SourceFile, error) bool) { yield(src.byPath["a"], nil) }, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("a command that was ended reads on: %v", err)
	}
}
