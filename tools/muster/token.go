package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// loadToken reads the hash of the operators' token. At the first start a token is made: only its hash is kept, and
// the token itself is given back once, to be shown.
func loadToken(path string) (hash, token string, err error) {
	raw, err := os.ReadFile(path)
	switch {
	case err == nil:
		return strings.TrimSpace(string(raw)), "", nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", fmt.Errorf("read operator token hash: %w", err)
	}
	token = rand.Text()
	sum := sha256.Sum256([]byte(token))
	hash = hex.EncodeToString(sum[:])
	if err := os.WriteFile(path, []byte(hash+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("keep operator token hash: %w", err)
	}
	return hash, token, nil
}
