package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// newTPM takes away what the TPM of an earlier machine of the name kept.
func (m *Machine) newTPM() error {
	if err := os.RemoveAll(m.path("tpm")); err != nil {
		return fmt.Errorf("empty the TPM: %w", err)
	}
	if err := os.Mkdir(m.path("tpm"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the TPM: %w", err)
	}
	return nil
}

// startTPM starts swtpm, which lives as long as its client holds the socket, and gives that socket. Without a path in the
// file system nobody else can talk to it, and the name of the rack's directory may be of any length.
func (m *Machine) startTPM() (*process, *os.File, error) {
	if m.run != nil {
		m.run.tpm.kill() // it locks its state until it has ended, which may be a moment after QEMU
	}
	client, server, err := filePair("tpm")
	if err != nil {
		return nil, nil, err
	}
	defer server.Close()
	said, err := os.Create(m.path("swtpm.log"))
	if err != nil {
		client.Close()
		return nil, nil, err
	}
	defer said.Close()
	cmd := m.rack.Command(context.Background(), "swtpm", "socket", "--tpm2", "--terminate",
		"--tpmstate", "dir="+m.path("tpm"), "--ctrl", "type=unixio,clientfd=3")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.ExtraFiles = []*os.File{server}
	tpm := &process{ended: make(chan struct{})}
	if err := tpm.start(cmd); err != nil {
		client.Close()
		return nil, nil, fmt.Errorf("start the TPM: %w", err)
	}
	return tpm, client, nil
}
