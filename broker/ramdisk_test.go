package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
	"muster/boot"
	"muster/broker"
)

// next is the step of a machine, which must be of that kind.
func next(t *testing.T, b *broker.Broker, c boot.Client, kind boot.StepKind) boot.Step {
	t.Helper()
	s, err := b.Next(t.Context(), c)
	if err != nil || s.Kind != kind {
		t.Fatalf("Next = %s %q, %v; want %s", s.Kind, s.Because, err, kind)
	}
	return s
}

func TestAStepNamesFilesByTheirContent(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, ramdiskDoc("arm", "arm64", "args: muster.sshd quiet\n"))
	amd := next(t, b, boot.Client{MAC: mac(t, "52:54:00:00:00:01")}, boot.StepRamdisk)
	arm := next(t, b, boot.Client{MAC: mac(t, "52:54:00:00:00:02"), Arch: boot.ArchARM64}, boot.StepRamdisk)
	for _, s := range []boot.Step{amd, arm} {
		for _, name := range append(slices.Clone(s.Initrds), s.Kernel) {
			if sum, label, _ := strings.Cut(name, "/"); len(sum) != 64 || label != "vmlinuz" && label != "ramdisk" {
				t.Errorf("a file is called %q; want SHA256/NAME", name)
			}
		}
	}
	if amd.Kernel == arm.Kernel || !strings.HasSuffix(amd.Because, ", ramdisk default") || !strings.HasSuffix(arm.Because, ", ramdisk arm") {
		t.Errorf("%s because %q; %s because %q", amd.Kernel, amd.Because, arm.Kernel, arm.Because)
	}
	if last := arm.Args[len(arm.Args)-2:]; last[0].Key != "muster.sshd" || last[1].Key != "quiet" {
		t.Errorf("the ramdisk's own arguments do not stand last: %v", arm.Args)
	}
	if _, ok := amd.Args.Lookup("quiet"); ok {
		t.Error("another ramdisk's arguments are given to the default")
	}
	mustApply(t, b, ramdiskDoc("default", "amd64", "order: 7\n"))
	again := next(t, b, boot.Client{MAC: mac(t, "52:54:00:00:00:01")}, boot.StepRamdisk)
	if diff := cmp.Diff(amd, again); diff != "" {
		t.Errorf("the same files under the same name (-before +after):\n%s", diff)
	}
}

func TestAMachineWithoutARamdiskIsToldSo(t *testing.T) {
	b := newBroker(t)
	for arch, want := range map[boot.Arch]string{boot.ArchARM64: "there is no ramdisk for arm64", boot.ArchIA32: "there is no ramdisk for IA32 UEFI"} {
		s := next(t, b, boot.Client{MAC: mac(t, fmt.Sprintf("52:54:00:00:01:%02x", uint16(arch))), Arch: arch}, boot.StepRefuse)
		if !strings.Contains(s.Text, want) || !strings.Contains(s.Because, want) || s.Kernel != "" || len(s.Args) != 0 {
			t.Errorf("%s: %+v; want %q", arch, s, want)
		}
	}
}

// known checks a machine in that carries the tag big.
func known(t *testing.T, b *broker.Broker, c boot.Client) {
	t.Helper()
	in := &facts.CheckIn{V: 1, Token: token(t, b, c), BootID: "b", Facts: &facts.Facts{Schema: 1, Disks: []facts.Disk{{ID: "a", Name: "a"}, {ID: "b", Name: "b"}},
		NICs: []facts.NIC{{Name: "eth0", MAC: c.MAC.String(), Bus: "pci"}}}}
	if _, err := b.CheckIn(t.Context(), "0123456789abcdef0123456789abcdef", in); err != nil {
		t.Fatal(err)
	}
}

