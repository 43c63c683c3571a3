package broker

import (
	"bytes"
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/boot"
	"muster/boot/kargs"
)

// Ramdisk is a kernel with its initrds, imported together: their bytes lie in the content store. A machine boots the
// one that its policy names, else the first whose tags it carries, else the first that asks for none.
type Ramdisk struct {
	Kind          string        `json:"kind"`
	Name          string        `json:"name"`
	Arch          string        `json:"arch"` // as Go says it: amd64, arm64
	Kernel        RamdiskFile   `json:"kernel"`
	Initrds       []RamdiskFile `json:"initrds"`                  // in the order in memory
	KernelVersion string        `json:"kernel_version,omitempty"` // e.g. 6.1.0-56-amd64
	Tags          []string      `json:"tags,omitempty"`           // all of them; none: every machine of its architecture
	Order         int           `json:"order,omitempty"`          // lower is asked first; 0 means 100
	Args          string        `json:"args,omitempty"`           // more kernel arguments
	Imported      time.Time     `json:"imported,omitzero"`        // filled in when it changes
}

// RamdiskFile is one stored file.
type RamdiskFile struct {
	Name      string `json:"name"`   // what it is, for who reads paths and logs: vmlinuz
	SHA256    string `json:"sha256"` // hex
	SizeBytes int64  `json:"size_bytes"`
	Signature string `json:"signature,omitempty"` // sha256 of its detached signature, stored beside it
}

// path is the name it is served under.
func (f RamdiskFile) path() string { return f.SHA256 + "/" + f.Name }

func (f RamdiskFile) signaturePath() string { return f.Signature + "/" + f.Name + ".sig" }

func (r *Ramdisk) files() []RamdiskFile { return append([]RamdiskFile{r.Kernel}, r.Initrds...) }

// Signed says whether all of it is: half a signature protects nothing.
func (r *Ramdisk) Signed() bool { return r.Kernel.Signature != "" }

// maxInitrds keeps the lines of boot scripts short.
const maxInitrds = 8

// ramdiskArchs are the architectures that discovery ramdisks are built for, by what a boot protocol shows. UEFI of
// 32 bits does not start a kernel of 64 without help.
var ramdiskArchs = map[boot.Arch]string{boot.ArchBIOS: "amd64", boot.ArchX64: "amd64", boot.ArchEBC: "amd64", boot.ArchX64HTTP: "amd64",
	boot.ArchARM64: "arm64", boot.ArchARM64HTTP: "arm64"}

// machineArchs are they as a running kernel says them.
var machineArchs = map[string]string{"x86_64": "amd64", "aarch64": "arm64"}

// reservedArgs are what the broker and boot loaders say themselves.
var reservedArgs = []string{"muster.server", "muster.ca", "muster.token", "initrd", "BOOTIF", "BOOT_IMAGE"}

var fileNameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (r *Ramdisk) check() error {
	switch {
	case r.Arch != "amd64" && r.Arch != "arm64":
		return invalid("arch %q: want amd64 or arm64", r.Arch)
	case len(r.Initrds) == 0 || len(r.Initrds) > maxInitrds:
		return invalid("%d initrds: want 1 to %d", len(r.Initrds), maxInitrds)
	case r.Order < 0:
		return invalid("order may not be negative")
	case r.KernelVersion != boot.Printable(r.KernelVersion):
		return invalid("kernel_version %q: want plain text", r.KernelVersion)
	}
	for _, f := range r.files() {
		if err := f.check(); err != nil {
			return err
		}
		if (f.Signature != "") != r.Signed() {
			return invalid("file %s: sign the kernel and all initrds, or none", f.Name)
		}
	}
	return r.checkArgs()
}

