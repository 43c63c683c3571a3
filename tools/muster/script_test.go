package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"muster/agent/facts"
	"muster/boot/pin"
	"muster/boot/pin/pintest"
	"muster/tools/storm"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"muster": main})
}

// TestLife runs the life stories: each file under testdata/life is the life of a node, told to the real program over
// real HTTP and HTTPS.
func TestLife(t *testing.T) {
	files := chains(t)
	files["ramdisk/vmlinuz"] = bzImage("6.1.0-56-amd64", true)
	files["ramdisk/ramdisk.cpio.gz"] = []byte("not much of a ramdisk")
	files["old/vmlinuz"] = bzImage("6.1.0-55-amd64", true)
	files["arm/vmlinuz"] = append(append(make([]byte, 0x38), "ARM\x64"...), "Linux version 6.1.0-56-arm64 (x)"+strings.Repeat("\x00", 100)...)
	files["code.pem"], files["code.key"] = codeSigner(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/life",
		Setup: func(env *testscript.Env) error {
			for name, content := range files {
				path := filepath.Join(env.WorkDir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": serveCmd, "kill9": kill9Cmd, "boot": bootCmd, "walk": walkCmd, "checkin": checkinCmd, "post": postCmd,
			"order": orderCmd, "report": reportCmd, "stage": stageCmd, "handoff": handoffCmd, "image": imageCmd, "load": loadCmd, "agent": agentCmd,
			"as": asCmd, "asroot": asrootCmd,
		},
	})
}

// chains are what an operator's own CA has issued for this host, and its keys: one chain that ends in a year, one under
// the same CA that ends in ten days, and one under another CA.
func chains(t *testing.T) map[string][]byte {
	ca, other := pintest.New(t, "the operator's"), pintest.New(t, "another")
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().AddDate(0, 0, 10) }
	files := map[string][]byte{}
	files["year.pem"], files["year.key"] = pintest.PEM(t, ca.Leaf(t, nil, "127.0.0.1"))
	files["soon.pem"], files["soon.key"] = pintest.PEM(t, ca.Leaf(t, soon, "127.0.0.1"))
	files["other.pem"], files["other.key"] = pintest.PEM(t, other.Leaf(t, nil, "127.0.0.1"))
	return files
}

// bzImage is what of an x86 kernel image tells its release (Documentation/arch/x86/boot.rst).
func bzImage(release string, wide bool) []byte {
	b := make([]byte, 0x400)
	copy(b[0x1fe:], "\x55\xaaxxHdrS\x0f\x02")
	copy(b[0x20e:], "\x00\x01")
	if wide {
		b[0x236] = 1
	}
	copy(b[0x300:], release+" (build@host) #1 SMP")
	return b
}

// codeSigner is a certificate for signing code and its key, in PEM.
func codeSigner(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "who signs ramdisks"}, NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
}

