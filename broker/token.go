package broker

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Key is the server's secret. Boot and stage tokens are derived from it, so that no token is ever stored.
type Key [32]byte

// LoadKey reads the key file, or makes it when it is not there. A file that others may read, or of another length, is
// refused: a server that started with a broken key would hand out tokens anybody can make.
func LoadKey(path string) (Key, error) {
	var k Key
	b, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := rand.Read(k[:]); err != nil {
			return k, fmt.Errorf("make server key: %w", err)
		}
		return k, writeNew(path, k[:])
	}
	if err != nil {
		return k, fmt.Errorf("read server key: %w", err)
	}
	if len(b) != len(k) {
		return k, fmt.Errorf("server key %s has %d bytes, not %d: restore it, or remove it to make a new one (tokens under way end)", path, len(b), len(k))
	}
	return Key(b), nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others: chmod 600 it", path)
	}
	return io.ReadAll(io.LimitReader(f, maxSecret))
}

// maxSecret bounds what is read of a secret file; PEM keys have some KiB.
const maxSecret = 1 << 20

// writeNew writes a secret file that is whole or not there after a power cut.
func writeNew(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Scopes of tokens: what a token may be traded for.
const (
	scopeBoot  = "boot"  // the first check-in of a boot
	scopeStage = "stage" // the end of one stage, told by the installed system
)

// token is scope-bound: NODE.N.MAC, where MAC is 128 bits of HMAC-SHA256 over scope, node and n.
func (k Key) token(scope, node string, n int64) string {
	return node + "." + strconv.FormatInt(n, 10) + "." + k.mac(scope, node, n)
}

func (k Key) mac(scope, node string, n int64) string {
	h := hmac.New(sha256.New, k[:])
	fmt.Fprintf(h, "%s\x00%s\x00%d", scope, node, n)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// open checks a token of a scope and says whose it is.
func (k Key) open(scope, token string) (node string, n int64, ok bool) {
	if len(token) > 128 {
		return "", 0, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", 0, false
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return "", 0, false
	}
	return parts[0], n, hmac.Equal([]byte(parts[2]), []byte(k.mac(scope, parts[0], n)))
}

// hashKey is how an agent's boot key is kept.
func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
