package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muster/agent/facts"
)

// swtpmAnswer is what swtpm 0.7 says to getTPMProperties.
var swtpmAnswer = unhex("8001000000930000000001000000060000001000000100322e3000000001010000000000000102000000a400000103" +
	"0000004b00000104000007e50000010549424d000000010653572020000001072054504d000001080000000000000109000000000000010a" +
	"000000010000010b201910230000010c001636360000010d000004000000010e000000030000010f00000007")

const tpm2 = "/sys/class/tpm/tpm0/tpm_version_major = 2"

// A fakeTPM gives an answer to a command, after it was let go on.
type fakeTPM struct {
	answer string
	err    error         // of the write
	goOn   chan struct{} // nil: at once
	asked  []byte
	closed bool
}

func (f *fakeTPM) Write(b []byte) (int, error) {
	f.asked = append(f.asked, b...)
	if f.goOn != nil {
		<-f.goOn
	}
	return len(b), f.err
}

func (f *fakeTPM) Read(b []byte) (int, error) { return copy(b, f.answer), nil }

func (f *fakeTPM) Close() error {
	f.closed = true
	return nil
}

func TestTPMSaysWhoMadeIt(t *testing.T) {
	changed := func(offset int, b ...byte) string {
		answer := []byte(swtpmAnswer)
		copy(answer[offset:], b)
		return string(answer)
	}
	sysfs := facts.TPM{Present: true, VersionMajor: 2}
	whole := facts.TPM{Present: true, VersionMajor: 2, Manufacturer: "IBM", VendorString: "SW TPM", Firmware: "8217.4131.22.13878", Revision: "1.64"}
	for _, tt := range []struct {
		name   string
		link   fakeTPM
		want   facts.TPM
		errors []string
	}{
		{"everything", fakeTPM{answer: swtpmAnswer}, whole, nil},
		{"no revision and no firmware", fakeTPM{answer: "\x80\x01\x00\x00\x00\x1b\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x01\x05STM "},
			facts.TPM{Present: true, VersionMajor: 2, Manufacturer: "STM"}, nil},
		{"busy", fakeTPM{err: syscall.EBUSY}, sysfs, []string{"io device or resource busy"}},
		{"an error of the TPM", fakeTPM{answer: "\x80\x01\x00\x00\x00\x0a\x00\x00\x09\x22"}, sysfs, []string{"io TPM2_GetCapability: response code 922h"}},
		{"no answer", fakeTPM{}, sysfs, []string{"parse TPM answer of 0 bytes; want 10 at least"}},
		{"an answer cut short", fakeTPM{answer: swtpmAnswer[:100]}, sysfs, []string{"parse TPM answer of 100 bytes says 147"}},
		{"success and nothing else", fakeTPM{answer: "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00"}, sysfs, []string{"parse TPM answer of 10 bytes says 10"}},
		{"more properties than there are", fakeTPM{answer: changed(15, 0x20, 0, 0, 0x10)}, sysfs, []string{"parse TPM answer about capability 6: 536870928 properties in 128 bytes"}},
		{"another capability", fakeTPM{answer: changed(14, 1)}, sysfs, []string{"parse TPM answer about capability 1: 16 properties in 128 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := aMachine(t, tpm2)
			m.openTPM = func() (io.ReadWriteCloser, error) { return &tt.link, nil }
			r := look(t, m, tpm)
			if diff := cmp.Diff(&tt.want, r.Facts.TPM); diff != "" {
				t.Errorf("tpm: -want +got\n%s", diff)
			}
			if diff := cmp.Diff(tt.errors, errorsOf(r)); diff != "" {
				t.Errorf("errors: -want +got\n%s", diff)
			}
			if (len(r.Facts.Incomplete) > 0) != (tt.errors != nil) {
				t.Errorf("incomplete %v", r.Facts.Incomplete)
			}
			if want := unhex("80010000 00160000 017a0000 00060000 01000000 0010"); !bytes.Equal(tt.link.asked, []byte(want)) {
				t.Errorf("asked % x; want % x", tt.link.asked, want)
			}
			if !tt.link.closed {
				t.Error("the device stays open")
			}
		})
	}
}

