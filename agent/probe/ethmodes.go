package probe

import (
	"encoding/binary"
	"strings"
)

// ethModes are the link modes of enum ethtool_link_mode_bit_indices (include/uapi/linux/ethtool.h) in the order of their
// bits, up to Linux 6.1. A dash stands for a bit that is no mode: connectors, pause, error correction.
var ethModes = strings.Fields(`
	10baseT/Half 10baseT/Full 100baseT/Half 100baseT/Full 1000baseT/Half 1000baseT/Full - - - - - - 10000baseT/Full -
	- 2500baseX/Full - 1000baseKX/Full 10000baseKX4/Full 10000baseKR/Full - 20000baseMLD2/Full 20000baseKR2/Full
	40000baseKR4/Full 40000baseCR4/Full 40000baseSR4/Full 40000baseLR4/Full 56000baseKR4/Full 56000baseCR4/Full
	56000baseSR4/Full 56000baseLR4/Full 25000baseCR/Full 25000baseKR/Full 25000baseSR/Full 50000baseCR2/Full
	50000baseKR2/Full 100000baseKR4/Full 100000baseSR4/Full 100000baseCR4/Full 100000baseLR4_ER4/Full
	50000baseSR2/Full 1000baseX/Full 10000baseCR/Full 10000baseSR/Full 10000baseLR/Full 10000baseLRM/Full
	10000baseER/Full 2500baseT/Full 5000baseT/Full - - - 50000baseKR/Full 50000baseSR/Full 50000baseCR/Full
	50000baseLR_ER_FR/Full 50000baseDR/Full 100000baseKR2/Full 100000baseSR2/Full 100000baseCR2/Full
	100000baseLR2_ER2_FR2/Full 100000baseDR2/Full 200000baseKR4/Full 200000baseSR4/Full 200000baseLR4_ER4_FR4/Full
	200000baseDR4/Full 200000baseCR4/Full 100baseT1/Full 1000baseT1/Full 400000baseKR8/Full 400000baseSR8/Full
	400000baseLR8_ER8_FR8/Full 400000baseDR8/Full 400000baseCR8/Full - 100000baseKR/Full 100000baseSR/Full
	100000baseLR_ER_FR/Full 100000baseCR/Full 100000baseDR/Full 200000baseKR2/Full 200000baseSR2/Full
	200000baseLR2_ER2_FR2/Full 200000baseDR2/Full 200000baseCR2/Full 400000baseKR4/Full 400000baseSR4/Full
	400000baseLR4_ER4_FR4/Full 400000baseDR4/Full 400000baseCR4/Full 100baseFX/Half 100baseFX/Full`)

// linkModes names the bits of a mask that are modes.
func linkModes(mask []byte) []string {
	var names []string
	for bit, name := range ethModes {
		if at := bit / 32 * 4; name == "-" || at+4 > len(mask) {
			continue
		} else if binary.NativeEndian.Uint32(mask[at:])&(1<<(bit%32)) != 0 {
			names = append(names, name)
		}
	}
	return names
}
