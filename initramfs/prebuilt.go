package initramfs

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxUserland bounds a prebuilt userland, unpacked; ours has 11 MB.
const maxUserland = 256 << 20

// addPrebuilt adds a userland that was built before: a ramdisk without modules, as Build writes it from the source.
// Whoever has one needs neither Go nor the source, and gets the bytes that a build from the source gives.
func addPrebuilt(ctx context.Context, c Config, t tree) error {
	in := bufio.NewReader(bytes.NewReader(c.Prebuilt))
	plain := io.NopCloser(io.Reader(in))
	if packed, ok := detect(in); ok {
		var err error
		if plain, err = packed.decompressor(in); err != nil {
			return err
		}
	}
	defer plain.Close()
	archive := bufio.NewReaderSize(io.LimitReader(plain, maxUserland), 1<<16)
	err := walkNewc(ctx, archive, func(r record) error { return t.addRecord(r) })
	if err != nil {
		return err
	}
	return t.runsOn(c.Arch)
}

// addRecord adds one member of a userland as it is.
func (t tree) addRecord(r record) error {
	if _, _, ok := moduleOfPath(cleanName(r.name)); ok {
		return errors.New("it holds kernel modules; a userland is built without --kernel")
	}
	content, err := io.ReadAll(r.content)
	if err == nil && len(content) < int(r.Size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	m := member{mode: r.Mode, major: r.Major, minor: r.Minor}
	if len(content) > 0 {
		m.content, m.size = bytes.NewReader(content), int64(len(content))
	}
	return t.add(r.name, m)
}

// runsOn looks at the one program of a userland.
func (t tree) runsOn(arch string) error {
	program, ok := t["bbin/bb"]
	if !ok || program.content == nil {
		return errors.New("it has no bbin/bb: not a userland of muster ramdisk build")
	}
	f, err := elf.NewFile(program.content)
	if err != nil {
		return fmt.Errorf("bbin/bb: %w", err)
	}
	if f.Machine != machines[arch] {
		return fmt.Errorf("bbin/bb is for %v, not for %s", f.Machine, strings.TrimPrefix(machines[arch].String(), "EM_"))
	}
	return nil
}
