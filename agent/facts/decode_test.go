package facts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const small = `{"v":1,"boot_id":"b","seq":1,"agent":{"version":"1"},"facts":%s}`

func checkIn(facts string) string { return fmt.Sprintf(small, facts) }

func state(state string) string {
	return fmt.Sprintf(`{"v":1,"boot_id":"b","seq":1,"agent":{"version":"1"},"state":%s}`, state)
}

// numbered repeats a text with the numbers from 1 to n.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i+1)
	}
	return b.String()
}

func TestDecodeCheckInReadsWhatAnAgentWrites(t *testing.T) {
	no, skew, node := false, int64(-1500), 1
	wear, cold, none := int64(103), int64(-7), int64(0)
	want := &CheckIn{
		V: Version, BootID: "0b6e6a7e", Seq: 3, Agent: Agent{Version: "1.0"},
		Facts: &Facts{
			Schema: Schema, Arch: "x86_64",
			System:     &System{Manufacturer: "Dell & Söhne <x>", UUID: "4c4c4544-0042-3510-8052-c1c04f4e3132"},
			Disks:      []Disk{{ID: "naa.5", Name: "sda", SizeBytes: 1 << 40, Rotational: &no, NUMANode: &node}},
			Optical:    []Optical{},
			OEMStrings: []string{},
			NICs:       []NIC{{Name: "eth0", MAC: "52:54:00:aa:00:01", PXE: true}},
			Custom:     map[string]string{"rack": "r12"},
		},
		State: &State{
			ClockSkewMS: &skew, Temps: []Temperature{{Sensor: "coretemp", Label: "Core 0", TempC: 41}},
			Disks: map[string]DiskHealth{"naa.5": {Health: HealthFailing, Warnings: []string{"spare", "read_only"}, WearPercent: &wear, TempC: &cold, MediaErrors: &none}},
		},
		Errors:   []ProbeError{{Collector: "tpm", Code: "timeout", Msg: "2s"}},
		TimingMS: map[string]int64{"cpu": 3},
	}
	sum, err := want.Facts.Hash()
	if err != nil {
		t.Fatal(err)
	}
	want.FactsHash = sum
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeCheckIn(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("DecodeCheckIn(%s) = %v", b, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("DecodeCheckIn: -want +got\n%s", diff)
	}
}

// T46, T47.
func TestDecodeCheckInNamesTheField(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"a string for a number", checkIn(`{"schema":1,"disks":[{},{},{},{"size_bytes":"12"}]}`), `facts.disks[3].size_bytes: want a number, got a string`},
		{"a number for a string", checkIn(`{"schema":1,"system":{"serial":7}}`), `facts.system.serial: want a string, got a number`},
		{"null for a fact that is not known", checkIn(`{"schema":1,"system":{"serial":null}}`), `facts.system.serial: want a string, got null`},
		{"null for a section", checkIn(`{"schema":1,"cpu":null}`), `facts.cpu: want an object, got null`},
		{"an array for an object", checkIn(`{"schema":1,"cpu":[]}`), `facts.cpu: want an object, got an array`},
		{"an object for an array", checkIn(`{"schema":1,"nics":{}}`), `facts.nics: want an array, got an object`},
		{"a string for a boolean", checkIn(`{"schema":1,"virt":{"is_virtual":"yes"}}`), `facts.virt.is_virtual: want a boolean, got a string`},
		{"a fraction", checkIn(`{"schema":1,"memory":{"total_bytes":1.5}}`), `facts.memory.total_bytes: want an integer of 64 bits, got "1.5"`},
		{"a number past 64 bits", checkIn(`{"schema":1,"memory":{"total_bytes":9223372036854775808}}`), `facts.memory.total_bytes: want an integer of 64 bits, got "9223372036854775808"`},
		{"an unknown field", checkIn(`{"schema":1,"disks":[{"colour":"red"}]}`), `facts.disks[0].colour: unknown field`},
		{"a field in another case", checkIn(`{"Schema":1}`), `facts.Schema: unknown field`},
		{"an unknown field with a hostile name", checkIn(`{"schema":1,"a\u001b[2J b":1}`), `facts."a\x1b[2J b": unknown field`},
		{"a duplicate field", checkIn(`{"schema":1,"schema":1}`), `facts.schema: duplicate field`},
		{"a duplicate field in other spelling", checkIn(`{"schema":1,"\u0073chema":1}`), `facts.schema: duplicate field`},
		{"a duplicate custom fact", checkIn(`{"schema":1,"custom":{"a":"1","a":"2"}}`), `facts.custom.a: duplicate field`},
		{"a list with too many items", checkIn(`{"schema":1,"pci":[` + strings.Repeat(`{},`, MaxItems) + `{}]}`), `facts.pci: want at most 4096 items`},
		{"a string too long", checkIn(`{"schema":1,"arch":"` + strings.Repeat("x", MaxString+1) + `"}`), `facts.arch: want at most 4096 bytes, got 4097`},
		{"a control character", checkIn(`{"schema":1,"system":{"serial":"a\nb"}}`), `facts.system.serial: control character at byte 1`},
		{"a line separator", checkIn(`{"schema":1,"system":{"serial":"a\u2028b"}}`), `facts.system.serial: control character at byte 1`},
		{"a control character in the name of a timing", `{"v":1,"boot_id":"b","seq":1,"agent":{"version":"1"},"timing_ms":{"a\u0007":1}}`, `timing_ms."a\a": control character at byte 1`},
		{"another schema", checkIn(`{"schema":2}`), `facts.schema: want 1, got 2`},
		{"another protocol", `{"v":9,"boot_id":"b","seq":1,"agent":{"version":"1"}}`, `v: want 1, got 9`},
		{"no boot id", `{"v":1,"seq":1,"agent":{"version":"1"}}`, `boot_id: missing`},
		{"a negative size", checkIn(`{"schema":1,"disks":[{"id":"a","name":"sda","size_bytes":-1}]}`), `facts.disks[0].size_bytes: want 0 or more, got -1`},
		{"a disk without id", checkIn(`{"schema":1,"disks":[{"id":"","name":"sda","size_bytes":1}]}`), `facts.disks[0].id: missing`},
		{"two disks of one id", checkIn(`{"schema":1,"disks":[{"id":"a","name":"sda","size_bytes":1,"dup":true},{"id":"a","name":"sdb","size_bytes":1}]}`), `facts.disks[1].id: "a" is the id of 2 disks and dup is not set`},
		{"a MAC in capitals", checkIn(`{"schema":1,"nics":[{"name":"e","mac":"52:54:00:AA:00:01"}]}`), `facts.nics[0].mac: want an address such as 52:54:00:aa:00:01, got "52:54:00:AA:00:01"`},
		{"a UUID with braces", checkIn(`{"schema":1,"system":{"uuid":"{4c}"}}`), `facts.system.uuid: want 8-4-4-4-12 lower case hexadecimal digits, got "{4c}"`},
		{"a custom fact with a dot", checkIn(`{"schema":1,"custom":{"a.b":"1"}}`), `facts.custom."a.b": want a name of [a-z][a-z0-9_]{0,62}`},
		{"a custom fact too long", checkIn(`{"schema":1,"custom":{"a":"` + strings.Repeat("x", 1025) + `"}}`), `facts.custom.a: want at most 1024 bytes, got 1025`},
		{"a disk that is unwell", state(`{"disks":{"naa.5":{"health":"unwell"}}}`), `state.disks."naa.5".health: want ok or failing, got "unwell"`},
		{"a temperature of no disk", state(`{"disks":{"a":{"temp_c":-273}}}`), `state.disks.a.temp_c: want -60 to 200, got -273`},
		{"a word that is none", state(`{"disks":{"a":{"warnings":["spare","\u0027"]}}}`), `state.disks.a.warnings[1]: unknown word "'"`},
		{"less than no hours", state(`{"disks":{"a":{"power_on_hours":-1}}}`), `state.disks.a.power_on_hours: want 0 to 9223372036854775807, got -1`},
		{"more spare than there is", state(`{"disks":{"a":{"spare_percent":101}}}`), `state.disks.a.spare_percent: want 0 to 100, got 101`},
		{"the health of no disk", state(`{"disks":{"":{}}}`), `state.disks: a disk without id`},
		{"the health of too many disks", state(`{"disks":{` + strings.TrimSuffix(numbered(`"%d":{},`, MaxStateDisks+1), ",") + `}}`), `state.disks: want at most 1024 disks, got 1025`},
		{"too many sensors", state(`{"temps":[` + strings.TrimSuffix(numbered(`{"sensor":"s%d","temp_c":1},`, MaxTemps+1), ",") + `]}`), `state.temps: want at most 256 sensors, got 257`},
		{"a molten sensor", state(`{"temps":[{"sensor":"s","temp_c":40},{"sensor":"s","temp_c":201}]}`), `state.temps[1].temp_c: want -60 to 200, got 201`},
		{"an id with an escape", state(`{"disks":{"a\u001b":{}}}`), `state.disks."a\x1b": control character at byte 1`},
		{"a clock before the epoch", state(`{"rtc_epoch_s":-1}`), `state.rtc_epoch_s: want 0 or more, got -1`},
		{"a hash of other facts", `{"v":1,"boot_id":"b","seq":1,"agent":{"version":"1"},"facts_hash":"` + strings.Repeat("0", 64) + `","facts":{"schema":1}}`, `facts_hash: got ` + strings.Repeat("0", 64) + `, the facts have 67d6291b301412df4a6ca7808aeafac9d0587b06ece3c68e72bab0157cd9d52c`},
		{"a second document", checkIn(`{"schema":1}`) + `{}`, `byte 75: invalid character '{' after top-level value`},
		{"a document cut short", `{"v":1`, `byte 6: unexpected end of JSON input`},
		{"a document that is no object", `[]`, `want an object, got an array`},
		{"nothing", ``, `byte 0: unexpected end of JSON input`},
		{"NaN", checkIn(`{"schema":NaN}`), `byte 72: invalid character 'N' looking for beginning of value`},
		{"bytes that are not UTF-8", checkIn("{\"schema\":1,\"arch\":\"\xff\"}"), `want UTF-8`},
		{"33 levels", strings.Repeat(`[`, 33) + strings.Repeat(`]`, 33), `want at most 32 nested levels`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeCheckIn(strings.NewReader(tt.body))
			var field *FieldError
			if !errors.As(err, &field) || err.Error() != tt.want {
				t.Errorf("DecodeCheckIn(%.200s) =\n %v; want\n %v", tt.body, err, tt.want)
			}
		})
	}
}