func TestExplainSaysWhichRamdiskAndWhy(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, bigTag+"---\n"+ramdiskDoc("big", "amd64", "tags: [big]\n")+ramdiskDoc("rescue", "amd64", "tags: [big]\norder: 200\n"))
	c := boot.Client{MAC: mac(t, "52:54:00:00:00:01"), Kind: boot.KindIPXE}
	known(t, b, c)
	for _, tt := range []struct {
		name, apply string
		because     string
		want        []broker.RamdiskLine
	}{
		{"by tags", "", "no policy has taken it yet, ramdisk big",
			[]broker.RamdiskLine{{"big", true, "node has tag big"}, {"rescue", false, "not asked: ramdisk big was first"}, {"default", false, "not asked: ramdisk big was first"}}},
		{"by its policy", "kind: Policy\nname: p\ntags: [big]\ntask: discover-only\napproval: automatic\nramdisk: rescue\n", "policy p keeps it in the ramdisk, ramdisk rescue",
			[]broker.RamdiskLine{{"big", false, "not asked: policy p names ramdisk rescue"}, {"rescue", true, "policy p names it"}, {"default", false, "not asked: policy p names ramdisk rescue"}}},
		{"by a policy that was changed", ramdiskDoc("arm", "arm64", "") + "kind: Policy\nname: p\ntags: [big]\ntask: discover-only\napproval: automatic\nramdisk: arm\n",
			"ramdisk arm: policy p names it, but it is for arm64, and this machine is amd64",
			[]broker.RamdiskLine{{"big", false, "not asked: policy p names ramdisk arm"}, {"rescue", false, "not asked: policy p names ramdisk arm"},
				{"arm", false, "policy p names it, but it is for arm64, and this machine is amd64"}, {"default", false, "not asked: policy p names ramdisk arm"}}},
	} {
		mustApply(t, b, tt.apply)
		x, err := b.Explain(t.Context(), c.MAC.String())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, x.Ramdisks); diff != "" || x.Next.Because != tt.because {
			t.Errorf("%s: because %q; want %q (-want +got):\n%s", tt.name, x.Next.Because, tt.because, diff)
		}
		s, err := b.Next(t.Context(), c)
		if err != nil || s.Kind != x.Next.Step || !strings.HasSuffix(s.Because, x.Next.Because) {
			t.Errorf("%s: Next says %s because %q, %v; explain says %+v", tt.name, s.Kind, s.Because, err, x.Next)
		}
	}
}

func TestARamdiskThatPoliciesNameStays(t *testing.T) {
	b := newBroker(t)
	mustApply(t, b, bigTag+"---\nkind: Policy\nname: p\ntags: [big]\ntask: discover-only\nramdisk: default\n")
	err := b.DeleteObject(t.Context(), "Ramdisk", "default", "tester")
	if !errors.Is(err, broker.ErrConflict) || !strings.Contains(err.Error(), "still named by policies: p") {
		t.Errorf("DeleteObject = %v", err)
	}
	if err := b.DeleteObject(t.Context(), "Tag", "big", "tester"); err == nil {
		t.Error("a tag that a policy asks for was deleted")
	}
	if err := b.DeleteObject(t.Context(), "Policy", "p", "tester"); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteObject(t.Context(), "Ramdisk", "default", "tester"); err != nil {
		t.Errorf("with the policy gone: %v", err)
	}
}

func TestRamdisksAreChecked(t *testing.T) {
	good := ramdiskDoc("r", "amd64", "")
	for _, tt := range []struct{ name, change, to, says string }{
		{"another architecture", "arch: amd64", "arch: i386", `arch "i386": want amd64 or arm64`},
		{"no initrd", "initrds: [", "initrds: [] #", "0 initrds"},
		{"a file called by a path", "name: vmlinuz", "name: ../vmlinuz", `file name "../vmlinuz"`},
		{"a sum that is none", "sha256: ", "sha256: x", "64 lower-case hexadecimal digits"},
		{"an empty file", "size_bytes: 1}\n", "size_bytes: 0}\n", "size_bytes must be given"},
		{"half a signature", "size_bytes: 1}\n", "size_bytes: 1, signature: " + strings.Repeat("a", 64) + "}\n", "sign the kernel and all initrds, or none"},
		{"a negative order", "arch:", "order: -1\narch:", "may not be negative"},
		{"the broker's own argument", "arch:", "args: muster.server=http://evil.example\narch:", "muster.server is the broker's own to say"},
		{"the loader's own argument", "arch:", "args: quiet initrd=x\narch:", "initrd is the broker's own to say"},
		{"an argument that would end the script's line (T16)", "arch:", `args: "a=b\u0001c"` + "\narch:", "args:"},
		{"an unknown field", "arch:", "colour: red\narch:", "colour"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			doc := strings.Replace(good, tt.change, tt.to, 1)
			if _, err := broker.ParseObjects([]byte(doc)); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("ParseObjects = %v; want an error with %q\n%s", err, tt.says, doc)
			}
		})
	}
	if _, err := broker.ParseObjects([]byte(good)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestARamdiskWhoseFilesAreNotThereIsRefused(t *testing.T) {
	stored := map[string]int64{}
	b := bareBroker(t, broker.Config{Held: func(sum, _ string) (int64, error) {
		if size, ok := stored[sum]; ok {
			return size, nil
		}
		return 0, errors.New("not stored")
	}})
	doc := ramdiskDoc("r", "amd64", "")
	if _, err := apply(t, b, doc); !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "ramdisk r: vmlinuz: not stored") {
		t.Errorf("without files: %v", err)
	}
	for _, field := range strings.FieldsFunc(doc, func(r rune) bool { return strings.ContainsRune(" ,\n{}", r) }) {
		if len(field) == 64 {
			stored[field] = 1
		}
	}
	mustApply(t, b, doc)
	if sums := b.StoredFiles(); len(sums) != len(stored) || len(stored) != 2 {
		t.Errorf("%d files are in use; %d are stored", len(sums), len(stored))
	}
	for sum := range stored {
		stored[sum] = 2
	}
	if _, err := apply(t, b, doc); err == nil || !strings.Contains(err.Error(), "size_bytes is 1, the stored file has 2") {
		t.Errorf("with files of another size: %v", err)
	}
}

