package storm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// ipxe is the program: DHCP again under its own name, then the script it is told.
func (s *session) ipxe() ending {
	s.log.Loader = "ipxe"
	if s.m.Profile.Autoexec {
		if body, err := s.fetch(s.dir + "autoexec.ipxe"); err == nil && strings.HasPrefix(string(body), "#!ipxe") {
			return s.script(string(body))
		}
	}
	file, end := s.ask(s.m.Profile.ipxeOptions())
	if end.kind != "" {
		return end
	}
	return s.chain(file)
}

// chain loads a script or program and starts it.
func (s *session) chain(name string) ending {
	if s.repeated(name) {
		return ending{EndAgain, "it asks for " + name + " again"}
	}
	if s.chains++; s.chains > maxChains {
		return stuck("%d programs were loaded one after the other: a loader loop", maxChains)
	}
	body, err := s.fetch(name)
	if err != nil {
		return ending{EndBack, fmt.Sprintf("%s did not come: %v", name, err)}
	}
	return s.start(name, body)
}

// An ipxeRun is a script that runs. It has no quotes, and ${} is expanded after words are split, twice (iPXE
// src/core/exec.c, settings.c).
type ipxeRun struct {
	*session
	lines   []string
	at      int // the next line
	vars    map[string]string
	kernel  string
	args    []string
	initrds []string
	slept   bool   // it waits: what it chains to is asked for after that
	first   string // item of a menu, then the chosen one
}

func (s *session) script(text string) ending {
	r := &ipxeRun{session: s, lines: strings.Split(text, "\n"), vars: map[string]string{
		"uuid": s.m.UUID.String(), "platform": "pcbios", "netX/mac": s.m.MAC.String(), "net0/mac": s.m.MAC.String(), "mac": s.m.MAC.String(),
		"next-server": s.server.String(),
	}}
	if s.efi() {
		r.vars["platform"] = "efi"
	}
	for n := 0; r.at < len(r.lines); n++ {
		if n > maxCommands {
			return stuck("the script runs for ever")
		}
		line := strings.TrimSuffix(r.lines[r.at], "\r")
		r.at++
		if end, ok := r.line(line); end.kind != "" || !ok && end.kind == "" {
			if end.kind == "" {
				return ending{EndBack, fmt.Sprintf("the script failed at %q", line)}
			}
			return end
		}
	}
	return ending{EndBack, "the script ended"}
}

// line runs one line: commands joined by ||, && and ;. It is false when the last that ran failed.
func (r *ipxeRun) line(line string) (ending, bool) {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasPrefix(words[0], ":") || strings.HasPrefix(words[0], "#") {
		return ending{}, true
	}
	ok, run := true, true
	for len(words) > 0 {
		n := 0
		for n < len(words) && words[n] != "||" && words[n] != "&&" && words[n] != ";" {
			n++
		}
		if run && n > 0 {
			var end ending
			if end, ok = r.command(words[:n]); end.kind != "" {
				return end, ok
			}
		}
		if n == len(words) {
			break
		}
		run = words[n] == "||" && !ok || words[n] == "&&" && ok || words[n] == ";"
		if words[n] == "||" && n == len(words)-1 {
			return ending{}, true // "|| " with nothing behind it: any outcome will do
		}
		words = words[n+1:]
	}
	return ending{}, ok
}

var setting = regexp.MustCompile(`\$\{([^{}]*)\}`)

func (r *ipxeRun) expand(word string) string {
	for range 2 {
		word = setting.ReplaceAllStringFunc(word, func(x string) string {
			name, _, _ := strings.Cut(x[2:len(x)-1], ":")
			return r.vars[name]
		})
	}
	return word
}

// command runs one. Options come before the first word that is none.
func (r *ipxeRun) command(words []string) (ending, bool) {
	for i, w := range words {
		words[i] = r.expand(w)
	}
	f, ok := ipxeCommands()[words[0]]
	if !ok {
		r.say("ipxe: no command " + words[0])
		return ending{}, false
	}
	opts, rest := map[string]string{}, words[1:]
	for words[0] != "echo" && len(rest) > 0 && strings.HasPrefix(rest[0], "-") {
		name := rest[0]
		rest = rest[1:]
		if valued[name] && len(rest) > 0 {
			opts[name] = rest[0]
			rest = rest[1:]
		} else {
			opts[name] = "yes"
		}
	}
	return f(r, opts, rest)
}

// valued are the options that take a word.
var valued = map[string]bool{"--name": true, "-n": true, "--key": true, "-k": true, "--timeout": true, "-t": true, "--default": true, "-d": true,
	"--drive": true, "--filename": true, "-f": true, "--signer": true, "-s": true, "--menu": true, "-m": true}

type ipxeCommand = func(r *ipxeRun, opts map[string]string, args []string) (ending, bool)

