package main

import (
	"github.com/jaypipes/pcidb"
	"github.com/jaypipes/pcidb/types"
)

// pciNames gives the function that names a PCI device by the pci.ids of this host (Debian's package of that name). A device
// that is not listed there, or any where there is no such file, is named by its numbers.
func pciNames() func(vendor, device string) string {
	db, err := pcidb.New()
	if err != nil {
		db = &types.DB{}
	}
	return func(vendor, device string) string {
		numbers := vendor + ":" + device
		maker, known := db.Vendors[vendor]
		product, listed := db.Products[vendor+device]
		switch {
		case known && listed:
			return maker.Name + " " + product.Name + " (" + numbers + ")"
		case known:
			return maker.Name + " (" + numbers + ")"
		}
		return numbers
	}
}
