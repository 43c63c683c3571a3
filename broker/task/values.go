package task

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode/utf16"

	"github.com/go-crypt/crypt/algorithm/shacrypt"
)

// Values are what a template may use.
type Values struct {
	Server  string // base URL of the broker for agents and installers
	CA      string // certificate in PEM by which an https Server is verified, or ""
	Plain   string // base URL without TLS, at which recipes are given to loaders that can not verify CA; "": nowhere
	Node    Node
	Disk    Disk // that may be written; zero for a task that writes none
	Repo    Repo
	Param   map[string]any // every parameter of the task: strings, numbers, booleans, lists
	Policy  string
	Stage   string // name of the stage that is booted
	Next    string // name of the stage after it, or ""
	Handoff string // name of the handoff that the installed system fetches, or ""
	Token   string // of this install: ends its stages, and tells of them
	Fetch   string // short-lived: fetches recipes
	Salt    string // of password hashes: another for each install

	// RepoFile reads a small file of the repo; if nil, none can be read.
	RepoFile func(name string) (string, error)

	task  *Task
	depth int
}

// CALines are the lines of CA.
func (v Values) CALines() []string {
	return strings.FieldsFunc(v.CA, func(r rune) bool { return r == '\n' })
}

// A Node is the machine that is installed.
type Node struct {
	ID       string
	Hostname string // fully qualified, or the node's id
	MAC      string // of the NIC that booted, with colons
	Address  string // that it had when it booted last, or ""
	UUID     string
	Serial   string
	Arch     string // as Go says it
	EFI      bool   // its firmware is UEFI
	Tags     []string
	Metadata map[string]any
}

// Short is the first label of Hostname.
func (n Node) Short() string {
	s, _, _ := strings.Cut(n.Hostname, ".")
	return s
}

// Domain is what follows the first label, or "".
func (n Node) Domain() string {
	_, d, _ := strings.Cut(n.Hostname, ".")
	return d
}

// Dashes is the MAC as loaders and installers write it: 52-54-00-12-34-56.
func (n Node) Dashes() string { return strings.ReplaceAll(n.MAC, ":", "-") }

// NetBIOS is the name of a machine with Windows: of 15 letters, digits and dashes at most. A machine that nobody has
// named gets "*", and Windows makes one up.
func (n Node) NetBIOS() (string, error) {
	switch short := n.Short(); {
	case n.Hostname == n.ID:
		return "*", nil
	case len(short) > 15:
		return "", fmt.Errorf("hostname %s: Windows takes at most 15 characters before the first dot", short)
	default:
		return short, nil
	}
}

// A Disk is the one that may be written, by names that hold in another kernel.
type Disk struct {
	Name      string `json:"name,omitempty"`    // of the kernel that reported it; others number otherwise
	ByID      string `json:"by_id,omitempty"`   // /dev/disk/by-id/..., as udev names it; "" when it has no serial number
	ByPath    string `json:"by_path,omitempty"` // /dev/disk/by-path/..., or ""
	SizeBytes int64  `json:"size_bytes,omitempty"`
	Serial    string `json:"serial,omitempty"`
	WWN       string `json:"wwn,omitempty"` // with 0x, as kickstart and Windows write it; or ""
	Model     string `json:"model,omitempty"`
}

// Path is the most stable of its names.
func (d Disk) Path() string {
	switch {
	case d.ByID != "":
		return d.ByID
	case d.ByPath != "":
		return d.ByPath
	}
	return "/dev/" + d.Name
}

// A Repo is what is installed from.
type Repo struct {
	Name, URL         string // URL without a slash at its end
	OS, Version, Arch string
	Kernel            string   // name of a boot file
	Initrds           []string // the same
}

// Major is what comes before the first dot or dash of Version: 9 of 9.4, 15 of 15-SP6.
func (r Repo) Major() string { return major(r.Version) }

func major(version string) string {
	if i := strings.IndexAny(version, ".-"); i >= 0 {
		return version[:i]
	}
	return version
}

