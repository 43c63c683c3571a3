package boot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sumsFile pins the files of the operator's loader directory (T60), as sha256sum writes it.
const sumsFile = "SHA256SUMS"

var sumLine = regexp.MustCompile(`^([0-9a-fA-F]{64}) [ *](?:\./)?([^/]+)$`)

// checkSums compares the operator's loaders with their pinned sums. Without a sums file nothing is pinned; with one,
// everything is.
func (l Loaders) checkSums() error {
	if l.Dir == "" {
		return nil
	}
	sums, err := readSums(filepath.Join(l.Dir, sumsFile))
	if err != nil || sums == nil {
		return err
	}
	entries, err := os.ReadDir(l.Dir)
	if err != nil {
		return fmt.Errorf("read the loader directory: %w", err)
	}
	for _, e := range entries {
		if _, pinned := sums[e.Name()]; !pinned && !e.IsDir() && e.Name() != sumsFile {
			return fmt.Errorf("loader %s is not pinned: add its line to %s, or take it out", e.Name(), filepath.Join(l.Dir, sumsFile))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		sum, err := fileSum(filepath.Join(l.Dir, name))
		if err != nil {
			return fmt.Errorf("check loader %s: %w", name, err)
		}
		if sum != sums[name] {
			return fmt.Errorf("loader %s has SHA-256 %s; %s pins %s", filepath.Join(l.Dir, name), sum, sumsFile, sums[name])
		}
	}
	return nil
}

// readSums is nil without an error when there is no file.
func readSums(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the sums of loaders: %w", err)
	}
	sums, n := map[string]string{}, 0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		n++
		m := sumLine.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("%s:%d: want a SHA-256, two blanks and a file name, as sha256sum writes", path, n)
		}
		sums[m[2]] = strings.ToLower(m[1])
	}
	return sums, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// A LoaderFile is a loader that is served: whose it is, and which.
type LoaderFile struct {
	Name, Path, Package, Version, SHA256 string
}

// Files lists the loaders that are there by their served names, with the packages' versions as dpkg has them in its
// status file.
func (l Loaders) Files(status io.Reader) ([]LoaderFile, error) {
	versions := packageVersions(status)
	var list []LoaderFile
	for _, name := range slices.Sorted(maps.Keys(loaderFiles)) {
		p := l.path(name)
		if p == "" {
			continue
		}
		sum, err := fileSum(p)
		if err != nil {
			return nil, fmt.Errorf("read loader %s: %w", name, err)
		}
		f := LoaderFile{Name: name, Path: p, SHA256: sum}
		if l.Dir == "" || filepath.Dir(p) != filepath.Clean(l.Dir) {
			f.Package = loaderFiles[name].pkg
			f.Version = versions[f.Package]
		}
		list = append(list, f)
	}
	return list, nil
}

// packageVersions reads the versions of the loaders' packages out of dpkg's status file (deb-control(5)).
func packageVersions(status io.Reader) map[string]string {
	versions, name := map[string]string{}, ""
	lines := bufio.NewScanner(status)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "":
			name = ""
		case "Package":
			name = value
		case "Version":
			versions[name] = value
		}
	}
	return versions
}
