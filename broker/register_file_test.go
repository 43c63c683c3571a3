package broker

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRazorIdentity holds hw_info against what razor-server 1.9.9 makes of it.
func TestRazorIdentity(t *testing.T) {
	data, err := os.ReadFile("testdata/razor-hwinfo.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	var head struct{ Count int }
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &head) != nil {
		t.Fatal("no head")
	}
	seen := 0
	for ; lines.Scan(); seen++ {
		var v struct {
			ID, Note  string
			HWInfo    map[string]any `json:"hw_info"`
			Canonical []string
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, id := range razorIDs(v.HWInfo) {
			got = append(got, id.key+"="+id.value)
		}
		if diff := cmp.Diff(v.Canonical, got); diff != "" {
			t.Errorf("%s, %s (-want +got):\n%s", v.ID, v.Note, diff)
		}
	}
	if seen != head.Count || seen != 12 {
		t.Errorf("%d vectors; the file says %d", seen, head.Count)
	}
}

// machineFiles are what people have of machines, and what is read of it.
var machineFiles = []struct {
	name, text string
	want       []Registration
	warnings   []string
}{
	{"JSON lines", `{"mac":"52:54:00:aa:00:01","hostname":"r12n01","meta":{"rack":"r12"},"pin":"web"}
{"macs":["52:54:00:aa:00:02","52:54:00:aa:00:03"],"installed":true}
`, []Registration{{MACs: []string{"52:54:00:aa:00:01"}, Hostname: "r12n01", Meta: map[string]any{"rack": "r12"}, Pin: "web"},
		{MACs: []string{"52:54:00:aa:00:02", "52:54:00:aa:00:03"}, Installed: true}}, nil},
	{"YAML documents and a list", "mac: 52:54:00:12:34:56\nserial: SN1\n---\n# nothing\n---\n- {mac: 10:20:30:40:50:10}\n- uuid: 4c4c4544-0042-3510-8052-c1c04f4e3132\n  protected: false\n",
		[]Registration{{MACs: []string{"52:54:00:12:34:56"}, Serial: "SN1"}, {MACs: []string{"10:20:30:40:50:10"}}, {UUID: "4c4c4544-0042-3510-8052-c1c04f4e3132", Protected: new(bool)}}, nil},
	{"what POST /api/v1/nodes takes", `{"nodes": [{"serial": "SN1", "manufacturer": "ACME"}]}`, []Registration{{Serial: "SN1", Manufacturer: "ACME"}}, nil},
	{"a node of Razor", `{"spec":"http://api.puppetlabs.com/razor/v1/collections/nodes/member","id":"http://razor:8150/api/collections/nodes/node17","name":"node17",
 "hw_info":{"mac":["52-54-00-aa-00-01"],"serial":"vmware-56 4d-aa","uuid":"4C4C4544-0042-3510-8052-C1C04F4E3132","asset":"A-1177","fact_boot_type":"efi"},
 "dhcp_mac":"52-54-00-aa-00-02","log":{"id":"http://razor:8150/api/collections/nodes/node17/log","name":"log"},"tags":[{"name":"big"}],"policy":{"name":"db"},
 "facts":{"manufacturer":"VMware, Inc.","uptime":"1"},"metadata":{"owner":"dba","nics":[1,2],"net":{"vlan":7}},
 "state":{"installed":"db","installed_at":"2015-06-01T00:00:00Z"},"hostname":"DB17.example.net","root_password":"secret","last_checkin":"2015-06-01T00:00:00Z"}`,
		[]Registration{{MACs: []string{"52:54:00:aa:00:01", "52:54:00:aa:00:02"}, UUID: "4c4c4544-0042-3510-8052-c1c04f4e3132", Serial: "vmware-56 4d-aa", Manufacturer: "VMware, Inc.",
			Hostname: "db17.example.net", Installed: "db", Meta: map[string]any{"owner": "dba", "nics": []any{json.Number("1"), json.Number("2")}, "net": `{"vlan":7}`,
				"asset": "A-1177", "fact_boot_type": "efi", "razor_node": "node17", "razor_policy": "db"}}},
		[]string{`"facts" is not taken (line 1)`, `"id" is not taken (line 1)`, `"last_checkin" is not taken (line 1)`, `"log" is not taken (line 1)`, `"root_password" is not taken (line 1)`,
			`"spec" is not taken (line 1)`, `"tags" is not taken (line 1)`, `metadata "net" is no plain value, and is kept as the text of its JSON (line 1)`}},
	{"register-node of Razor", `{"hw_info":{"net0":"78:31:c1:be:c8:00","net1":"02:00:00:00:00:00","serial":"To Be Filled By O.E.M.","uuid":"u","colour":"red"},"installed":true}
{"hw_info":{"net0":"78:31:c1:be:c8:01","serial":"To Be Filled By O.E.M."},"installed":"+protected"}
`, []Registration{{MACs: []string{"78:31:c1:be:c8:00"}, Installed: true, Meta: map[string]any{}}, {MACs: []string{"78:31:c1:be:c8:01"}, Meta: map[string]any{}}},
		[]string{`"colour" of hw_info is not taken, as Razor does not take it (line 1)`, `MAC "02:00:00:00:00:00" tells no machine from another, and is not taken (line 1)`, `UUID "u" tells no machine from another, and is not taken (line 1)`,
			`serial "To Be Filled By O.E.M." tells no machine from another, and is not taken (line 1 and 1 more)`}},
	{"a list of Razor's API", `{"spec":"http://api.puppetlabs.com/razor/v1/collections/nodes","items":[{"name":"node1","hw_info":{"mac":["52-54-00-aa-00-01"]}}],"total":1}`,
		[]Registration{{MACs: []string{"52:54:00:aa:00:01"}, Meta: map[string]any{"razor_node": "node1"}}}, nil},
	{"a system of Cobbler", `{"name":"web_1","hostname":"","profile":"rocky9-x86_64","interfaces":{"eth0":{"mac_address":"52:54:00:AA:00:01","interface_type":"na"},
 "ipmi":{"mac_address":"52:54:00:aa:00:09","interface_type":"bmc"},"bond0":{"mac_address":"","interface_type":"bond"}},"netboot_enabled":true,"gateway":"","kernel_options":{},"comment":"of rack 12","owners":"<<inherit>>"}`,
		[]Registration{{MACs: []string{"52:54:00:aa:00:01"}, Meta: map[string]any{"cobbler_system": "web_1", "profile": "rocky9-x86_64", "comment": "of rack 12"}}},
		[]string{`"netboot_enabled" is not taken (line 1)`, `"web_1" is no host name (RFC 1123), and it is not taken as one (line 1)`, `interface "ipmi" is a BMC, and its MAC is not taken (line 1)`}},
}

func TestFilesOfMachines(t *testing.T) {
	for _, tt := range machineFiles {
		t.Run(tt.name, func(t *testing.T) {
			f, err := ParseRegistrations([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.Nodes); diff != "" {
				t.Errorf("machines (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.warnings, f.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFilesThatAreNoMachines(t *testing.T) {
	for text, want := range map[string]string{
		"":                  "there is no machine in it",
		"--- \n# nothing\n": "there is no machine in it",
		"[]":                "there is no machine in it",
		`{"nodes":[]}`:      "there is no machine in it",
		"{\"mac\":\"52:54:00:aa:00:01\"}\n\n{\"mac\":\"x\"}\n": `line 3: macs[0]: parse MAC "x"`,
		"{\"mac\":\"52:54:00:aa:00:01\"}\n{\"mac\":\n\n":       "line 1 or later: ",
		`[{"mac":"52:54:00:aa:00:01"},{"macs":[]}]`:            "line 1, item 2: want a MAC",
		`[1]`:                               "line 1, item 1: want an object",
		"null":                              "there is no machine in it",
		"52:54:00:aa:00:01\n":               "document 1: want an object",
		"mac: 52:54:00:aa:00:01\ncolour: x": `document 1: unknown field "colour"`,
		"serial: 1234567\n":                 "document 1: field serial: want string, not number",
		`{"Serial":"SN1"}`:                  `line 1: unknown field "Serial": fields are written in lower case`,
		"a: &x 1\nb: *x\n":                  "line 1: YAML anchors",
		`{"mac":["52:54:00:aa:00:01"]}`:     "line 1: field mac: want string; several are macs",
		`{"hw_info":{}}`:                    "line 1: want a MAC",
		`{"hw_info":[]}`:                    "line 1: a node of Razor: ",
		`{"interfaces":1}`:                  "line 1: a system of Cobbler: ",
		`{"mac":"52:54:00:aa:00:01","installed":7}`: "line 1: installed: want true",
	} {
		if f, err := ParseRegistrations([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %s", text, f, err, want)
		}
	}
	for _, text := range []string{"mac: 52:54:00:aa:00:01\n#" + strings.Repeat("x", MaxDocumentBytes), strings.Repeat(" ", MaxRegistrationBytes) + "[]"} {
		if _, err := ParseRegistrations([]byte(text)); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
}

// FuzzRegistrations: whatever a file says, what is read of it is what Register takes, and has a place.
func FuzzRegistrations(f *testing.F) {
	for _, tt := range machineFiles {
		f.Add([]byte(tt.text))
	}
	f.Add([]byte("{\"hw_info\":{\"net0\":[null,[],{\"a\":1e400}],\"facts\":{\"\":7}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseRegistrations(data)
		if err != nil {
			return
		}
		if len(file.Nodes) == 0 || len(file.Nodes) != len(file.Places) || len(file.Warnings) > maxUntaken+1 {
			t.Fatalf("%d machines, %d places, %d warnings", len(file.Nodes), len(file.Places), len(file.Warnings))
		}
		for i, r := range file.Nodes {
			raw, err := json.Marshal(r)
			if err != nil {
				t.Fatalf("%s can not be sent: %v", file.Places[i], err)
			}
			var sent Registration
			if err := json.Unmarshal(raw, &sent); err != nil {
				t.Fatal(err)
			}
			if _, err := check(sent, "nodes[0]"); err != nil {
				t.Errorf("%s is refused by the server: %v", file.Places[i], err)
			}
		}
	})
}