func TestDecodeRefusesALargeBody(t *testing.T) {
	whole := checkIn(`{"schema":1}`)
	fits := whole + strings.Repeat(" ", MaxBody-len(whole))
	if _, err := DecodeCheckIn(strings.NewReader(fits)); err != nil {
		t.Errorf("DecodeCheckIn(1 MiB) = %v; want nil", err)
	}
	if _, err := DecodeCheckIn(strings.NewReader(fits + " ")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("DecodeCheckIn(1 MiB + 1) = %v; want %v", err, ErrTooLarge)
	}
}

func TestDecodeReport(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"progress", `{"order":7,"status":"progress","done_bytes":10,"all_bytes":20,"timing_ms":{"write":1}}`, ``},
		{"an unknown status", `{"order":7,"status":"bored"}`, `status: unknown status "bored"`},
		{"no order", `{"status":"done"}`, `order: want 1 or more`},
		{"less than nothing done", `{"order":7,"status":"done","done_bytes":-1}`, `done_bytes: want 0 or more`},
		{"a message of two lines", `{"order":7,"status":"failed","message":"a\nb"}`, `message: control character at byte 1`},
		{"an unknown field", `{"order":7,"status":"done","why":""}`, `why: unknown field`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if _, err := DecodeReport(strings.NewReader(tt.body)); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("DecodeReport(%s) = %q; want %q", tt.body, got, tt.want)
			}
		})
	}
}

