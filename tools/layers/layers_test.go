package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// law says which of our packages a package may import, itself and below. "a, b < c" means that c may import a and b.
// A package that stands in no row may import nothing of ours.
const law = `
agent/facts                                                    < agent/probe
agent/chunk, agent/efi, agent/facts, agent/gpt, agent/loader, agent/packing, agent/probe, boot/kargs, boot/pin < agent
agent/packing                                                  < initramfs
agent, agent/facts, agent/probe, boot/kargs                    < agent/cmd/muster-agent
boot/kargs                                                     < boot
boot                                                           < boot/dhcp, boot/tftp
broker/rule                                                    < broker/rule/inspection, broker/rule/razor
boot/kargs                                                     < broker/render
broker/render                                                  < broker/handoff
agent/facts, boot, boot/kargs, broker/render                   < broker/task
agent/chunk, agent/facts, agent/packing, broker/hook, broker/repo/disc, broker/rule, boot < broker/repo
agent/facts, agent/packing, boot, boot/kargs, boot/pin, broker/handoff, broker/hook, broker/noderange, broker/repo, broker/rule, broker/rule/inspection, broker/rule/razor, broker/task < broker
agent/facts, broker                                            < broker/store, broker/store/storetest
broker/store/storetest                                         < broker/store
agent/facts, boot, boot/pin, broker, broker/repo               < broker/api, broker/web
tools/lab/peers                                                < tools/lab/peers/measure
boot, broker, broker/api, tools/lab/peers                      < tools/lab
boot                                                           < tools/storm
agent/facts, boot, boot/dhcp, boot/kargs, boot/pin, boot/tftp, broker, broker/api, broker/repo, broker/repo/disc, broker/store, broker/task, initramfs, tools/lab, tools/lab/peers, tools/storm < tools/muster
`

// owners says who alone imports a library: its types stay behind that package's own.
const owners = `
github.com/jaypipes/ghw          agent/probe
github.com/shirou/gopsutil       agent/probe
github.com/gorilla/mux           broker/api
github.com/danielgtaylor/huma    broker/api
github.com/pin/tftp              boot/tftp
github.com/insomniacslk/dhcp     boot/dhcp agent tools/storm
github.com/u-root/mkuimage       initramfs
github.com/u-root/gobusybox      initramfs
modernc.org/sqlite               broker/store
github.com/jackc/pgx             broker/store
github.com/expr-lang/expr        broker/rule
github.com/spf13/cobra           tools/muster
github.com/prometheus            tools/muster
`

type pkg struct {
	ImportPath, Dir                             string
	Imports, GoFiles, TestImports, XTestImports []string
}

const module = "muster/"

// packages lists ours. The build tag brings in files that only name dependencies.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles,TestImports,XTestImports", "muster/...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// allowed reads the law.
func allowed() map[string][]string {
	may := map[string][]string{}
	for _, row := range strings.Split(strings.TrimSpace(law), "\n") {
		below, above, _ := strings.Cut(row, "<")
		for _, a := range strings.Split(above, ",") {
			for _, b := range strings.Split(below, ",") {
				may[strings.TrimSpace(a)] = append(may[strings.TrimSpace(a)], strings.TrimSpace(b))
			}
		}
	}
	return may
}

func TestImportsKeepTheLaw(t *testing.T) {
	may := allowed()
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		for _, i := range p.Imports {
			ours, ok := strings.CutPrefix(i, module)
			if ok && !slices.Contains(may[name], ours) {
				t.Errorf("%s imports %s, which the law does not allow", name, ours)
			}
		}
	}
}

func TestEveryLibraryHasOneOwner(t *testing.T) {
	for _, row := range strings.Split(strings.TrimSpace(owners), "\n") {
		fields := strings.Fields(row)
		used := false
		for _, p := range packages(t) {
			name := strings.TrimPrefix(p.ImportPath, module)
			for _, i := range p.Imports {
				if i != fields[0] && !strings.HasPrefix(i, fields[0]+"/") {
					continue
				}
				used = true
				if !slices.Contains(fields[1:], name) {
					t.Errorf("%s imports %s, which belongs to %s", name, i, strings.Join(fields[1:], ", "))
				}
			}
		}
		if !used {
			t.Errorf("nobody imports %s: is it still needed?", fields[0])
		}
	}
}

// The agent's binary holds no server code, and the broker no hardware code, however far down.
func TestNoServerInTheAgentAndNoHardwareInTheBroker(t *testing.T) {
	for _, tt := range []struct {
		of    string
		never []string
	}{
		{"muster/agent/cmd/muster-agent", []string{"muster/broker", "muster/boot/dhcp", "muster/boot/tftp", "muster/initramfs", "modernc.org/sqlite", "github.com/gorilla/mux"}},
		{"muster/broker", []string{"muster/agent/probe", "github.com/jaypipes/ghw", "github.com/shirou/gopsutil", "github.com/gorilla/mux"}},
		{"muster/boot", []string{"muster/broker", "muster/agent"}},
		{"muster/agent/facts", []string{"github.com", "golang.org"}},
		{"muster/boot/kargs", []string{"github.com", "golang.org"}},
		{"muster/boot/pin", []string{"github.com", "golang.org"}},
		{"muster/agent/chunk", []string{"github.com", "golang.org"}},
		{"muster/agent/gpt", []string{"github.com", "golang.org"}},
		{"muster/agent/loader", []string{"github.com", "golang.org"}},
	} {
		cmd := exec.Command("go", "list", "-deps", tt.of)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", tt.of, err)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, n := range tt.never {
				if dep == n || strings.HasPrefix(dep, n+"/") {
					t.Errorf("%s depends on %s", tt.of, dep)
				}
			}
		}
	}
}

func TestTopLevelIsTheFiveRooms(t *testing.T) {
	entries, err := os.ReadDir("../..")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"agent", "initramfs", "broker", "boot", "tools", "go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}
	built := []string{"muster", "muster-agent", "bin"} // what make leaves, and git ignores
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(want, e.Name()) && !slices.Contains(built, e.Name()) {
			t.Errorf("%s stands at the top level", e.Name())
		}
	}
	for _, room := range want[:5] {
		if _, err := os.Stat(filepath.Join("../..", room, "README.md")); err != nil {
			t.Errorf("%s has no README.md for its user", room)
		}
	}
}

var poorNames = regexp.MustCompile(`^(utils?|common|helpers?|misc|types|base|internal|pkg|docs|scripts|http|errors|test)(\.go)?$`)

func TestNamesSayWhatIsInside(t *testing.T) {
	for _, p := range packages(t) {
		name := path.Base(p.ImportPath)
		if poorNames.MatchString(name) {
			t.Errorf("package %s has a name that says nothing", p.ImportPath)
		}
		for _, f := range p.GoFiles {
			if f != "errors.go" && poorNames.MatchString(f) {
				t.Errorf("%s/%s has a name that says nothing", p.ImportPath, f)
			}
		}
	}
}

// Exactly one file of a package says what it is for.
func TestEveryPackageHasOneDoc(t *testing.T) {
	for _, p := range packages(t) {
		docs := 0
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if regexp.MustCompile(`(?m)^// (Package [a-z]+|Command [a-z-]+|[A-Z][a-z-]+) (.|\n//)+\npackage `).Match(text) {
				docs++
			}
		}
		if docs != 1 && len(p.GoFiles) > 0 {
			t.Errorf("package %s has %d package docs; want one", p.ImportPath, docs)
		}
	}
}