// ipxeCommands are the commands in use; those that only take time or wait do nothing here.
func ipxeCommands() map[string]ipxeCommand {
	return map[string]ipxeCommand{
		"set": ipxeSet, "clear": ipxeSet, "inc": ipxeInc, "iseq": ipxeIseq, "isset": ipxeIsset, "goto": ipxeGoto, "echo": ipxeEcho,
		"kernel": ipxeKernel, "imgselect": ipxeKernel, "initrd": ipxeInitrd, "imgfetch": ipxeInitrd, "module": ipxeInitrd,
		"imgfree": ipxeFree, "imgverify": ipxeVerify, "chain": ipxeChain, "boot": ipxeBoot, "imgexec": ipxeBoot,
		"sanboot": ipxeSanboot, "item": ipxeItem, "choose": ipxeChoose, "exit": ipxeExit,
		"reboot": ends(EndRestart, "the script restarts the machine"), "poweroff": ends(EndOff, "the script switches the machine off"),
		"shell": ends(EndStuck, "the script opens a shell"),
		"dhcp":  ends("", ""), "ifconf": ends("", ""), "ifopen": ends("", ""), "ifclose": ends("", ""), "iflinkwait": ends("", ""),
		"sleep": ipxeSleep, "menu": ends("", ""), "imgtrust": ends("", ""), "imgstat": ends("", ""), "sync": ends("", ""),
		"console": ends("", ""),
	}
}

// ends is a command that has no other effect.
func ends(kind End, why string) ipxeCommand {
	return func(*ipxeRun, map[string]string, []string) (ending, bool) { return ending{kind, why}, true }
}

func ipxeSleep(r *ipxeRun, _ map[string]string, _ []string) (ending, bool) {
	r.slept = true
	return ending{}, true
}

func ipxeEcho(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	r.say(strings.Join(a, " "))
	return ending{}, true
}

func ipxeSet(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ending{}, false
	}
	name, _, _ := strings.Cut(a[0], ":")
	r.vars[name] = strings.Join(a[1:], " ")
	return ending{}, true
}

func ipxeInc(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ending{}, false
	}
	n, _ := strconv.Atoi(r.vars[a[0]]) // unset counts as 0
	r.vars[a[0]] = strconv.Itoa(n + 1)
	return ending{}, true
}

func ipxeIseq(_ *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	return ending{}, len(a) == 2 && a[0] == a[1]
}

func ipxeIsset(_ *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	return ending{}, len(a) == 1 && a[0] != ""
}

func ipxeGoto(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	for i, line := range r.lines {
		if words := strings.Fields(line); len(a) == 1 && len(words) > 0 && words[0] == ":"+a[0] {
			r.at = i + 1
			return ending{}, true
		}
	}
	return ending{}, false
}

func ipxeKernel(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ending{}, false
	}
	if _, err := r.fetch(a[0]); err != nil {
		return ending{}, false
	}
	r.kernel, r.args = a[0], a[1:]
	return ending{}, true
}

func ipxeInitrd(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ending{}, false
	}
	if _, err := r.fetch(a[0]); err != nil {
		return ending{}, false
	}
	r.initrds = append(r.initrds, a[0])
	return ending{}, true
}

func ipxeFree(r *ipxeRun, _ map[string]string, _ []string) (ending, bool) {
	r.kernel, r.args, r.initrds = "", nil, nil
	return ending{}, true
}

// ipxeVerify fetches the signature: whether it holds is for an iPXE with a certificate to say.
func ipxeVerify(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) < 2 {
		return ending{}, false
	}
	_, err := r.fetch(a[1])
	return ending{}, err == nil
}

func ipxeChain(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ipxeBoot(r, nil, nil)
	}
	if r.slept {
		return ending{EndAgain, "it waits, and then asks for " + a[0]}, true
	}
	end := r.session.chain(a[0])
	return end, end.kind != EndBack
}

func ipxeBoot(r *ipxeRun, _ map[string]string, _ []string) (ending, bool) {
	if r.kernel == "" {
		return ending{}, false
	}
	r.log.Kernel, r.log.Initrds, r.log.Args = r.kernel, r.initrds, strings.Join(r.args, " ")
	return ending{EndKernel, "kernel and ramdisk are loaded"}, true
}

func ipxeSanboot(r *ipxeRun, _ map[string]string, _ []string) (ending, bool) {
	if !r.m.Disk {
		return ending{}, false
	}
	return ending{EndLocal, "iPXE starts the disk"}, true
}

func ipxeItem(r *ipxeRun, opts map[string]string, a []string) (ending, bool) {
	if _, gap := opts["--gap"]; !gap && r.first == "" && len(a) > 0 {
		r.first = a[0]
	}
	return ending{}, true
}

// ipxeChoose is a menu that nobody touches: the default, or the first.
func ipxeChoose(r *ipxeRun, opts map[string]string, a []string) (ending, bool) {
	if len(a) == 0 {
		return ending{}, false
	}
	if opts["--timeout"] == "" && opts["-t"] == "" {
		return stuck("a menu waits for a person"), true
	}
	r.vars[a[0]] = r.first
	for _, name := range []string{"--default", "-d"} {
		if opts[name] != "" {
			r.vars[a[0]] = opts[name]
		}
	}
	return ending{}, true
}

func ipxeExit(r *ipxeRun, _ map[string]string, a []string) (ending, bool) {
	if len(r.log.Screen) > 0 {
		return ending{EndBack, "the script gives the machine back: " + r.log.Screen[len(r.log.Screen)-1]}, true
	}
	return ending{EndBack, "the script gives the machine back"}, true
}
