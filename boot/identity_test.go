package boot

import "testing"

// TestParseMAC has the forms of N4 and facts 5.2.
func TestParseMAC(t *testing.T) {
	for _, s := range []string{"52:54:00:AA:00:01", "52-54-00-aa-00-01", "525400aa0001", "5254.00aa.0001", "01-52-54-00-aa-00-01", "01:52:54:00:aa:00:01", " 52:54:00:aa:00:01\n"} {
		m, err := ParseMAC(s)
		if err != nil || m.String() != "52:54:00:aa:00:01" || m.Dashes() != "52-54-00-aa-00-01" {
			t.Errorf("ParseMAC(%q) = %s, %v; want 52:54:00:aa:00:01", s, m, err)
		}
	}
	for _, s := range []string{"", "52:54:00:aa:00", "52:54:00:aa:00:01:02:03", "02-52-54-00-aa-00-01", "52:54:00:aa:00:0g", "0x525400aa0001", "52/54/00/aa/00/01", "52:54:00:aa:00:0\x00"} {
		if m, err := ParseMAC(s); err == nil {
			t.Errorf("ParseMAC(%q) = %s; want an error", s, m)
		}
	}
	if m, err := ParseMAC("01:00:5e:00:00:01"); err != nil || m.String() != "01:00:5e:00:00:01" {
		t.Errorf("six bytes with 01 in front are a MAC: %s, %v", m, err)
	}
}

// TestParseUUID has the golden of N3 and Z29: the order on the wire and the logical one.
func TestParseUUID(t *testing.T) {
	const wire, logical = "c9d8b4f7-e8cc-8c41-8b52-8a6f124e8655", "f7b4d8c9-cce8-418c-8b52-8a6f124e8655"
	for _, s := range []string{logical, "F7B4D8C9-CCE8-418C-8B52-8A6F124E8655", "{f7b4d8c9-cce8-418c-8b52-8a6f124e8655}", "f7b4d8c9cce8418c8b528a6f124e8655", " f7b4d8c9-cce8-418c-8b52-8a6f124e8655\n"} {
		u, err := ParseUUID(s)
		if err != nil || u.String() != logical {
			t.Errorf("ParseUUID(%q) = %s, %v; want %s", s, u, err, logical)
		}
		if got := u.Swapped().String(); got != wire {
			t.Errorf("Swapped = %s; want %s", got, wire)
		}
	}
	dell, err := ParseUUID("{4C4C4544-0042-3510-8052-C1C04F4E3132}")
	if err != nil || dell.String() != "4c4c4544-0042-3510-8052-c1c04f4e3132" || dell.Swapped().String() != "44454c4c-4200-1035-8052-c1c04f4e3132" {
		t.Errorf("the golden of facts 5.2: %s, %s, %v", dell, dell.Swapped(), err)
	}
	for _, s := range []string{"", "f7b4d8c9-cce8-418c-8b52-8a6f124e865", "f7b4d8c9-cce8-418c-8b52-8a6f124e86555", "g7b4d8c9-cce8-418c-8b52-8a6f124e8655", "Not Settable"} {
		if u, err := ParseUUID(s); err == nil {
			t.Errorf("ParseUUID(%q) = %s; want an error", s, u)
		}
	}
}

func TestZeroIdsSayThatTheyAreNone(t *testing.T) {
	if !(MAC{}).IsZero() || (MAC{5: 1}).IsZero() || !(UUID{}).IsZero() || (UUID{15: 1}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

// FuzzParseMAC and FuzzParseUUID (Z29): what is read has one form, which reads back the same.
func FuzzParseMAC(f *testing.F) {
	f.Add("01-52-54-00-aa-00-01")
	f.Add("5254.00aa.0001")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		if err != nil {
			return
		}
		for _, form := range []string{m.String(), m.Dashes(), "01-" + m.Dashes()} {
			if again, err := ParseMAC(form); err != nil || again != m {
				t.Fatalf("ParseMAC(%q) = %s, but its form %q reads as %s, %v", s, m, form, again, err)
			}
		}
	})
}

func FuzzParseUUID(f *testing.F) {
	f.Add("{4C4C4544-0042-3510-8052-C1C04F4E3132}")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUUID(s)
		if err != nil {
			return
		}
		if again, err := ParseUUID(u.String()); err != nil || again != u || u.Swapped().Swapped() != u {
			t.Fatalf("ParseUUID(%q) = %s, which reads back as %s, %v", s, u, again, err)
		}
	})
}
