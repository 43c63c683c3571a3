package probe

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// The names stand at the bits of the kernel's own header.
func TestLinkModes(t *testing.T) {
	bits := map[int]string{
		unix.ETHTOOL_LINK_MODE_10baseT_Half_BIT:               "10baseT/Half",
		unix.ETHTOOL_LINK_MODE_1000baseT_Full_BIT:             "1000baseT/Full",
		unix.ETHTOOL_LINK_MODE_10000baseT_Full_BIT:            "10000baseT/Full",
		unix.ETHTOOL_LINK_MODE_25000baseCR_Full_BIT:           "25000baseCR/Full",
		unix.ETHTOOL_LINK_MODE_5000baseT_Full_BIT:             "5000baseT/Full",
		unix.ETHTOOL_LINK_MODE_100000baseLR2_ER2_FR2_Full_BIT: "100000baseLR2_ER2_FR2/Full",
		unix.ETHTOOL_LINK_MODE_400000baseCR8_Full_BIT:         "400000baseCR8/Full",
		unix.ETHTOOL_LINK_MODE_100000baseKR_Full_BIT:          "100000baseKR/Full",
		unix.ETHTOOL_LINK_MODE_400000baseCR4_Full_BIT:         "400000baseCR4/Full",
		unix.ETHTOOL_LINK_MODE_100baseFX_Full_BIT:             "100baseFX/Full",
		unix.ETHTOOL_LINK_MODE_Autoneg_BIT:                    "-",
		unix.ETHTOOL_LINK_MODE_Backplane_BIT:                  "-",
		unix.ETHTOOL_LINK_MODE_FEC_LLRS_BIT:                   "-",
	}
	for bit, want := range bits {
		if got := ethModes[bit]; got != want {
			t.Errorf("bit %d is %q; want %q", bit, got, want)
		}
	}
	if last := unix.ETHTOOL_LINK_MODE_100baseFX_Full_BIT; len(ethModes) != last+1 {
		t.Errorf("%d modes; want %d", len(ethModes), last+1)
	}
	mask := binary.NativeEndian.AppendUint32(nil, 1<<6|1<<5|1<<31) // Autoneg is none of them
	if diff := cmp.Diff([]string{"1000baseT/Full", "25000baseCR/Full"}, linkModes(mask)); diff != "" {
		t.Errorf("modes of one word: -want +got\n%s", diff)
	}
	mask = append(mask, 0xff, 0xff) // half a word says nothing
	if got := len(linkModes(mask)); got != 2 {
		t.Errorf("%d modes; want 2", got)
	}
	if got := linkModes(nil); got != nil {
		t.Errorf("modes of nothing: %v", got)
	}
}
