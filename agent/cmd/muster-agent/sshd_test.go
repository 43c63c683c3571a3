package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"muster/agent"
)

// S34: the library that u-root's sshd reads the key with takes it, and prints the same fingerprint.
func TestHostKeyIsNewAtEveryBoot(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		name := filepath.Join(t.TempDir(), "muster", "key")
		fingerprint, err := writeHostKey(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if want := ssh.FingerprintSHA256(signer.PublicKey()); fingerprint != want {
			t.Errorf("fingerprint %s; want %s", fingerprint, want)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if seen[fingerprint] {
			t.Error("two boots have one key")
		}
		seen[fingerprint] = true
	}
}

// T56: a ramdisk without sshd listens on nothing, whatever the kernel line says.
func TestNoSSHDWithoutKeys(t *testing.T) {
	if _, err := os.Stat(sshProgram); err == nil {
		t.Skip("this machine has an sshd where ramdisks have it")
	}
	var out bytes.Buffer
	sshd(context.Background(), &agent.Console{W: &out, Uptime: func() time.Duration { return 0 }})
	if !strings.Contains(out.String(), "this ramdisk has no "+sshProgram) {
		t.Errorf("it says %q", out.String())
	}
}
