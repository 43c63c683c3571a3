package lab

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"muster/tools/lab/peers"
)

// notFacts are items that the planted machine has and muster's facts, which PlantedValues speaks of, do not.
var notFacts = []string{
	"pci 0000:00:07.0: name on the board",                             // SMBIOS type 41 of a device that is no NIC
	"disk hdd: health", "disk nvme: health", "disk nvme: temperature", // state, not facts
	"pci 0000:00:01.0: driver", "pci 0000:00:06.0: driver", // the ramdisk has no driver for displays, Debian does
}

// What the tools are judged by is what is planted: one table can not change without the other.
func TestEveryItemIsPlanted(t *testing.T) {
	planted := map[string]bool{}
	for _, v := range PlantedValues(BIOS) {
		for _, word := range plantedWords(v) {
			planted[strings.ToLower(word)] = true
		}
	}
	for _, it := range peers.Items {
		name := it.Group + ": " + it.Name
		is := slices.ContainsFunc(it.Want, func(w string) bool { return planted[strings.ToLower(w)] })
		if except := slices.Contains(notFacts, name); is == except {
			t.Errorf("%s: planted %v, an exception %v: accepted is %q", name, is, except, it.Want)
		}
	}
}

// plantedWords are the values of a fact, and what its path asks for.
func plantedWords(v PlantedValue) []string {
	words := strings.FieldsFunc(v.Path, func(r rune) bool { return strings.ContainsRune("[]=", r) })
	switch want := reflect.ValueOf(v.Want); {
	case v.Want == nil:
	case want.Kind() == reflect.Slice:
		for i := range want.Len() {
			words = append(words, fmt.Sprint(want.Index(i)))
		}
	default:
		words = append(words, fmt.Sprint(v.Want))
		words = append(words, strings.Fields(fmt.Sprint(v.Want))...)
		words = append(words, strings.SplitAfter(fmt.Sprint(v.Want), "=")...)
	}
	return words
}
