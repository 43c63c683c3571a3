package task

import (
	"errors"
	"fmt"
	"strings"
)

// Mboot is what ESXi's boot.cfg says of the files that its loader mboot starts: lines of key=value, modules divided by
// " --- ". The names are below the folder that prefix= says; on the medium they start with a slash, and then mboot would
// look for them at its root.
type Mboot struct {
	Kernel, Modules, Build string
}

// maxMboot is the largest boot.cfg read; that of ESXi 8 has 2 KiB.
const maxMboot = 64 << 10

// Mboot reads boot.cfg of the repo.
func (v Values) Mboot() (Mboot, error) {
	if v.RepoFile == nil {
		return Mboot{}, errors.New("boot.cfg of the repo can not be read: import the ISO")
	}
	text, err := v.RepoFile("boot.cfg")
	if err != nil {
		return Mboot{}, fmt.Errorf("boot.cfg of repo %s: %w", v.Repo.Name, err)
	}
	m, err := parseMboot(text)
	if err != nil {
		return m, fmt.Errorf("boot.cfg of repo %s: %w", v.Repo.Name, err)
	}
	return m, nil
}

func parseMboot(text string) (m Mboot, err error) {
	if len(text) > maxMboot {
		return m, fmt.Errorf("it has %d bytes; ESXi's has 2 KiB", len(text))
	}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "kernel":
			m.Kernel, err = mbootName(value)
		case "modules":
			m.Modules, err = mbootModules(value)
		case "build":
			m.Build = value
		}
		if err != nil {
			return m, err
		}
	}
	if m.Kernel == "" || m.Modules == "" {
		return m, errors.New("it names no kernel and no modules: this is no ESXi installer")
	}
	return m, nil
}

func mbootModules(value string) (string, error) {
	modules := strings.Split(value, " --- ")
	for i := range modules {
		var err error
		if modules[i], err = mbootName(strings.TrimSpace(modules[i])); err != nil {
			return "", err
		}
	}
	return strings.Join(modules, " --- "), nil
}

// mbootName takes a file's name, below the folder of boot.cfg.
func mbootName(name string) (string, error) {
	name = strings.TrimLeft(name, "/")
	if name == "" || !wordOnly(name) || strings.Contains(name, "..") {
		return "", fmt.Errorf("file name %.40q: want letters, digits and ._/-", name)
	}
	return name, nil
}

func wordOnly(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("._/-", r))
	})
}
