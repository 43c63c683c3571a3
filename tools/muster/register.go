package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muster/broker"
	"muster/broker/api"
)

// registerFlags are what is said of one machine, or of all machines of a file that say nothing else.
type registerFlags struct {
	file        string
	one         broker.Registration
	meta        []string
	installed   string
	unprotected bool
}

func registerCommand(o *options) *cobra.Command {
	f := &registerFlags{}
	c := &cobra.Command{
		Use: "register", Short: "tell of machines before they boot: name, metadata, policy; or that they are installed and stay as they are",
		Long: "register makes nodes of machines that muster has not seen, by a MAC, the SMBIOS UUID or the serial number. When such a machine\n" +
			"boots it is that node. With --installed it boots its disk and no policy takes it (muster node undeploy takes it back).\n" +
			"A machine that is a node already is brought to what is said of it; the same again changes nothing, and what could\n" +
			"touch a machine in use is refused.\n\n" +
			"A file has one machine to a JSON line, JSON objects or lists, or YAML documents, each with\n" +
			"  mac or macs, uuid, serial, manufacturer, hostname, meta, pin, installed (true, or by what), protected (false: approved)\n" +
			"or what Razor (razor nodes NAME, register-node) or Cobbler (collections/systems/*.json) tell of it. Flags are for the\n" +
			"machines of a file that say nothing else. Up to " + strconv.Itoa(broker.MaxRegistrations) + " machines are registered all or none.",
		Example: "  muster node register --mac 52:54:00:12:34:56 --hostname r12n01 --meta rack=r12 --pin web\n" +
			"  muster node register -f rack12.jsonl --meta rack=r12\n" +
			"  muster node register -f razor-nodes.json --installed=razor      # those that are in production: never touch them\n" +
			"  cat /var/lib/cobbler/collections/systems/*.json | muster node register -f -",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, o) },
	}
	fl := c.Flags()
	fl.StringVarP(&f.file, "filename", "f", "", "file of machines, or - for standard input")
	fl.StringSliceVar(&f.one.MACs, "mac", nil, "of a NIC; several: all of one machine")
	fl.StringVar(&f.one.UUID, "uuid", "", "of its SMBIOS")
	fl.StringVar(&f.one.Serial, "serial", "", "its serial number")
	fl.StringVar(&f.one.Manufacturer, "manufacturer", "", "whose serial number it is")
	fl.StringVar(&f.one.Hostname, "hostname", "", "that it is to have, whatever its policy says")
	f.shared(fl)
	o.completeFlag(c, "pin", broker.KindPolicy)
	return c
}

// shared are the flags that make sense of several machines.
func (f *registerFlags) shared(fl *pflag.FlagSet) {
	fl.StringArrayVar(&f.meta, "meta", nil, "KEY=VALUE for tags to read; a value that is JSON is kept as that; may be repeated")
	fl.StringVar(&f.one.Pin, "pin", "", "the policy that alone may take it")
	fl.StringVar(&f.installed, "installed", "", "it is installed (=by what): it boots its disk, and no policy takes it")
	fl.Lookup("installed").NoOptDefVal = "true"
	fl.BoolVar(&f.unprotected, "unprotected", false, "policies that ask for approval may take it")
}

func (f *registerFlags) run(cmd *cobra.Command, o *options) error {
	file, err := f.machines(cmd)
	if err != nil {
		return err
	}
	for _, w := range file.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", plain(w))
	}
	c, err := o.connect()
	if err != nil {
		return err
	}
	results, err := register(cmd, c, file)
	if len(results) == 0 && err != nil {
		return err
	}
	for i, r := range results {
		for _, w := range r.Warnings {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n", file.Places[i], plain(w))
		}
	}
	return errors.Join(o.show(cmd.OutOrStdout(), results, func(w io.Writer) { registeredTable(w, results) }), err)
}

