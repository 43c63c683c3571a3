package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// kernelPackage is what Debian's linux-image-amd64 depends on: the package of the current kernel.
var kernelPackage = regexp.MustCompile(`Depends: (linux-image-[0-9][a-z0-9.+-]*-amd64)`)

// FetchKernel downloads the package of Debian's current signed kernel into dir, without installing it, and gives its
// path. One that is there already is used again.
func FetchKernel(ctx context.Context, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("fetch kernel: %w", err)
	}
	if have, _ := filepath.Glob(filepath.Join(dir, "linux-image-*.deb")); len(have) > 0 {
		return have[0], nil
	}
	err := downloadKernel(ctx, dir)
	if err != nil {
		// The lists may be missing on a fresh machine, or name a version that the mirror has no more.
		if said, updateErr := exec.CommandContext(ctx, "apt-get", "update").CombinedOutput(); updateErr != nil {
			return "", fmt.Errorf("fetch kernel: %w; and apt-get update: %w: %s", err, updateErr, said)
		}
		err = downloadKernel(ctx, dir)
	}
	if err != nil {
		return "", fmt.Errorf("fetch kernel: %w", err)
	}
	have, _ := filepath.Glob(filepath.Join(dir, "linux-image-*.deb"))
	if len(have) == 0 {
		return "", fmt.Errorf("fetch kernel: apt-get download left no file in %s", dir)
	}
	return have[0], nil
}

func downloadKernel(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", "linux-image-amd64").Output()
	if err != nil {
		return fmt.Errorf("ask apt-cache for linux-image-amd64: %w", err)
	}
	m := kernelPackage.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("linux-image-amd64 depends on no kernel")
	}
	cmd := exec.CommandContext(ctx, "apt-get", "download", string(m[1]))
	cmd.Dir = dir
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", m[1], err, said)
	}
	return nil
}