// FuzzDecodeCheckIn (Z11): what is accepted is also accepted by encoding/json with equal values, survives a round
// trip, and has facts that can be hashed and listed.
func FuzzDecodeCheckIn(f *testing.F) {
	for _, seed := range []string{
		checkIn(`{"schema":1,"disks":[{"id":"a","name":"sda","size_bytes":1}],"optical":[]}`),
		checkIn(`{"schema":1,"custom":{"a":"1"},"nics":[{"name":"e","mac":"52:54:00:aa:00:01","link":false}]}`),
		checkIn(`{"schema":1e0}`), checkIn(`{"schema":-0}`), checkIn(`{"schema":1,"arch":"\ud800"}`),
		state(`{"disks":{"naa.5":{"health":"ok","temp_c":-1,"warnings":["spare"]}},"temps":[{"sensor":"s","temp_c":1}]}`),
		`{"v":1,"v":2}`, `{"v":null}`, `[[[[`, `{"":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := DecodeCheckIn(bytes.NewReader(body))
		if err != nil {
			return
		}
		var second CheckIn
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&second); err != nil {
			t.Fatalf("accepted %q, but encoding/json says %v", body, err)
		}
		if diff := cmp.Diff(&second, got); diff != "" {
			t.Fatalf("decode %q: -encoding/json +ours\n%s", body, diff)
		}
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeCheckIn(bytes.NewReader(b)); err != nil {
			t.Fatalf("decode own encoding %s: %v", b, err)
		}
		if got.Facts != nil {
			if _, err := got.Facts.HardwareHash(); err != nil {
				t.Fatal(err)
			}
			got.Facts.Dotted()
		}
	})
}
