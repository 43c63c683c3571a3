package initramfs

import "github.com/klauspost/compress/gzip"

// A part measures a share of the archive.
type part struct {
	sizes  Sizes
	packed counter
	z      *gzip.Writer // nil when not measured
	err    error
}

// newPart starts a part; its compressor is as the one that writes ramdisks.
func newPart(measure bool) *part {
	p := &part{}
	if measure {
		p.z, p.err = gzip.NewWriterLevel(&p.packed, gzipLevel)
	}
	return p
}

func (p *part) write(b []byte) { _, _ = p.Write(b) }

// Write implements io.Writer.
func (p *part) Write(b []byte) (int, error) {
	p.sizes.Raw += int64(len(b))
	if p.z == nil || p.err != nil {
		return len(b), p.err
	}
	_, p.err = p.z.Write(b)
	return len(b), p.err
}

// finish gives the sizes.
func (p *part) finish() Sizes {
	if p.z != nil && p.sizes.Raw > 0 {
		_ = p.z.Close() // its writer, a counter, never fails
		p.sizes.Gzip = p.packed.n
	}
	return p.sizes
}
