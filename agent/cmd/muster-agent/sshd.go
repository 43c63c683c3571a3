package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"muster/agent"
)

// What a ramdisk must hold for muster.sshd to mean anything: muster ramdisk build --ssh-key puts both in.
const (
	sshProgram = "/bbin/sshd"
	sshKeys    = "/etc/muster/authorized_keys"
)

// hostKeyFile is made at every boot: a key in the ramdisk would be everybody's (T15).
const hostKeyFile = "/tmp/muster/ssh_host_key"

// sshd listens on port 22 for who has one of the ramdisk's keys, for as long as the machine lives. It runs only when
// the kernel line says muster.sshd, or an order to rescue came (T56).
func sshd(ctx context.Context, console *agent.Console) {
	err := haveSSHD()
	var fingerprint string
	if err == nil {
		fingerprint, err = writeHostKey(hostKeyFile)
	}
	if err != nil {
		console.Printf("muster.sshd: %v", err)
		return
	}
	console.Printf("muster.sshd: port 22 is open for the keys of this ramdisk; host key %s", fingerprint)
	serveSSHD(ctx, console)
}

// haveSSHD says what the ramdisk lacks for an sshd.
func haveSSHD() error {
	for _, name := range []string{sshProgram, sshKeys} {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("this ramdisk has no %s: build it with --ssh-key", name)
		}
	}
	return nil
}

func serveSSHD(ctx context.Context, console *agent.Console) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, sshProgram, "-keys", sshKeys, "-privatekey", hostKeyFile, "-port", "22")
		cmd.Stdout, cmd.Stderr = console.W, console.W
		if err := cmd.Run(); err != nil {
			console.Printf("muster.sshd: %v", err)
		}
		time.Sleep(time.Second)
	}
}

// writeHostKey makes a key and tells its fingerprint as ssh(1) prints it.
func writeHostKey(name string) (fingerprint string, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return "", fmt.Errorf("make host key: %w", err)
	}
	var wire []byte // RFC 8709 section 4: two strings, each after its length
	for _, part := range [][]byte{[]byte("ssh-ed25519"), public} {
		wire = append(binary.BigEndian.AppendUint32(wire, uint32(len(part))), part...)
	}
	sum := sha256.Sum256(wire)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), nil
}
