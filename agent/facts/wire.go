package facts

// Version of the check-in protocol.
const Version = 1

// A CheckIn is what the agent posts to /node/v1/checkin. The caller's Authorization header carries the boot key, 128
// random bits that the agent made for this boot; Token, the one-time token of the kernel command line, binds that
// key to the node the first time. The same CheckIn sent again has the same effect once.
type CheckIn struct {
	V         int              `json:"v"`
	Token     string           `json:"token,omitempty"`
	BootID    string           `json:"boot_id"` // /proc/sys/kernel/random/boot_id
	Seq       int64            `json:"seq"`     // rises by one with every check-in of a boot
	Agent     Agent            `json:"agent"`
	FactsHash string           `json:"facts_hash,omitempty"`
	Facts     *Facts           `json:"facts,omitempty"` // left out when the broker already has FactsHash
	State     *State           `json:"state,omitempty"`
	Errors    []ProbeError     `json:"errors,omitempty"`
	TimingMS  map[string]int64 `json:"timing_ms,omitempty"` // per collector
}

// Agent names the program that speaks.
type Agent struct {
	Version string `json:"version"`
}

// A ProbeError is one thing that could not be read, and why.
type ProbeError struct {
	Collector string `json:"collector"`
	Code      string `json:"code"` // timeout, missing, parse, io, denied, panic, shadowed
	Msg       string `json:"msg"`
}

// A CheckInReply is the broker's answer: who the node is, and its order.
type CheckInReply struct {
	Node      string   `json:"node"`           // id
	Name      string   `json:"name,omitempty"` // hostname, when a policy gave one
	WantFacts bool     `json:"want_facts,omitempty"`
	Tags      []string `json:"tags,omitempty"`
	Policy    string   `json:"policy,omitempty"`
	Order     Order    `json:"order"`
}

// Order kinds: a closed set. An agent that reads another refuses it and reports so.
const (
	OrderWait       = "wait"
	OrderReboot     = "reboot"
	OrderKexec      = "kexec"
	OrderPoweroff   = "poweroff"
	OrderWriteImage = "write_image"
	OrderWipe       = "wipe"
	OrderRun        = "run"
	OrderRescue     = "rescue" // open the ramdisk's sshd for people; the agent goes on waiting
)

// An Order tells the agent what to do next. ID rises with every new order of a node; an order that was done or
// failed is never given again under the same ID.
type Order struct {
	ID      int64       `json:"id"`
	Kind    string      `json:"kind"`
	Because string      `json:"because"` // one line for the console
	Image   *WriteImage `json:"image,omitempty"`
	Kexec   *Kexec      `json:"kexec,omitempty"`
	Wipe    *Wipe       `json:"wipe,omitempty"`
	Program *Program    `json:"program,omitempty"` // of a run
}

// Kexec starts another kernel without the firmware. Paths are below the broker's base URL.
type Kexec struct {
	Kernel  string   `json:"kernel"`
	Initrds []string `json:"initrds,omitempty"`
	Cmdline string   `json:"cmdline,omitempty"`
}

// WriteImage streams a raw disk image onto one disk. What came after the first brokers may be left out.
type WriteImage struct {
	Path        string  `json:"path"`             // below the broker's base URL; fetched with the boot key
	Compression string  `json:"compression"`      // zstd, gzip, xz, none
	SizeBytes   int64   `json:"size_bytes"`       // of the file as served
	SHA256      string  `json:"sha256"`           // of the file as served, hex
	RawBytes    int64   `json:"raw_bytes"`        // of the image once unpacked
	Chunks      *Chunks `json:"chunks,omitempty"` // sums of the unpacked image: none of it reaches the disk before it was compared
	Disk        Target  `json:"disk"`
	Wipe        bool    `json:"wipe"`                // the disk may hold partitions or a file system
	Grow        string  `json:"grow,omitempty"`      // one of the Grow constants; "" is none
	Files       []File  `json:"files,omitempty"`     // put into the root file system after the image is verified
	EFIEntry    string  `json:"efi_entry,omitempty"` // what the firmware's menu calls the installed system; "" makes no entry
	Then        string  `json:"then,omitempty"`      // one of the Then constants; "" waits for the next order
}