// machines are those of the file, or the one of the flags.
func (f *registerFlags) machines(cmd *cobra.Command) (file *broker.RegistrationFile, err error) {
	if err := f.said(); err != nil {
		return nil, err
	}
	ids := len(f.one.MACs) > 0 || f.one.UUID != "" || f.one.Serial != ""
	switch {
	case f.file == "" && !ids:
		return nil, usageError{fmt.Errorf("say which machine, by --mac, --uuid or --serial, or which file: -f FILE")}
	case f.file == "":
		return &broker.RegistrationFile{Nodes: []broker.Registration{f.one}, Places: []string{"flags"}}, nil
	case ids || f.one.Hostname != "":
		return nil, usageError{fmt.Errorf("ids and hostname stand in the file: of flags, --meta, --pin, --installed and --unprotected are for all of it")}
	}
	data, err := readRegistrations(f.file, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	if file, err = broker.ParseRegistrations(data); err != nil {
		return nil, fmt.Errorf("%s: %w", f.file, err)
	}
	for i := range file.Nodes {
		f.complete(&file.Nodes[i])
	}
	return file, nil
}

// said reads the flags that are more than one word.
func (f *registerFlags) said() error {
	f.one.Meta = map[string]any{}
	for _, pair := range f.meta {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return usageError{fmt.Errorf("--meta %q: want KEY=VALUE", pair)}
		}
		f.one.Meta[key] = metaValue(value)
	}
	switch f.installed {
	case "", "false":
	case "true":
		f.one.Installed = true
	default:
		f.one.Installed = f.installed
	}
	if f.unprotected {
		f.one.Protected = new(bool)
	}
	return nil
}

// complete gives a machine of a file what the flags say and it does not.
func (f *registerFlags) complete(r *broker.Registration) {
	for k, v := range f.one.Meta {
		if r.Meta == nil {
			r.Meta = map[string]any{}
		}
		if _, has := r.Meta[k]; !has {
			r.Meta[k] = v
		}
	}
	if r.Pin == "" {
		r.Pin = f.one.Pin
	}
	if r.Installed == nil || r.Installed == false || r.Installed == "" {
		r.Installed = f.one.Installed
	}
	if r.Protected == nil {
		r.Protected = f.one.Protected
	}
}

func readRegistrations(name string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read machines: %w", err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, broker.MaxRegistrationBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read machines: %w", err)
	}
	return data, nil
}

// register sends the machines, as many at once as one call takes. What was registered before an error stays.
func register(cmd *cobra.Command, c *api.Client, file *broker.RegistrationFile) (results []broker.Registered, err error) {
	calls, err := callsOf(file.Nodes)
	if err != nil {
		return nil, err
	}
	for _, nodes := range calls {
		some, err := c.Register(cmd.Context(), nodes)
		if err != nil {
			return results, refused(err, file, len(results))
		}
		results = append(results, some...)
		if len(calls) > 1 && isTerminal(cmd.ErrOrStderr()) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d machines\n", len(results), len(file.Nodes))
		}
	}
	return results, nil
}

// callsOf cuts machines into what the server takes in one call: so many of them, and so many bytes.
func callsOf(nodes []broker.Registration) (calls [][]broker.Registration, err error) {
	begin, size := 0, 0
	for i := range nodes {
		raw, err := json.Marshal(nodes[i])
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		if i > begin && (i-begin == broker.MaxRegistrations || size+len(raw) > broker.MaxDocumentBytes) {
			calls = append(calls, nodes[begin:i])
			begin, size = i, 0
		}
		size += len(raw) + 1
	}
	return append(calls, nodes[begin:]), nil
}

// inCall is a machine's place in a call, as the server names it.
var inCall = regexp.MustCompile(`^nodes\[(\d{1,4})\]`)

// refused names a machine by its place in the file.
func refused(err error, file *broker.RegistrationFile, done int) error {
	m := inCall.FindStringSubmatch(err.Error())
	if m == nil {
		return fmt.Errorf("%w (%d machines were registered before it)", err, done)
	}
	i, _ := strconv.Atoi(m[1]) // of few digits
	if i += done; i >= len(file.Places) {
		return err
	}
	rest := strings.TrimPrefix(strings.TrimPrefix(err.Error(), m[0]), ".")
	return fmt.Errorf("%s: %s; of its call nothing was registered, and %d machines before", file.Places[i], strings.TrimPrefix(rest, ": "), done)
}

func registeredTable(w io.Writer, results []broker.Registered) {
	row(w, "NODE", "HOSTNAME", "STATE", "RESULT")
	for _, r := range results {
		row(w, r.Node, orDash(r.Hostname), string(r.State), r.Result)
	}
}