func (f RamdiskFile) check() error {
	switch {
	case !fileNameForm.MatchString(f.Name):
		return invalid("file name %q: want letters, digits and ._- only, at most 64", f.Name)
	case !sha256Form.MatchString(f.SHA256) || f.Signature != "" && !sha256Form.MatchString(f.Signature):
		return invalid("file %s: sha256 and signature want 64 lower-case hexadecimal digits; muster ramdisk import fills them in", f.Name)
	case f.SizeBytes <= 0:
		return invalid("file %s: size_bytes must be given", f.Name)
	}
	return nil
}

func (r *Ramdisk) checkArgs() error {
	line := kargs.Parse(r.Args)
	if _, err := line.Render(); err != nil {
		return invalid("args: %s", err)
	}
	for _, a := range line {
		if slices.Contains(reservedArgs, a.Key) {
			return invalid("args: %s is the broker's own to say", a.Key)
		}
	}
	return nil
}

// inOrder is how ramdisks are asked: those that want tags first.
func inOrder(a, z Ramdisk) int {
	return cmp.Or(min(len(z.Tags), 1)-min(len(a.Tags), 1), cmp.Compare(order(a.Order), order(z.Order)), strings.Compare(a.Name, z.Name))
}

// A RamdiskLine says of one ramdisk why a node boots it or does not.
type RamdiskLine struct {
	Ramdisk string `json:"ramdisk"`
	Wins    bool   `json:"wins,omitempty"`
	Why     string `json:"why"`
}

// pickRamdisk chooses what a node boots, with a line for each. p is the node's policy, nil when it has none; all stand
// in the order they are asked. Pure.
func pickRamdisk(n *Node, arch string, p *Policy, all []Ramdisk) (win *Ramdisk, lines []RamdiskLine) {
	named := ""
	if p != nil {
		named = p.Ramdisk
	}
	for i := range all {
		r, why := &all[i], ""
		switch {
		case named != "" && r.Name != named:
			why = "not asked: policy " + p.Name + " names ramdisk " + named
		case win != nil:
			why = "not asked: ramdisk " + win.Name + " was first"
		case named != "" && r.Arch != arch:
			why = "policy " + p.Name + " names it, but it is for " + r.Arch + ", and this machine is " + arch
		case named != "":
			win, why = r, "policy "+p.Name+" names it"
		case r.misfit(n, arch) != "":
			why = "passed over: " + r.misfit(n, arch)
		default:
			win, why = r, r.because()
		}
		lines = append(lines, RamdiskLine{r.Name, win == r, why})
	}
	return win, lines
}

func (r *Ramdisk) because() string {
	if len(r.Tags) == 0 {
		return "the default for " + r.Arch + ": it asks for no tags"
	}
	return "node has " + plural(len(r.Tags), "tag") + " " + strings.Join(r.Tags, ", ")
}

// misfit says why a ramdisk is none for a node, or "".
func (r *Ramdisk) misfit(n *Node, arch string) string {
	if r.Arch != arch {
		return "for " + r.Arch + ", and this machine is " + arch
	}
	for _, name := range r.Tags {
		if no := n.lacks(name); no != "" {
			return no
		}
	}
	return ""
}

// archOf says for which architecture a node's ramdisk must be. Loaders of x64 and of arm64 ask for some names alike, so
// what firmware or the agent said before counts where the client shows nothing else.
func archOf(n *Node, c boot.Client) string {
	shown := ramdiskArchs[c.Arch]
	switch {
	case shown == "":
		return c.Arch.String()
	case shown != "amd64":
		return shown
	case n.Boot.CPU != "":
		return n.Boot.CPU
	case n.Facts.Known() && machineArchs[n.Facts.Arch] != "":
		return machineArchs[n.Facts.Arch]
	}
	return shown
}