// serve starts muster serve on loopback, with a ramdisk, without DHCP and TFTP, and waits until it serves.
func serveCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("serve can not be negated")
	}
	path, err := exec.LookPath("muster")
	if p := filepath.Join(strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator))[0], "muster"); err != nil {
		path = p
	}
	// A port of its own at every start: that of a server that was killed may be another program's by now.
	all := append([]string{"serve", "--data", ts.MkAbs("data"), "--http", "127.0.0.1:0", "--https", "127.0.0.1:0", "--tftp", "off",
		"--ramdisk", ts.MkAbs("ramdisk")}, args...)
	cmd := exec.Command(path, all...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "TESTSCRIPT_COMMAND=muster")
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	log, err := os.OpenFile(ts.MkAbs("serve.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	cmd.Stderr = log
	ts.Check(cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Process.Wait(); close(ended) }()
	ts.Defer(func() { cmd.Process.Kill(); <-ended; out.Close(); log.Close() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if token, ok := strings.CutPrefix(lines.Text(), "operator token (shown only now): "); ok {
			ts.Setenv("OPERATOR", token)
		}
		if _, ca, ok := strings.Cut(lines.Text(), ": "); ok && strings.HasPrefix(lines.Text(), "MUSTER_CA of ") {
			ts.Setenv("CA", ca)
		}
		if m := regexp.MustCompile(`serves (http://\S+), agents (\S+),`).FindStringSubmatch(lines.Text()); m != nil {
			ts.Setenv("URL", m[1])
			ts.Setenv("AGENTS", m[2])
			ts.Setenv("MUSTER_SERVER", "unix:"+ts.MkAbs("data/muster.sock"))
			ts.Setenv("SERVE_PID", fmt.Sprint(cmd.Process.Pid))
			go io.Copy(io.Discard, out)
			return
		}
	}
	raw, _ := os.ReadFile(ts.MkAbs("serve.log"))
	ts.Fatalf("muster serve did not start: %s", raw)
}

// as calls from now on over HTTPS with the token that muster token create wrote into a file: as FILE.
func asCmd(ts *testscript.TestScript, _ bool, args []string) {
	_, token, _ := strings.Cut(ts.ReadFile(args[0]), "MUSTER_TOKEN=")
	ts.Setenv("MUSTER_TOKEN", strings.TrimSpace(token))
	ts.Setenv("MUSTER_SERVER", ts.Getenv("AGENTS"))
	ts.Setenv("MUSTER_CA", ts.Getenv("CA"))
}

// asroot calls by the socket again.
func asrootCmd(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("MUSTER_TOKEN", "")
	ts.Setenv("MUSTER_SERVER", "unix:"+ts.MkAbs("data/muster.sock"))
}

// kill9 ends the server as a power cut would.
func kill9Cmd(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("sh", "-c", "kill -9 $0; while kill -0 $0 2>/dev/null; do sleep 0.05; done", ts.Getenv("SERVE_PID")))
}

// boot asks for the script of a machine as its loader would: boot mac=M [uuid=U] [platform=efi] [dialect=grub].
func bootCmd(ts *testscript.TestScript, neg bool, args []string) {
	q := url.Values{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		q.Set(k, v)
	}
	path := "/boot/ipxe?" + q.Encode()
	if q.Get("dialect") == "grub" {
		path = "/muster/grub/" + q.Get("mac") + "/grub.cfg"
	}
	code, body := call(ts, http.MethodGet, path, "", "", nil)
	answer(ts, neg, code, body)
	if m := regexp.MustCompile(`muster\.token=([^ ']+)`).FindStringSubmatch(body); m != nil {
		ts.Setenv("TOKEN", m[1])
	}
}

// walk follows a machine's script as its iPXE does, up to what it starts: walk mac=M arch=uefi. A line tells a file that it
// fetched, with the sum of what came.
func walkCmd(ts *testscript.TestScript, neg bool, args []string) {
	q := url.Values{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		q.Set(k, v)
	}
	m := storm.Machine{}
	var ok bool
	if m.Profile, ok = storm.ProfileNamed(q.Get("arch")); !ok {
		ts.Fatalf("there is no firmware %q", q.Get("arch"))
	}
	if m.Profile.Arch.EFI() {
		q.Set("platform", "efi")
	}
	q.Del("arch")
	b := m.Follow(context.Background(), ts.Getenv("URL")+"/boot/ipxe?"+q.Encode())
	for _, r := range b.Requests {
		fmt.Fprintf(ts.Stdout(), "%s: %s %s\n", r.Asked, r.Answer, r.SHA256)
	}
	fmt.Fprintf(ts.Stdout(), "%s: %s\n%s\n", b.End, b.Why, strings.Join(b.Screen, "\n"))
	if neg == (b.End == storm.EndKernel) {
		ts.Fatalf("the machine ends with %s: %s", b.End, b.Why)
	}
}

// checkin posts facts as the agent with boot key KEY: checkin FILE [token=T] [state=FILE].
func checkinCmd(ts *testscript.TestScript, neg bool, args []string) {
	in := facts.CheckIn{V: 1, Token: ts.Getenv("TOKEN"), BootID: "b1", Seq: 1, Agent: facts.Agent{Version: "test"}}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &in.Facts))
	for _, a := range args[1:] {
		if t, ok := strings.CutPrefix(a, "token="); ok {
			in.Token = t
		}
		if file, ok := strings.CutPrefix(a, "state="); ok {
			ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &in.State))
		}
	}
	raw, err := json.Marshal(in)
	ts.Check(err)
	code, body := call(ts, http.MethodPost, "/node/v1/checkin", ts.Getenv("KEY"), "application/json", raw)
	answer(ts, neg, code, body)
	var reply facts.CheckInReply
	if code == http.StatusOK {
		ts.Check(json.Unmarshal([]byte(body), &reply))
		remember(ts, reply.Order)
	}
}

