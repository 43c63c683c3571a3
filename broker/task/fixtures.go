package task

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"muster/boot"
	"muster/broker/render"
)

// A Fixture is a node that tasks are rendered for without a broker: by tests, and by whoever writes a task.
type Fixture struct {
	Name   string
	Values Values         // without Param, Stage and Next
	Params map[string]any // those of its task that are of these names and types

	turn int // which of a task's versions it has
}

// Fixtures are three nodes: an old one of which little is known, one with hostile text wherever text may stand, and one
// that reaches its broker by https and is handed over.
func Fixtures() []Fixture {
	const hash = "$6$0011223344556677$Q5sPTuFcxvBFQQ5DRHUYQfsS7AcAwbYGdtV2vUlIlYjRw2p1Nd9BzXvPyYkqVFQoqQ0pPsBCyZuj1dnHsBFi6."
	return []Fixture{
		{Name: "bios-sata", Params: map[string]any{"root_password": hash, "admin_password": "Passw0rd!"}, Values: Values{
			Server: "http://192.0.2.10:8080", Policy: "default", Token: "node1.1.00ff00ff", Fetch: "node1.2.0f0f0f0f", Salt: "0011223344556677",
			Node: Node{ID: "node1", Hostname: "node1", MAC: "52:54:00:00:00:01", Arch: "amd64", Metadata: map[string]any{}},
			Disk: Disk{Name: "sda", ByID: "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001", SizeBytes: 68719476736, Serial: "QM00001", Model: "QEMU HARDDISK"},
			Repo: Repo{Name: "tree", URL: "http://192.0.2.10:8080/repo/tree", Kernel: "repo/tree/linux", Initrds: []string{"repo/tree/initrd.gz"}},
		}},
		{Name: "uefi-nvme-static", turn: 1, Params: map[string]any{
			"admin_password": `"it's" <&> ]]> 機`, "product_key": "VK7JG-NPHTM-C97JM-9MPGT-3V66T", "share": `\\192.0.2.4\o'brien $(x)`, "share_user": "a`b", "drivers": "d'rivers",
			"vlan": 12.0, "ssh": true, "license": "00000-00000-00000-00000-00000",
			"user": "anna", "user_password": hash, "ssh_keys": []any{`ssh-ed25519 AAAAC3Nz anna's "key" $(reboot) ]]> %end`, "ssh-rsa AAAAB3Nz 機械"},
			"timezone": "Europe/Berlin", "packages": []any{"vim", "tmux"}, "ntp": []any{"192.0.2.1", "ntp.example.net"}, "proxy": "http://192.0.2.3:3128",
			"partitioning": "lvm", "network": "static", "address": "198.51.100.20/24", "gateway": "198.51.100.1", "nameservers": []any{"198.51.100.2", "198.51.100.3"},
			"console": "ttyS1,115200n8", "post": "#!/bin/sh\n# it's ${HOME} ]]> &amp; \"quoted\"\n%end\ncat <<'EOF'\n$(reboot) `reboot` é機\nEOF\n",
		}, Values: Values{
			Server: "http://[2001:db8::10]:8080", Policy: `o'brien "rack" <b>`, Token: "node2.7.00ff00ff", Fetch: "node2.8.0f0f0f0f", Salt: "8899aabbccddeeff",
			Node: Node{ID: "node2", Hostname: "osd001.rack-b.example.net", MAC: "52:54:00:aa:bb:02", Address: "198.51.100.77", UUID: "4c4c4544-0042-3510-8051-b4c04f333032",
				Serial: `S"1'2$(x)`, Arch: "amd64", EFI: true, Tags: []string{"rack-b", "storage"},
				Metadata: map[string]any{"owner": `Anna "the $(reboot)" O'Brien ]]> <script> & 機械 ` + "\u202eevil", "rack": 12.0, "spare": true, "roles": []any{"a'b", "c\"d"}}},
			Disk: Disk{Name: "nvme0n1", ByID: "/dev/disk/by-id/nvme-eui.0025388b71b2f4d6", ByPath: "/dev/disk/by-path/pci-0000:01:00.0-nvme-1", SizeBytes: 1000204886016,
				Serial: "S4EV'NF0M$(x) 2", WWN: "eui.0025388b71b2f4d6", Model: `SAMSUNG "970"`},
			Repo: Repo{Name: "mirror", URL: "http://mirror.example.net/some/tree", Kernel: "repo/mirror/vmlinuz", Initrds: []string{"repo/mirror/initrd.img", "repo/mirror/more.img"}},
		}},
		{Name: "arm64-virtio-https", turn: 2, Params: map[string]any{"ssh_keys": []any{"ssh-ed25519 AAAAC3Nz ops"}, "admin_password": "x"}, Values: Values{
			Server: "https://muster.example.net:8443", Plain: "http://muster.example.net:8080", CA: "-----BEGIN CERTIFICATE-----\nMIIBdDCCARqgAwIBAgIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDEwVteSBDQTAe\nFw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBAxDjAMBgNVBAMTBW15IENB\n-----END CERTIFICATE-----\n",
			Policy: "web", Handoff: "puppet", Token: "node3.1.00ff00ff", Fetch: "node3.2.0f0f0f0f", Salt: "0123456789abcdef",
			Node: Node{ID: "node3", Hostname: "web3.example.net", MAC: "52:54:00:00:00:03", Address: "203.0.113.9", Arch: "arm64", EFI: true, Metadata: map[string]any{}},
			Disk: Disk{Name: "vda", ByID: "/dev/disk/by-id/virtio-web3", SizeBytes: 34359738368, Serial: "web3"},
			Repo: Repo{Name: "tree", URL: "https://muster.example.net:8443/repo/tree", Kernel: "repo/tree/linux", Initrds: []string{"repo/tree/initrd.gz"}},
		}},
	}
}

