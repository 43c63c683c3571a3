package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A foreignPackage is one of Debian that this machine would not install: of another release, or for another processor.
// It is downloaded once into the cache and unpacked there.
type foreignPackage struct {
	release string // "": this machine's
	arch    string
	name    string
}

// fetching is held by who downloads: two would write the same lists.
var fetching sync.Mutex

// root is the directory in which the package's files are. A test that can not have it is skipped.
func (p foreignPackage) root(t *testing.T) string {
	t.Helper()
	deb := p.deb(t)
	fetching.Lock()
	defer fetching.Unlock()
	root := strings.TrimSuffix(deb, ".deb")
	if _, err := os.Stat(root); err == nil {
		return root
	}
	muster(t, "dpkg-deb", "-x", deb, root+".new")
	if err := os.Rename(root+".new", root); err != nil {
		t.Fatal(err)
	}
	return root
}

// deb is the package. A name that ends in the architecture, such as linux-image-arm64, is of the package that it
// depends on: Debian's current kernel.
func (p foreignPackage) deb(t *testing.T) string {
	t.Helper()
	fetching.Lock()
	defer fetching.Unlock()
	dir, err := filepath.Abs(filepath.Join(labCache(), "debian", p.release+"-"+p.arch))
	if err != nil {
		t.Fatal(err)
	}
	deb := filepath.Join(dir, p.name+".deb")
	if _, err := os.Stat(deb); err == nil {
		return deb
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", fetchForeign, dir)
	cmd.Env = append(os.Environ(), "release="+p.release, "arch="+p.arch, "name="+p.name, "deb="+deb)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("fetch %s for %s: %v: %s", p.name, p.arch, err, out[max(0, len(out)-500):])
	}
	return deb
}

// fetchForeign leaves apt's own lists and status alone, and takes the mirror that this machine uses.
const fetchForeign = `mkdir -p "$0/lists/partial" "$0/archives/partial" "$0/new" && cd "$0"
apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' |
	awk -v r="$release" '/-(updates|security)$/ && r { next } { print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]", $1, r ? r : $2, "main" }' |
	sort -u > sources
set -- -q -o Dir::State::lists="$0/lists" -o Dir::Cache="$0" -o Dir::State::status=/dev/null -o Dir::Etc::sourcelist="$0/sources" \
	-o Dir::Etc::sourceparts=- -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
	-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::Retries=3
ls lists/*_Packages* >/dev/null 2>&1 || apt-get "$@" update
case $name in linux-image-$arch) name=$(apt-cache "$@" depends "$name" | awk '/Depends: linux-image-/ { print $2; exit }') ;; esac
cd new && apt-get "$@" download "$name" && mv ./*.deb "$deb"
`