// F40: a TPM that does not answer keeps what sysfs said.
func TestF40TPMThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		link := &fakeTPM{goOn: make(chan struct{})}
		defer close(link.goOn)
		m := aMachine(t, tpm2)
		m.patience = 50 * time.Millisecond
		m.openTPM = func() (io.ReadWriteCloser, error) { return link, nil }
		r := look(t, m, tpm)
		if diff := cmp.Diff(&facts.TPM{Present: true, VersionMajor: 2}, r.Facts.TPM); diff != "" {
			t.Errorf("tpm: -want +got\n%s", diff)
		}
		if diff := cmp.Diff([]string{"timeout ask /dev/tpmrm0: no answer: context deadline exceeded"}, errorsOf(r)); diff != "" {
			t.Errorf("errors: -want +got\n%s", diff)
		}
		if len(r.Facts.Incomplete) != 1 {
			t.Errorf("incomplete %v; want tpm", r.Facts.Incomplete)
		}
	})
}

// A TPM 1.2 speaks another language: it is not asked, its driver says what it is.
func TestTPM1IsRead(t *testing.T) {
	for _, tt := range []struct{ name, file string }{
		{"of a recent kernel", "/sys/class/tpm/tpm0/caps"}, {"of an older one", "/sys/class/tpm/tpm0/device/caps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := aMachine(t, "/sys/class/tpm/tpm0/tpm_version_major = 1\n"+tt.file+` = Manufacturer: 0x49465800\nTCG version: 1.2\nFirmware version: 3.17`)
			m.openTPM = func() (io.ReadWriteCloser, error) { t.Error("asked"); return nil, errors.New("asked") }
			r := look(t, m, tpm)
			if diff := cmp.Diff(&facts.TPM{Present: true, VersionMajor: 1, Manufacturer: "IFX", Firmware: "3.17", Revision: "1.2"}, r.Facts.TPM); diff != "" {
				t.Errorf("tpm: -want +got\n%s", diff)
			}
		})
	}
}

// A second opinion: a whole TPM 2.0 in software, which takes commands over a socket as the driver does.
func TestTPMOfSwtpm(t *testing.T) {
	program, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skip(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "tpm"), os.NewFile(uintptr(fds[1]), "swtpm")
	cmd := exec.CommandContext(t.Context(), program, "socket", "--tpm2", "--tpmstate", "dir="+t.TempDir(), "--fd", "3", "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it ends with its caller, or the context
	m := aMachine(t, tpm2)
	m.openTPM = func() (io.ReadWriteCloser, error) { return ours, nil }
	r := look(t, m, tpm)
	got := r.Facts.TPM
	if len(r.Errors) > 0 || got.Manufacturer != "IBM" || got.VendorString != "SW TPM" || got.Firmware == "" || got.Revision == "" {
		t.Errorf("tpm %+v, errors %v; want one of IBM, SW TPM, with firmware and revision", got, r.Errors)
	}
}

// FuzzTPM (Z30): whatever a TPM answers, the facts are valid, and an answer that lies about its size gives none.
func FuzzTPM(f *testing.F) {
	f.Add([]byte(swtpmAnswer))
	f.Add([]byte(swtpmAnswer[:18]))
	f.Add([]byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := facts.TPM{Present: true}
		err := parseTPMProperties(b, &got)
		doc := facts.Facts{Schema: facts.Schema, TPM: &got}
		if err := doc.Validate(); err != nil {
			t.Fatal(err)
		}
		if err == nil && int(binary.BigEndian.Uint32(b[2:])) != len(b) {
			t.Fatalf("an answer of %d bytes that says %d was taken", len(b), binary.BigEndian.Uint32(b[2:]))
		}
		if err != nil && got != (facts.TPM{Present: true}) {
			t.Fatalf("%v, and %+v", err, got)
		}
	})
}
