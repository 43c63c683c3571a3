package broker

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// sealed marks a secret as the store keeps it. Its key is made of the server's, which lies outside the store: who has
// only the database or a backup of it has no secret (T12).
const sealed = "sealed:"

// seal encrypts a secret of a named object. The same secret of the same object seals the same, so that an apply that
// changes nothing is seen as one: the nonce is a MAC of both, as in RFC 5297.
func (k Key) seal(name, secret string) (string, error) {
	aead, err := k.aead()
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, k[:])
	fmt.Fprintf(mac, "seal\x00%s\x00%s", name, secret)
	nonce := mac.Sum(nil)[:aead.NonceSize()]
	return sealed + base64.StdEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(secret), []byte(name))), nil
}

// unseal gives a secret back to the object it was sealed for.
func (k Key) unseal(name, text string) (string, error) {
	aead, err := k.aead()
	if err != nil {
		return "", err
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, sealed))
	if err != nil || len(raw) < aead.NonceSize() {
		return "", errors.New("open the sealed secret: it is cut short: apply the object with its secret again")
	}
	secret, err := aead.Open(nil, raw[:aead.NonceSize()], raw[aead.NonceSize():], []byte(name))
	if err != nil {
		return "", errors.New("open the sealed secret: server.key is not the one that sealed it: restore it, or apply the object with its secret again")
	}
	return string(secret), nil
}

func (k Key) aead() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, k[:], nil, "muster seal 1", 32)
	if err != nil {
		return nil, fmt.Errorf("make the sealing key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make the sealing key: %w", err)
	}
	return cipher.NewGCM(block)
}
