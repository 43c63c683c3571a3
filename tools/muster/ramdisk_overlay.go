package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"muster/initramfs"
)

// Where the agent and sshd look.
const (
	authorityFile = "etc/muster/ca.pem"
	factsDir      = "etc/muster/facts.d"
	sshKeysFile   = "etc/muster/authorized_keys"
)

// maxKeyFile bounds a file of certificates or keys.
const maxKeyFile = 1 << 20

// overlay lists what is laid over the ramdisk; what is named last wins.
func (b *ramdiskBuild) overlay() error {
	for _, dir := range b.overlays {
		info, err := os.Stat(dir)
		if err != nil || !info.IsDir() {
			return fmt.Errorf("--overlay %q: want a directory: %w", dir, err)
		}
		b.lay("/", dir)
	}
	for _, name := range b.facts {
		if err := b.layFacts(name); err != nil {
			return fmt.Errorf("--facts %q: %w", name, err)
		}
	}
	for _, key := range []struct {
		flag, source, name string
		check              func([]byte) error
	}{{"ca", b.authority, authorityFile, checkCertificates}, {"ssh-key", b.sshKey, sshKeysFile, checkPublicKeys}} {
		if key.source == "" {
			continue
		}
		if err := checkFile(key.source, key.check); err != nil {
			return fmt.Errorf("--%s %q: %w", key.flag, key.source, err)
		}
		b.lay(key.name, key.source)
	}
	for _, s := range b.files {
		from, to, ok := strings.Cut(s, ":")
		if !ok || from == "" || to == "" {
			return fmt.Errorf("--file %q: want SRC:DST", s)
		}
		b.lay(to, from)
	}
	return nil
}

func (b *ramdiskBuild) lay(name, source string) {
	b.config.Files = append(b.config.Files, initramfs.File{Name: name, Source: source})
}

// layFacts adds a source of facts, or every file of a directory. One that the agent would pass over is an error here:
// on the machine nobody would see it.
func (b *ramdiskBuild) layFacts(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	sources := []string{name}
	if info.IsDir() {
		entries, err := os.ReadDir(name)
		if err != nil {
			return err
		}
		sources = nil
		for _, e := range entries {
			sources = append(sources, filepath.Join(name, e.Name()))
		}
	}
	for _, source := range sources {
		if err := checkFactSource(source); err != nil {
			return err
		}
		b.lay(path.Join(factsDir, filepath.Base(source)), source)
	}
	return nil
}

// checkFactSource knows what the agent reads: programs, NAME.json and NAME.txt.
func checkFactSource(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	base := filepath.Base(file)
	extension := filepath.Ext(base)
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is a %s, not a file", base, info.Mode().Type())
	case strings.HasPrefix(base, "."):
		return fmt.Errorf("%s begins with a dot: the agent passes it over", base)
	case info.Mode()&0o100 == 0 && extension != ".json" && extension != ".txt":
		return fmt.Errorf("%s is neither a program (chmod +x) nor NAME.json or NAME.txt: the agent passes it over", base)
	}
	return nil
}

// checkFile reads a small file and looks at it.
func checkFile(name string, check func([]byte) error) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if info.Size() > maxKeyFile {
		return fmt.Errorf("%d bytes are too many", info.Size())
	}
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return check(content)
}

// checkCertificates wants PEM certificates and nothing else: a private key in a ramdisk is everybody's (T15).
func checkCertificates(text []byte) error {
	n := 0
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && n == 0:
			return errors.New("no PEM certificate in it")
		case block == nil && len(bytes.TrimSpace(text)) > 0:
			return errors.New("something stands behind the last certificate")
		case block == nil:
			return nil
		case block.Type != "CERTIFICATE":
			return fmt.Errorf("it holds a %s, which must not go into a ramdisk", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d: %w", n+1, err)
		}
		text, n = rest, n+1
	}
}

// checkPublicKeys wants lines of an authorized_keys file (sshd(8)): u-root's sshd refuses to start for one bad line.
func checkPublicKeys(text []byte) error {
	if bytes.Contains(text, []byte("PRIVATE KEY")) {
		return errors.New("that is a private key, which must not go into a ramdisk; name the file ending in .pub")
	}
	for n := 1; ; n++ {
		_, _, _, rest, err := ssh.ParseAuthorizedKey(text)
		if err != nil {
			return fmt.Errorf("key %d: %w", n, err)
		}
		if text = rest; len(bytes.TrimSpace(text)) == 0 {
			return nil
		}
	}
}

// carriedArchs lists the architectures of which this program carries a userland.
func carriedArchs() []string {
	names, _ := fs.Glob(userlands, path.Join(userlandDir, "*"+userlandSuffix)) // the pattern is a constant
	for i, name := range names {
		names[i] = strings.TrimSuffix(path.Base(name), userlandSuffix)
	}
	return names
}

// carriedUserland is the userland of one architecture; nil when there is none.
func carriedUserland(arch string) []byte {
	content, err := userlands.ReadFile(path.Join(userlandDir, arch+userlandSuffix))
	if err != nil {
		return nil
	}
	return content
}
