package lab

import "testing"

// The images are made by Debian's tools, in a directory of any name, and again over what an earlier run left.
func TestPlantedDisksAreMade(t *testing.T) {
	for _, need := range plantedPrograms {
		if !installed(need.path)() {
			t.Skip(missingNeed(need))
		}
	}
	dir := t.TempDir()
	for range 2 {
		if err := makePlantedDisks(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
}
