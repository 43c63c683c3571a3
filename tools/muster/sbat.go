package main

import (
	"debug/pe"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// An sbat is what a signed loader says of its parts: their generation, which a machine compares with the least that it
// still starts, and their version (rhboot/shim SBAT.md).
type sbat map[string]struct {
	generation int
	version    string
}

// sbatLevels are the least generations of shim 16.1's newest level, 2025021800: what machines will soon insist on.
var sbatLevels = map[string]int{"shim": 4, "grub": 5}

// readSBAT reads the section .sbat of an EFI program; errNoSBAT when there is none.
func readSBAT(r io.ReaderAt) (sbat, error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("read EFI program: %w", err)
	}
	section := f.Section(".sbat")
	const most = 64 << 10
	if section == nil || section.Size > most {
		return nil, errNoSBAT
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read section .sbat: %w", err)
	}
	lines := csv.NewReader(strings.NewReader(strings.TrimRight(string(data), "\x00")))
	lines.FieldsPerRecord = -1
	rows, err := lines.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read section .sbat: %w", err)
	}
	s := sbat{}
	for _, row := range rows {
		if len(row) < 5 {
			continue
		}
		n, err := strconv.Atoi(row[1])
		if err != nil {
			return nil, fmt.Errorf("read section .sbat: generation %q of %s", row[1], row[0])
		}
		part := s[row[0]]
		part.generation, part.version = n, row[4]
		s[row[0]] = part
	}
	return s, nil
}

var errNoSBAT = errors.New("no section .sbat: machines with Secure Boot on do not start it")

// old names the parts below a level, with both numbers.
func (s sbat) old(levels map[string]int) []string {
	var list []string
	for _, part := range []string{"shim", "grub"} {
		if have, ok := s[part]; ok && have.generation < levels[part] {
			list = append(list, fmt.Sprintf("%s is generation %d, newer machines want %d", part, have.generation, levels[part]))
		}
	}
	return list
}

// String gives the parts that levels are for.
func (s sbat) String() string {
	var list []string
	for _, part := range []string{"shim", "grub"} {
		if have, ok := s[part]; ok {
			list = append(list, fmt.Sprintf("%s %s, generation %d", part, have.version, have.generation))
		}
	}
	return strings.Join(list, "; ")
}