// Chunks names the list of an image's chunks and their sums (package agent/chunk).
type Chunks struct {
	Path      string `json:"path"` // as that of the image
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

// What becomes of a partition table on a disk that is larger than its image.
const (
	GrowNone  = "none"  // it stays as it came
	GrowTable = "table" // its end, and the backup of a GPT, go to the end of the disk
	GrowLast  = "last"  // and so does the end of the last partition
)

// How a machine leaves for the system that was written.
const (
	ThenReboot = "reboot"
	ThenKexec  = "kexec" // straight into its kernel; by the firmware when that can not be
)

// Target names a disk to write or to wipe by what does not change between boots; the agent compares all of it once more at
// the moment of writing.
type Target struct {
	ID        string `json:"id"`
	SizeBytes int64  `json:"size_bytes"`
	Serial    string `json:"serial,omitempty"`
	WWN       string `json:"wwn,omitempty"`
}

// Ways to wipe a disk. Each ends with the signatures, so that nothing is found on the disk whatever the way left there.
const (
	WipeAuto       = "auto"       // secure where the disk has it, else discard, else signatures; hours of writing are never chosen
	WipeSignatures = "signatures" // partition tables, file systems, LVM, RAID and ZFS labels; what they described stays
	WipeDiscard    = "discard"    // the disk is told that nothing of it is needed; what it gives back is its own affair
	WipeSecure     = "secure"     // the disk's own erase: NVMe Format or Sanitize, secure discard of eMMC
	WipeOverwrite  = "overwrite"  // zeros over every byte that can be addressed, read back
)

// Guards keep a disk from being wiped although an order names it, unless the order lifts them by name (T54).
const (
	GuardRemovable = "removable" // cards and sticks
	GuardUSB       = "usb"       // what somebody plugged in
	GuardShared    = "shared"    // a file system of a cluster, which other machines may have mounted now: vmfs, gfs2, ocfs2, gpfs
)

// Wipe makes disks forget what they hold. No disk is touched that it does not name.
type Wipe struct {
	Method string   `json:"method"`
	Disks  []Target `json:"disks"`
	Lift   []string `json:"lift,omitempty"` // guards
}

// Program is fetched with the boot key, compared with its sum and run, once, as root, with nothing but Env in its
// environment beside PATH and HOME. Its files and those that it makes in its directory are gone when it ends.
type Program struct {
	Path           string            `json:"path"`   // below the broker's base URL
	SHA256         string            `json:"sha256"` // hex
	SizeBytes      int64             `json:"size_bytes"`
	Args           []string          `json:"args,omitempty"`
	Env            map[string]string `json:"env,omitempty"`
	TimeoutSeconds int64             `json:"timeout_seconds"`     // then it is killed with all that it started
	OKStatus       []int             `json:"ok_status,omitempty"` // exit statuses beside 0 that are no failure
}

// File is one file or symbolic link of the installed system.
type File struct {
	Path    string `json:"path"`              // absolute, below the installed root
	Mode    uint32 `json:"mode,omitempty"`    // permission bits
	Content string `json:"content,omitempty"` // of a file
	Link    string `json:"link,omitempty"`    // target, of a symbolic link
}

// Report statuses.
const (
	StatusStarted  = "started"
	StatusProgress = "progress"
	StatusDone     = "done"
	StatusFailed   = "failed"
)

// A Report is what the agent posts to /node/v1/report about an order. Reports are idempotent; one for an order that
// is over changes nothing.
type Report struct {
	Order     int64            `json:"order"`
	Status    string           `json:"status"`
	Message   string           `json:"message,omitempty"` // of a failure: what, where, and both sums of a mismatch
	DoneBytes int64            `json:"done_bytes,omitempty"`
	AllBytes  int64            `json:"all_bytes,omitempty"`
	TimingMS  map[string]int64 `json:"timing_ms,omitempty"` // per phase: write, verify, files; erase, verify; fetch, run
	// Of a run: the status that the program ended with, absent when it was killed, and the last lines that it printed.
	ExitStatus *int     `json:"exit_status,omitempty"`
	Output     []string `json:"output,omitempty"`
}
