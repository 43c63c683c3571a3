package initramfs

import "slices"

// profiles are words for lists of modules. Names are the kernel's, with underscores; what a kernel has built in costs
// nothing.
var profiles = map[string][]string{
	// What virtual machines show.
	"vm": {"virtio_pci", "virtio_mmio", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng"},

	// What machines of other hypervisors and of clouds show, too.
	"virtual": {"virtio_pci", "virtio_mmio", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_rng", "vmxnet3",
		"vmw_pvscsi", "hv_netvsc", "hv_storvsc", "hyperv_keyboard", "xen_netfront", "xen_blkfront", "ena", "gve",
		"nvme", "ahci", "e1000", "e1000e", "mptspi", "sd_mod", "sr_mod"},

	// Network cards that firmware boots from, on most servers.
	"net": {"virtio_pci", "virtio_net", "e1000", "e1000e", "igb", "ixgbe", "i40e", "tg3", "bnxt_en", "r8169",
		"mlx5_core"},

	// Disks and what they hang on.
	"storage": {"virtio_pci", "virtio_blk", "virtio_scsi", "nvme", "ahci", "ata_piix", "sd_mod", "sr_mod", "sg",
		"megaraid_sas", "mpt3sas", "smartpqi"},

	// Sticks, virtual media of a BMC, keyboards at the console.
	"usb": {"xhci_pci", "ehci_pci", "uhci_hcd", "ohci_pci", "usb_storage", "uas", "usbhid", "sd_mod",
		"sr_mod", "sg"},

	// The BMC, for its address.
	"bmc": {"ipmi_si", "ipmi_devintf"},

	// Firmware variables, processor identification.
	"firmware": {"efivarfs", "cpuid"},

	// File systems, with the character sets that FAT asks for. They are loaded by who mounts, not at start.
	"fs": {"ext4", "vfat", "xfs", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"},

	// Disks behind Fibre Channel and iSCSI; the cards ask for firmware.
	"fc": {"qla2xxx", "lpfc", "bfa", "fnic", "bnx2fc", "bnx2i", "qedf", "qedi", "iscsi_tcp", "iscsi_ibft", "csiostor", "sd_mod", "sg"},

	// Network cards on USB: good for facts, not for telling machines apart.
	"usbnet": {"xhci_pci", "ehci_pci", "cdc_ether", "cdc_ncm", "ax88179_178a", "r8152", "asix", "rndis_host"},

	// More network cards and controllers; some of them ask for firmware files that are not packed.
	"wide": {"mlx4_en", "igc", "ixgbevf", "iavf", "ice", "bnx2", "bnx2x", "8139too", "atlantic", "be2net",
		"enic", "cxgb4", "qede", "sfc", "ena", "vmxnet3", "hv_netvsc", "vmw_pvscsi", "hv_storvsc", "xen_blkfront",
		"xen_netfront", "vmd", "mptsas", "mptspi", "hpsa", "aacraid", "arcmsr", "3w_sas", "ses", "ipmi_ssif", "8021q"},
}

// unions are profiles made of profiles.
var unions = map[string][]string{
	"common": {"vm", "net", "storage", "usb", "bmc", "firmware", "fs"},
	"full":   {"vm", "net", "storage", "usb", "bmc", "firmware", "fs", "wide"},
}

// everything is the word for all modules of a kernel.
const everything = "all"

// companions are modules that are loaded with another because nothing else would load them: FAT asks the kernel by name
// for its code page and character set (CONFIG_FAT_DEFAULT_*), where nobody can answer; a keyboard below usbhid is
// announced on the bus hid, which is not followed.
var companions = map[string][]string{
	"vfat":   {"nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"},
	"usbhid": {"hid_generic"},
}

// profile lists the modules of a profile.
func profile(word string) ([]string, bool) {
	if names, ok := profiles[word]; ok {
		return names, true
	}
	var names []string
	for _, part := range unions[word] {
		names = append(names, profiles[part]...)
	}
	return names, names != nil
}

// Profiles lists the words that stand for lists of modules in Config.Modules, sorted.
func Profiles() []string {
	words := []string{everything}
	for word := range profiles {
		words = append(words, word)
	}
	for word := range unions {
		words = append(words, word)
	}
	slices.Sort(words)
	return words
}