// next decides for a node what it boots as a client, and which ramdisk, when it is to be one.
func (b *Broker) next(n *Node, c boot.Client) (Decision, *Ramdisk, []RamdiskLine) {
	cat, arch := b.cat.Load(), archOf(n, c)
	d := decide(n, cat.taskOf(n))
	r, lines := pickRamdisk(n, arch, cat.policyOf(n), cat.ramdisks)
	switch {
	case d.Step != boot.StepRamdisk:
		return d, nil, lines
	case r == nil:
		return Decision{boot.StepRefuse, noRamdisk(arch, cat.policyOf(n), lines)}, nil, lines
	case b.cfg.Verify && !r.Signed() && c.Kind == boot.KindIPXE:
		return Decision{boot.StepRefuse, "ramdisk " + r.Name + " is not signed, and iPXE is to verify (--imgverify): muster ramdisk import --sign-key"}, nil, lines
	}
	d.Because += ", ramdisk " + r.Name
	return d, r, lines
}

// noRamdisk says why there is none.
func noRamdisk(arch string, p *Policy, lines []RamdiskLine) string {
	for _, l := range lines {
		if p != nil && l.Ramdisk == p.Ramdisk {
			return "ramdisk " + l.Ramdisk + ": " + l.Why
		}
	}
	return "there is no ramdisk for " + arch + ": muster ramdisk import"
}

// load puts a ramdisk into a step.
func (b *Broker) load(s *boot.Step, r *Ramdisk) {
	s.Kernel = r.Kernel.path()
	for _, f := range r.Initrds {
		s.Initrds = append(s.Initrds, f.path())
	}
	if !b.cfg.Verify || !r.Signed() {
		return
	}
	s.TrustOnly = b.cfg.TrustOnly
	for _, f := range r.files() {
		s.Signatures = append(s.Signatures, f.signaturePath())
	}
}

// StoredFiles are the sums of all files that ramdisks name, signatures too.
func (b *Broker) StoredFiles() map[string]bool {
	sums := map[string]bool{}
	for _, r := range b.cat.Load().ramdisks {
		for _, f := range r.files() {
			sums[f.SHA256] = true
			if f.Signature != "" {
				sums[f.Signature] = true
			}
		}
	}
	return sums
}

// holdFiles makes sure that what a ramdisk or repo names is stored, whole and signed as it says.
func (b *Broker) holdFiles(o Object) error {
	if o.Kind == KindRepo {
		return b.holdTree(o)
	}
	if o.Kind != KindRamdisk || b.cfg.Held == nil {
		return nil
	}
	r, err := decode[Ramdisk](o)
	if err != nil {
		return err
	}
	for _, f := range r.files() {
		size, err := b.cfg.Held(f.SHA256, f.Signature)
		if err != nil {
			return invalid("ramdisk %s: %s: %s", r.Name, f.Name, err)
		}
		if size != f.SizeBytes {
			return invalid("ramdisk %s: %s: size_bytes is %d, the stored file has %d", r.Name, f.Name, f.SizeBytes, size)
		}
	}
	return nil
}

// stamp fills in when a ramdisk was imported; the same again keeps its time.
func (b *Broker) stamp(tx Tx, o Object) (Object, error) {
	if o.Kind != KindRamdisk {
		return o, nil
	}
	r, err := decode[Ramdisk](o)
	if err != nil || !r.Imported.IsZero() {
		return o, err
	}
	old, err := tx.Object(o.Kind, o.Name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return o, err
	}
	if err == nil {
		was, err := decode[Ramdisk](old)
		if err != nil {
			return o, err
		}
		r.Imported = was.Imported
		if same, err := encode(o.Kind, o.Name, r); err != nil || bytes.Equal(same.Doc, old.Doc) {
			return same, err
		}
	}
	r.Imported = b.now()
	return encode(o.Kind, o.Name, r)
}

// heldBy refuses to delete a ramdisk that policies name.
func heldBy(name string, policies []Policy) error {
	var by []string
	for _, p := range policies {
		if p.Ramdisk == name {
			by = append(by, p.Name)
		}
	}
	if len(by) == 0 {
		return nil
	}
	return conflict("ramdisk %s is still named by policies: %s", name, strings.Join(by, ", "))
}