// mbootSample is like the boot.cfg of ESXi's medium, the only file of a repo that a task reads.
const mbootSample = "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\n" +
	"modules=/jumpstrt.gz --- /useropts.gz --- /k.b00 --- /s.v00 --- /imgdb.tgz\nbuild=8.0.3-0.0.24022510\nupdated=0\n"

// samples stand for parameters that a task requires, and that are its own.
var samples = map[Type]any{String: "http://192.0.2.10:8080/sample", Text: "sample\n", Int: 1.0, Bool: true, List: []any{"sample"}, Password: "$6$salt$sample"}

// For gives the values that the fixture has for a task, at its first stage.
func (f Fixture) For(t *Task) (Values, error) {
	v := f.Values
	given := map[string]any{}
	for name, p := range t.Parameters {
		switch said, ok := f.Params[name]; {
		case ok && types[p.kind()].is(said) && (len(p.Choices) == 0 || slices.Contains(p.Choices, said.(string))):
			given[name] = said
		case p.Required && len(p.Choices) > 0:
			given[name] = p.Choices[0]
		case p.Required:
			given[name] = samples[p.kind()]
		}
	}
	var err error
	if v.Param, err = t.Params(given); err != nil {
		return v, err
	}
	if v.Repo.OS = t.OS; len(t.Versions) > 0 {
		v.Repo.Version = t.Versions[f.turn%len(t.Versions)]
	}
	if len(t.Arch) > 0 && !slices.Contains(t.Arch, v.Node.Arch) {
		v.Node.Arch = t.Arch[0]
	}
	v.Repo.Arch = v.Node.Arch
	v.RepoFile = func(string) (string, error) { return mbootSample, nil }
	if !t.Disk {
		v.Disk = Disk{}
	}
	for i, s := range slices.Backward(t.Stages) {
		v.Stage, v.Next = s.Name, ""
		if i+1 < len(t.Stages) {
			v.Next = t.Stages[i+1].Name
		}
	}
	return v, nil
}

// A Rendered is one text that a task makes of a node.
type Rendered struct {
	Name   string // of the recipe, the path of the file, or step-STAGE
	Format string // of package render
	Text   string
}

// Refusals are what the task's own templates say of values that they are not rendered with, each once.
func (t *Task) Refusals(v Values) (said []string) {
	_, errs := t.RenderAll(v)
	for _, err := range errs {
		var refusal render.Refusal
		if errors.As(err, &refusal) && !slices.Contains(said, string(refusal)) {
			said = append(said, string(refusal))
		}
	}
	return said
}

// RenderAll gives all that a task makes: its recipes, files, and what its installers boot. Every error is one text that
// can not be.
func (t *Task) RenderAll(v Values) (all []Rendered, errs []error) {
	add := func(name, format, text string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
			return
		}
		all = append(all, Rendered{name, format, text})
	}
	for _, r := range t.Recipes {
		text, err := t.render(r.template(), v)
		add(r.Name, cmp.Or(r.Format, render.FormatOf(r.template())), text, err)
	}
	for _, f := range t.Files {
		if f.Template != "" {
			text, err := t.render(f.Template, v)
			add(f.Path, cmp.Or(f.Format, render.FormatOf(f.Template)), text, err)
		}
	}
	for _, s := range t.Stages {
		if s.Installer() {
			v.Stage = s.Name
			step, err := t.step(s, v)
			text, lineErr := stepText(step)
			add("step-"+s.Name, "step", text, errors.Join(err, lineErr))
		}
	}
	return all, errs
}

// stepText shows what an installer boots, a file or an argument to a line.
func stepText(s boot.Step) (string, error) {
	words, err := s.Args.Words()
	if _, long := s.Args.Render(); err == nil {
		err = long
	}
	lines := []string{string(s.Kind)}
	for _, l := range []struct {
		what  string
		words []string
	}{{"kernel", []string{s.Kernel}}, {"initrd", s.Initrds}, {"chain", []string{s.Chain}}, {"word", s.Words}, {"arg", words}} {
		for _, w := range l.words {
			if w != "" {
				lines = append(lines, l.what+" "+w)
			}
		}
	}
	for _, i := range s.Inject {
		lines = append(lines, "inject "+i.Name+" "+i.URL)
	}
	return strings.Join(lines, "\n") + "\n", err
}
