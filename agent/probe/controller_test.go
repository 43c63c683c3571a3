package probe

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"muster/agent/facts"
)

// Each driver has its own names for the model and the firmware of its controller.
func TestControllersSayWhatTheyAre(t *testing.T) {
	const function = "/sys/bus/pci/devices/0000:02:00.0"
	const port = "/sys/devices/pci0000:00/0000:02:00.0/host0/scsi_host/host0"
	host := "/sys/class/scsi_host/host0 -> ../.." + port[len("/sys"):] + "\n"
	for _, tt := range []struct{ name, class, attributes, model, firmware string }{
		{"mpt3sas", "0x010700", host + port + "/board_name = SAS3008\n" + port + "/version_fw = 16.00.10.00", "SAS3008", "16.00.10.00"},
		{"qla2xxx", "0x0c0400", host + port + "/model_name = QLE2692\n" + port + "/fw_version = 8.08.05 (d0d5)", "QLE2692", "8.08.05 (d0d5)"},
		{"lpfc", "0x0c0400", host + port + "/modelname = LPe32002-M2\n" + port + "/fwrev = 12.8.351.47, sli-4:2:c", "LPe32002-M2", "12.8.351.47, sli-4:2:c"},
		{"hpsa", "0x010400", host + port + "/firmware_revision = 6.60", "", "6.60"},
		{"smartpqi", "0x010700", host + port + "/model = P408i-a SR Gen10\n" + port + "/firmware_version = 1.98-0", "P408i-a SR Gen10", "1.98-0"},
		{"nvme", "0x010802", function + "/nvme/nvme0/model = SAMSUNG MZ1LB960\n" + function + "/nvme/nvme0/firmware_rev = EDA7602Q", "SAMSUNG MZ1LB960", "EDA7602Q"},
		{"ahci", "0x010601", host + port + "/unique_id = 1", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := look(t, aMachine(t, function+"/class = "+tt.class+"\n"+tt.attributes), controllers)
			if len(r.Facts.Controllers) != 1 || len(r.Errors) > 0 {
				t.Fatalf("controllers %+v, errors %v; want one", r.Facts.Controllers, r.Errors)
			}
			if c := r.Facts.Controllers[0]; c.Model != tt.model || c.Firmware != tt.firmware {
				t.Errorf("model %q, firmware %q; want %q, %q", c.Model, c.Firmware, tt.model, tt.firmware)
			}
		})
	}
}

// The rules of which NIC booted, from the surest on: each counts when those above it name no NIC that is here.
func TestWhichNICBooted(t *testing.T) {
	const nics = `/sys/devices/pci0000:00/0000:01:00.0/net/a/address = 52:54:00:aa:00:01
		/sys/devices/pci0000:00/0000:02:00.0/net/b/address = 52:54:00:aa:00:02
		/sys/devices/pci0000:00/0000:03:00.0/net/c/address = 52:54:00:aa:00:03
		/sys/devices/pci0000:00/0000:03:00.0/net/c/carrier = 1
		/sys/class/net/a -> ../../devices/pci0000:00/0000:01:00.0/net/a
		/sys/class/net/b -> ../../devices/pci0000:00/0000:02:00.0/net/b
		/sys/class/net/c -> ../../devices/pci0000:00/0000:03:00.0/net/c
		`
	const ibft = "\n/sys/firmware/ibft/ethernet0/mac = 52:54:00:aa:00:01\n/sys/firmware/ibft/ethernet0/flags = 1" +
		"\n/sys/firmware/ibft/ethernet1/mac = 52:54:00:aa:00:02\n/sys/firmware/ibft/ethernet1/flags = 3"
	for _, tt := range []struct{ name, more, want string }{
		{"the broker says it", "/proc/cmdline = BOOTIF=01-52-54-00-aa-00-03 muster.mac=52:54:00:aa:00:01" + ibft, "a"},
		{"the loader says it", "/proc/cmdline = BOOTIF=01-52-54-00-aa-00-01" + ibft, "a"},
		{"both name a NIC that is not here", "/proc/cmdline = BOOTIF=01-52-54-00-aa-00-09 muster.mac=52:54:00:aa:00:08" + ibft, "b"},
		{"the firmware booted over iSCSI", "/proc/cmdline = quiet" + ibft, "b"},
		{"one NIC alone has a link", "/proc/cmdline = quiet", "c"},
		{"two NICs have a link", "/proc/cmdline = quiet\n/sys/devices/pci0000:00/0000:02:00.0/net/b/carrier = 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Run(t.Context(), Options{Root: plant(t, nics+tt.more), Deadline: patient, Only: []string{"nics"}})
			got := ""
			for _, n := range r.Facts.NICs {
				if n.PXE {
					got += n.Name
				}
			}
			if got != tt.want || len(r.Facts.NICs) != 3 {
				t.Errorf("NIC %q of %d; want %q of 3", got, len(r.Facts.NICs), tt.want)
			}
		})
	}
}

// A NIC whose firmware file is not in the ramdisk has no link, and the kernel log alone says why.
func TestNICWithoutItsFirmware(t *testing.T) {
	root := plant(t, `/sys/class/net/.keep = 1
		/sys/bus/pci/devices/0000:02:00.0/class = 0x020000
		/sys/bus/pci/devices/0000:03:00.0/class = 0x010700
		/dev/kmsg = 6,1,100,-;Linux version 6.1.0\n4,2,200,-;bnx2 0000:02:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2\n SUBSYSTEM=pci\n DEVICE=+pci:0000:02:00.0\n4,3,300,-;bnx2 0000:02:00.0: Direct firmware load for bnx2/bnx2-mips-09-6.2.1b.fw failed with error -2\n4,4,400,-;qla2xxx 0000:03:00.0: Direct firmware load for ql2700_fw.bin failed with error -2\n4,5,500,-;ice 0000:02:00.0: Direct firmware load for intel/ice.pkg failed with error -22\n4,6,600,-;x: bnx2 0000:02:00.0: Direct firmware load for evil failed with error -2\n4,7,700,-;r8169 0000:02:00.0: Direct firmware load for rtl_nic/rtl8168g-2.fw failed with error -2`)
	r := Run(t.Context(), Options{Root: root, Deadline: patient, Only: []string{"nics"}})
	want := []facts.ProbeError{
		{Collector: "nics", Code: "missing", Msg: "firmware bnx2/bnx2-mips-09-6.2.1b.fw, for 0000:02:00.0 of bnx2: file does not exist"},
		{Collector: "nics", Code: "missing", Msg: "firmware rtl_nic/rtl8168g-2.fw, for 0000:02:00.0 of r8169: file does not exist"},
	}
	if diff := cmp.Diff(want, r.Errors); diff != "" {
		t.Errorf("errors: -want +got\n%s", diff)
	}
	if len(r.Facts.Incomplete) > 0 {
		t.Errorf("incomplete %v; want none: what is read of the NICs is all that there is", r.Facts.Incomplete)
	}
}