// The same again changes nothing, whenever it is imported; other files are a change with a time of its own.
func TestAnImportHasATime(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	b := bareBroker(t, broker.Config{Now: func() time.Time { return now }})
	result := func(doc string) string { return mustApply(t, b, doc)[0].Result }
	imported := func() string {
		list, err := b.Objects(t.Context(), "Ramdisk")
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		_, after, _ := strings.Cut(string(list[0].Doc), `"imported":"`)
		return after[:10]
	}
	for _, tt := range []struct{ doc, result, imported string }{
		{ramdiskDoc("r", "amd64", ""), "created", "2026-11-27"},
		{ramdiskDoc("r", "amd64", ""), "unchanged", "2026-11-27"},
		{ramdiskDoc("r", "amd64", "order: 3\n"), "changed", "2026-11-29"},
		{ramdiskDoc("r", "amd64", "order: 3\n"), "unchanged", "2026-11-29"},
	} {
		if got := result(tt.doc); got != tt.result || imported() != tt.imported {
			t.Errorf("on %s: %s, imported %s; want %s, %s", now, got, imported(), tt.result, tt.imported)
		}
		now = now.AddDate(0, 0, 1)
	}
}

func TestIPXEVerifiesWhenAskedTo(t *testing.T) {
	signature := strings.Repeat("a", 64)
	signed := strings.ReplaceAll(ramdiskDoc("r", "amd64", ""), "size_bytes: 1", "size_bytes: 1, signature: "+signature)
	c := boot.Client{MAC: mac(t, "52:54:00:00:00:01"), Kind: boot.KindIPXE}
	names := []string{signature + "/vmlinuz.sig", signature + "/ramdisk.sig"}
	for _, tt := range []struct {
		name  string
		cfg   broker.Config
		doc   string
		kind  boot.Kind
		step  boot.StepKind
		trust bool
		want  []string
	}{
		{"nobody asked", broker.Config{}, signed, boot.KindIPXE, boot.StepRamdisk, false, nil},
		{"asked", broker.Config{Verify: true}, signed, boot.KindIPXE, boot.StepRamdisk, false, names},
		{"asked, and nothing else from now on", broker.Config{Verify: true, TrustOnly: true}, signed, boot.KindIPXE, boot.StepRamdisk, true, names},
		{"asked, and not signed", broker.Config{Verify: true}, ramdiskDoc("r", "amd64", ""), boot.KindIPXE, boot.StepRefuse, false, nil},
		{"asked, and not signed, for firmware that is yet to load iPXE", broker.Config{Verify: true}, ramdiskDoc("r", "amd64", ""), boot.KindUEFI, boot.StepRamdisk, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bareBroker(t, tt.cfg)
			mustApply(t, b, tt.doc)
			c.Kind = tt.kind
			s := next(t, b, c, tt.step)
			if diff := cmp.Diff(tt.want, s.Signatures); diff != "" || s.TrustOnly != tt.trust {
				t.Errorf("trust only %t, signatures (-want +got):\n%s", s.TrustOnly, diff)
			}
			if tt.step == boot.StepRefuse && !strings.Contains(s.Text, "ramdisk r is not signed") {
				t.Errorf("it is refused because %q", s.Text)
			}
		})
	}
}
