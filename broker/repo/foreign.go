package repo

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// headBytes and footBytes of a file are enough to know it by.
const (
	headBytes = 64 << 10
	footBytes = 512
)

// A foreign format is not the bytes of a disk (T41). Written to one it would leave a machine that does not start; read by
// a converter here it could name other files of this host. So it is refused by its magic, with the command for the
// operator, in which IN is the file and OUT the image.
type foreign struct {
	name  string
	at    int // of the magic, in the head or the foot
	magic string
	cure  string
}

// qemuImg names the format, so that the program does not guess: a guess is how a raw disk whose owner wrote a header
// into it becomes a path to other files (CVE-2024-44082).
func qemuImg(format string) string { return "qemu-img convert -f " + format + " -O raw IN OUT" }

// heads are known by their first bytes; of two rows that fit the first counts.
var heads = []foreign{
	{"qcow", 0, "QFI\xfb\x00\x00\x00\x01", qemuImg("qcow")},
	{"qcow2", 0, "QFI\xfb", qemuImg("qcow2")},
	{"vmdk", 0, "KDMV", qemuImg("vmdk")},
	{"vmdk", 0, "COWD", qemuImg("vmdk")},
	{"vmdk", 0, "# Disk DescriptorFile", qemuImg("vmdk")},
	{"vhdx", 0, "vhdxfile", qemuImg("vhdx")},
	{"vhd", 0, "conectix", qemuImg("vpc")},
	{"vdi", 0x40, "\x7f\x10\xda\xbe", qemuImg("vdi")},
	{"qed", 0, "QED\x00", qemuImg("qed")},
	{"parallels", 0, "WithoutFreeSpace", qemuImg("parallels")},
	{"parallels", 0, "WithouFreSpacExt", qemuImg("parallels")},
	{"bochs", 0, "Bochs Virtual HD Image", qemuImg("bochs")},
	{"cloop", 0, "#!/bin/sh\n#V2.0 Format", qemuImg("cloop")},
	{"luks", 0, "LUKS\xba\xbe", "qemu-img convert --object secret,id=key,file=PASSPHRASE --image-opts driver=luks,key-secret=key,file.filename=IN -O raw OUT"},
	{"Android sparse", 0, "\x3a\xff\x26\xed", "simg2img IN OUT"},
	{"bzip2", 0, "BZh", "bzip2 -dc IN | zstd -o OUT"},
	{"lz4", 0, "\x04\x22\x4d\x18", "lz4 -dc IN | zstd -o OUT"},
	{"lzip", 0, "LZIP", "lzip -dc IN | zstd -o OUT"},
	{"lzop", 0, "\x89LZO", "lzop -dc IN | zstd -o OUT"},
	{"lzma", 0, "\x5d\x00\x00", "xz -dc --format=lzma IN | zstd -o OUT"},
	{"zip", 0, "PK\x03\x04", "unzip -p IN | zstd -o OUT"},
	{"7z", 0, "7z\xbc\xaf\x27\x1c", "7z e -so IN | zstd -o OUT"},
	{"zstd in another compression", 0, "\x28\xb5\x2f\xfd", "zstd -dc IN > OUT"},
	{"gzip in another compression", 0, "\x1f\x8b", "gzip -dc IN > OUT"},
	{"xz in another compression", 0, "\xfd7zXZ\x00", "xz -dc IN > OUT"},
	{"tar", 257, "ustar", "tar -xOf IN NAME > OUT, where tar -tf IN lists the names"},
	{"LVM volume", 512, "LABELONE", "dd if=/dev/DISK of=OUT, of the whole disk that holds it"},
	{"Windows image (WIM)", 0, "MSWIM\x00\x00\x00", "wimapply IN 1 OUT, onto a partition of a disk image"},
	{"squashfs", 0, "hsqs", "unsquashfs IN, which gives files and no disk"},
	{"ISO 9660", 32769, "CD001", "muster repo import NAME IN, which keeps it as an install tree"},
}

// feet are known by their last 512 bytes: in front of them the bytes of the disk may be as they are.
var feet = []foreign{
	{"vhd", 0, "conectix", qemuImg("vpc")},
	{"dmg", 0, "koly", qemuImg("dmg")},
}

// refuse gives the error for a file that is known to be no raw image. A packed one has to be unpacked first.
func refuse(formats []foreign, b []byte, compression string) error {
	for _, f := range formats {
		if len(b) < f.at || !strings.HasPrefix(string(b[f.at:]), f.magic) {
			continue
		}
		what, cure := f.name, f.cure
		if compression != "none" {
			what += " in " + compression
			cure = fmt.Sprintf("%s -dc IN > UNPACKED && %s", compression, strings.Replace(cure, "IN", "UNPACKED", 1))
		}
		err := fmt.Errorf("this is a %s file, not the bytes of a disk; what is: %s", what, cure)
		if other := backingFile(b); other != "" {
			err = fmt.Errorf("%w (it points at another file, %q, whose bytes would become part of it: is that meant?)", err, other)
		}
		return err
	}
	return nil
}

// backingFile is the file that a qcow or qcow2 image points at (QEMU docs/interop/qcow2.txt: offset and length of the
// name are at bytes 8 and 16), or "".
func backingFile(head []byte) string {
	if len(head) < 20 || !strings.HasPrefix(string(head), "QFI\xfb") {
		return ""
	}
	at, n := binary.BigEndian.Uint64(head[8:]), uint64(binary.BigEndian.Uint32(head[16:]))
	switch {
	case at == 0 || n == 0:
		return ""
	case n > 1023 || at > uint64(len(head)) || n > uint64(len(head))-at:
		return "..."
	}
	return string(head[at : at+n])
}