// post sends a file as it is: post PATH FILE.
func postCmd(ts *testscript.TestScript, neg bool, args []string) {
	code, body := call(ts, http.MethodPost, args[0], ts.Getenv("KEY"), "application/json", []byte(ts.ReadFile(args[1])))
	answer(ts, neg, code, body)
}

// order waits for an order with an id over the given one.
func orderCmd(ts *testscript.TestScript, neg bool, args []string) {
	code, body := call(ts, http.MethodGet, "/node/v1/order?after="+args[0], ts.Getenv("KEY"), "", nil)
	answer(ts, neg, code, body)
	var o facts.Order
	if code == http.StatusOK {
		ts.Check(json.Unmarshal([]byte(body), &o))
		remember(ts, o)
	}
}

func remember(ts *testscript.TestScript, o facts.Order) {
	ts.Setenv("ORDER", fmt.Sprint(o.ID))
	if o.Image == nil {
		return
	}
	ts.Setenv("IMAGE", o.Image.Path)
	for _, f := range o.Image.Files {
		if f.Path == "/etc/muster/token" {
			ts.Setenv("STAGETOKEN", strings.TrimSpace(f.Content))
		}
	}
}

// report tells how the order goes: report STATUS [MESSAGE].
func reportCmd(ts *testscript.TestScript, neg bool, args []string) {
	r := map[string]any{"order": json.Number(ts.Getenv("ORDER")), "status": args[0]}
	if len(args) > 1 {
		r["message"] = args[1]
	}
	raw, err := json.Marshal(r)
	ts.Check(err)
	code, body := call(ts, http.MethodPost, "/node/v1/report", ts.Getenv("KEY"), "application/json", raw)
	answer(ts, neg, code, body)
}

// stage calls as the installed system does: stage NAME [TOKEN].
func stageCmd(ts *testscript.TestScript, neg bool, args []string) {
	token := ts.Getenv("STAGETOKEN")
	if len(args) > 1 {
		token = args[1]
	}
	code, body := call(ts, http.MethodPost, "/node/v1/stage/"+args[0], token, "application/x-www-form-urlencoded", []byte("hostname=osd001"))
	answer(ts, neg, code, body)
}

// handoff fetches what takes over, or with a form tells how it ended: handoff [status=0 [log=TEXT]].
func handoffCmd(ts *testscript.TestScript, neg bool, args []string) {
	method := http.MethodGet
	if len(args) > 0 {
		method = http.MethodPost
	}
	code, body := call(ts, method, "/node/v1/handoff/first-boot", ts.Getenv("STAGETOKEN"), "application/x-www-form-urlencoded", []byte(strings.Join(args, "&")))
	answer(ts, neg, code, body)
}

// load fetches what a boot script names, as the machine that was given it does: load SCRIPT.
func loadCmd(ts *testscript.TestScript, neg bool, args []string) {
	for _, m := range regexp.MustCompile(`https?://[^/]+(/boot/f/\S+)`).FindAllStringSubmatch(ts.ReadFile(args[0]), -1) {
		code, body := call(ts, http.MethodGet, m[1], "", "", nil)
		answer(ts, neg, code, body)
	}
}

// image fetches the image of the order.
func imageCmd(ts *testscript.TestScript, neg bool, _ []string) {
	code, body := call(ts, http.MethodGet, ts.Getenv("IMAGE"), ts.Getenv("KEY"), "", nil)
	answer(ts, neg, code, body)
}

func call(ts *testscript.TestScript, method, path, bearer, contentType string, body []byte) (int, string) {
	base, client := ts.Getenv("URL"), &http.Client{} // without a limit: the server ends every wait
	if strings.HasPrefix(path, "/node/") {
		base = ts.Getenv("AGENTS")
	}
	if strings.HasPrefix(base, "https:") {
		ca, err := pin.Parse(ts.Getenv("CA"))
		ts.Check(err)
		client.Transport = &http.Transport{TLSClientConfig: ca.Config("127.0.0.1", pin.Now), DisableKeepAlives: true}
	}
	req, err := http.NewRequest(method, base+path, bytes.NewReader(body))
	ts.Check(err)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.StatusCode, string(raw)
}

// answer writes status and body where the script's stdout looks, and fails when the status is not what was meant.
func answer(ts *testscript.TestScript, neg bool, code int, body string) {
	fmt.Fprintf(ts.Stdout(), "%d\n%s", code, body)
	if good := code < 300; good == neg {
		ts.Fatalf("answered %d: %s", code, body)
	}
}