// File is the URL of a recipe, for as long as the installer has just booted.
func (v Values) File(name string) string { return v.install(v.Fetch, "file", name) }

// LoaderFile is the URL of a recipe for a boot loader: iPXE knows no CA but those that it was built with, and of many builds
// no TLS, as ESXi's mboot.
func (v Values) LoaderFile(name string) (string, error) {
	if v.CA == "" {
		return v.File(name), nil
	}
	if v.Plain == "" {
		return "", errors.New("a boot loader can not verify the broker's own CA: start muster serve with --plain-secrets, and the network reads what it fetches")
	}
	v.Server = v.Plain
	return v.File(name), nil
}

// Files is the URL below which recipes lie, with a slash at its end.
func (v Values) Files() string { return v.install(v.Fetch, "file", "") }

// Done is the URL that ends the stage; GET or POST.
func (v Values) Done() string { return v.install(v.Token, "done", v.Stage) }

// DoneNext is the URL that ends the stage after this one, for the system that this one installs.
func (v Values) DoneNext() string { return v.install(v.Token, "done", v.Next) }

// Failed is the URL that fails the install; its parameter msg says why.
func (v Values) Failed() string { return v.install(v.Token, "failed", v.Stage) }

// Phase is the URL that says how far the stage is.
func (v Values) Phase(name string) string { return v.install(v.Token, "phase", name) }

// Log is the URL that takes the parameters msg and severity (info, warn, error), or a text as the body.
func (v Values) Log() string { return v.install(v.Token, "log", v.Stage) }

// HandoffURL is where the installed system, in the next stage, gets the script that takes over, and tells how that ended.
func (v Values) HandoffURL() string { return v.install(v.Token, "handoff", v.Next) }

func (v Values) install(token, what, name string) string {
	return v.Server + "/node/v1/install/" + url.PathEscape(token) + "/" + what + "/" + url.PathEscape(name)
}

// Include renders another template of the task, to be quoted for this one.
func (v Values) Include(name string) (string, error) {
	if v.depth++; v.depth > 4 {
		return "", fmt.Errorf("%s is included by itself", name)
	}
	if v.task == nil {
		return "", errors.New("nothing can be included here")
	}
	return v.task.render(name, v)
}

// Crypt hashes a password as crypt(3) does with SHA-512 ($6$); one that is hashed already stays, and none is "!", with
// which nobody logs in.
func (v Values) Crypt(password string) (string, error) {
	switch {
	case password == "":
		return "!", nil
	case strings.HasPrefix(password, "$"), password == hidden:
		return password, nil
	}
	h, err := shacrypt.New(shacrypt.WithSHA512(), shacrypt.WithIterations(sha512Rounds))
	if err != nil {
		return "", err
	}
	d, err := h.HashWithSalt(password, []byte(v.Salt))
	if err != nil {
		return "", errors.New("a password can not be hashed") // the cause might tell it
	}
	return d.Encode(), nil
}

// AdministratorPassword is a password as Windows' answer files have it where PlainText is false: UTF-16, with the
// setting's own name behind it, in base64. That hides it from nobody.
func (v Values) AdministratorPassword(password string) (string, error) {
	switch {
	case password == hidden:
		return hidden, nil
	case strings.HasPrefix(password, "$6$"):
		return "", errors.New("a password is a hash of crypt(3), of which Windows knows nothing: write it out")
	}
	var b []byte
	for _, u := range utf16.Encode([]rune(password + "AdministratorPassword")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return base64.StdEncoding.EncodeToString(b), nil
}

// DataURL is a text as a URL that holds it (RFC 2397).
func (v Values) DataURL(text string) string {
	return "data:;base64," + base64.StdEncoding.EncodeToString([]byte(text))
}

// sha512Rounds is what crypt(3) takes when nothing is said; every installer reads it.
const sha512Rounds = 5000

// hidden stands for a secret where it is not shown.
const hidden = "***"
