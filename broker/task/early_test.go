package task

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEarlyCommandHoldsUpNobody runs what debian-installer runs as its early_command, which waits until the last process
// has closed its output and stream 3, debconf's: the watch that stays behind has neither.
func TestEarlyCommandHoldsUpNobody(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/golden/debian/bios-sata/early.sh")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "early.sh")
	for name, content := range map[string]string{
		script:                     strings.ReplaceAll(string(text), "/tmp/muster", filepath.Join(dir, "run")),
		filepath.Join(dir, "curl"): "#!/bin/sh\n", // the broker agrees
	} {
		if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	debconf, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer debconf.Close()
	cmd := exec.Command("sh", script)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard // through a pipe, as log-output has them
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // the watch
	theirs.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v", err)
	}
	if err := debconf.SetReadDeadline(time.Now().Add(cmd.WaitDelay)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(debconf); err != nil {
		t.Errorf("debconf's stream: %v", err)
	}
}
