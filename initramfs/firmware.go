package initramfs

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// maxLinks is how many links in a row lead to a firmware file; linux-firmware has at most two.
const maxLinks = 8

// A firmwareFile is one of lib/firmware in an origin.
type firmwareFile struct {
	link  string // name it leads to, without lib/firmware/; "" for a regular file
	taken bool
}

// firmwareName is the name that a driver asks for (request_firmware in the kernel): without the directory and without the
// suffix that CONFIG_FW_LOADER_COMPRESS adds.
func firmwareName(name string) (plain string, ok bool) {
	rest, ok := strings.CutPrefix(name, "lib/firmware/")
	if !ok {
		return "", false
	}
	rest = strings.TrimPrefix(rest, "updates/")
	return strings.TrimSuffix(strings.TrimSuffix(rest, ".zst"), ".xz"), true
}

// addFirmware packs what the modules of s ask for and the origins hold, unpacked, with the links that lead to it. What no
// origin holds stays in s.firmware.
func addFirmware(ctx context.Context, words []string, set *moduleSet, s *spool, t tree) error {
	have, err := findFirmware(ctx, words)
	if err != nil {
		return err
	}
	set.firmware = slices.DeleteFunc(set.firmware, func(pattern string) bool { return have.take(pattern) })
	for name, f := range have {
		if f.taken && f.link != "" {
			target := "/lib/firmware/" + f.link
			link := member{mode: typeLink | 0o777, size: int64(len(target)), content: strings.NewReader(target)}
			if err := t.add(path.Join("lib/firmware", name), link); err != nil {
				return err
			}
		}
	}
	return walkOrigins(ctx, words, "lib/firmware", func(f found) error {
		name, ok := firmwareName(f.name)
		if !ok || f.link != "" || have[name] == nil || !have[name].taken {
			return nil
		}
		content, err := spooled(f, s)
		if err != nil {
			return err
		}
		return t.add(path.Join("lib/firmware", name), content)
	})
}

// spooled unpacks a file into the spool.
func spooled(r io.Reader, s *spool) (member, error) {
	plain, err := unpackHere(r)
	if err != nil {
		return member{}, err
	}
	defer plain.Close()
	offset, size, err := s.append(plain)
	return member{mode: typeRegular | 0o644, size: size, content: io.NewSectionReader(s, offset, size)}, err
}

// A firmwareIndex is what the origins hold, by the names that drivers ask for.
type firmwareIndex map[string]*firmwareFile

// findFirmware reads the names only: a distribution's firmware is a gigabyte.
func findFirmware(ctx context.Context, words []string) (firmwareIndex, error) {
	have := make(firmwareIndex)
	err := walkOrigins(ctx, words, "lib/firmware", func(f found) error {
		name, ok := firmwareName(f.name)
		if !ok || len(have) >= maxFiles {
			return nil
		}
		have[name] = &firmwareFile{}
		if f.link == "" {
			return nil
		}
		target := f.link
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(f.name), target)
		}
		if have[name].link, ok = firmwareName(installedName(target)); !ok {
			return fmt.Errorf("%q leads to %q, out of lib/firmware", f.name, f.link)
		}
		return nil
	})
	if err == nil && len(have) == 0 {
		err = fmt.Errorf("no lib/firmware in %s", strings.Join(words, ", "))
	}
	return have, err
}

// take marks the files of a name or pattern (some drivers name "brcm/brcmfmac*-sdio.*.bin") and what their links lead to;
// false when there is none.
func (have firmwareIndex) take(pattern string) bool {
	if !strings.ContainsAny(pattern, "*?[") {
		return have.follow(pattern)
	}
	any := false
	for name := range have {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			any = have.follow(name) || any
		}
	}
	return any
}

// follow marks one file and what its links lead to; false when they lead nowhere.
func (have firmwareIndex) follow(name string) bool {
	var way []*firmwareFile
	for range maxLinks {
		f := have[name]
		if f == nil {
			return false
		}
		if way = append(way, f); f.link == "" {
			for _, f := range way {
				f.taken = true
			}
			return true
		}
		name = f.link
	}
	return false
}
