package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"muster/boot"
	"muster/boot/dhcp"
	"muster/boot/kargs"
	"muster/boot/pin"
	"muster/boot/tftp"
	"muster/broker"
	"muster/broker/api"
	"muster/broker/repo"
	"muster/broker/store"
)

// serveConfig is the server's configuration: each field is a flag and a line of the configuration file.
type serveConfig struct {
	Data             string `yaml:"data"`
	Store            string `yaml:"store"`
	KeepEvents       int    `yaml:"keep_events"`
	Interface        string `yaml:"interface"`
	DHCP             string `yaml:"dhcp"`
	Pool             string `yaml:"pool"`
	Router           string `yaml:"router"`
	DNS              string `yaml:"dns"`
	Networks         string `yaml:"networks"`
	BootPrompt       string `yaml:"boot_prompt"`
	HTTP             string `yaml:"http"`
	HTTPS            string `yaml:"https"`
	TLSCert          string `yaml:"tls_cert"`
	TLSKey           string `yaml:"tls_key"`
	PlainSecrets     bool   `yaml:"plain_secrets"`
	TFTP             string `yaml:"tftp"`
	TFTPOnlyFrom     string `yaml:"tftp_only_from"`
	TFTPBlock        int    `yaml:"tftp_block"`
	TFTPWindow       int    `yaml:"tftp_window"`
	URL              string `yaml:"url"`
	Ramdisk          string `yaml:"ramdisk"`
	ImgVerify        string `yaml:"imgverify"`
	Loaders          string `yaml:"loaders"`
	UEFILoader       string `yaml:"uefi_loader"`
	BIOSLoader       string `yaml:"bios_loader"`
	KernelArgs       string `yaml:"kernel_args"`
	Hooks            string `yaml:"hooks"`
	Tasks            string `yaml:"task_dir"`
	RecipesByAddress bool   `yaml:"recipes_by_address"`
	HookAllow        string `yaml:"hook_allow"`
	LogLevel         string `yaml:"log_level"`

	// What no flag has.
	LoaderFor []boot.LoaderFor  `yaml:"loader_for"`
	Menu      broker.MenuConfig `yaml:"menu"`
}

func serveCommand() *cobra.Command {
	cfg := serveConfig{}
	var file string
	c := &cobra.Command{
		Use: "serve", Short: "the server: DHCP, TFTP, HTTP and the API in one process",
		Long: "serve answers machines that boot from the network, agents and operators. Flags win over the configuration file.\n\n" +
			"--dhcp server  gives leases from --pool;  proxy  answers beside another DHCP server, and  same-host  beside one on\n" +
			"this very host, which has port 67;  off  leaves DHCP to another server that was told this one's address: muster\n" +
			"dhcp-config prints what to tell it.",
		Example: "  muster serve --data /var/lib/muster --interface eth1 --dhcp proxy --ramdisk /var/lib/muster/ramdisk\n" +
			"  muster serve --config /etc/muster.yaml",
		Args: exactly(0, "flags only"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readConfig(cmd, file, &cfg); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	serveFlags(c, &cfg, &file)
	return c
}

// serveFlags are the server's, which doctor takes too.
func serveFlags(c *cobra.Command, cfg *serveConfig, file *string) {
	f := c.Flags()
	f.StringVar(file, "config", "", "configuration file (YAML): the names of these flags with _ for -")
	f.StringVar(&cfg.Data, "data", "/var/lib/muster", "directory of the database, keys and images")
	f.StringVar(&cfg.Store, "store", "", "PostgreSQL URL of a store for several brokers (default: SQLite in --data); a password belongs into --config or ~/.pgpass")
	f.IntVar(&cfg.KeepEvents, "keep-events", 0, "days that events stay in the journal, of each node the last of each kind for ever; 0: all stay")
	f.StringVar(&cfg.Interface, "interface", "", "network interface of the machines to boot")
	f.StringVar(&cfg.DHCP, "dhcp", "off", "off, proxy, same-host or server")
	f.StringVar(&cfg.Pool, "pool", "", "addresses to lease, FIRST-LAST (dhcp server)")
	f.StringVar(&cfg.Router, "router", "", "default gateway to lease (dhcp server)")
	f.StringVar(&cfg.DNS, "dns", "", "name servers to lease, by comma (dhcp server)")
	f.StringVar(&cfg.Networks, "networks", "", "YAML file of networks behind relays, reservations and more options to lease (dhcp server)")
	f.StringVar(&cfg.BootPrompt, "boot-prompt", "", "what firmware shows before it boots, with a menu at F8: SECONDS TEXT, e.g. \"5 Press F8 for menu\"")
	f.StringVar(&cfg.HTTP, "http", ":8080", "address of HTTP, for boot loaders")
	f.StringVar(&cfg.HTTPS, "https", ":8443", "address of HTTPS, for agents and operators; off for none")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "PEM chain of your own for HTTPS: server first, the CA that machines trust last (default: an own CA in DATA/tls)")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "PEM key of --tls-cert")
	f.BoolVar(&cfg.PlainSecrets, "plain-secrets", false, "take agents' keys and operators' tokens over plain HTTP too, where the network can read them")
	f.StringVar(&cfg.TFTP, "tftp", ":69", "address of TFTP; off for none")
	f.StringVar(&cfg.TFTPOnlyFrom, "tftp-only-from", "", "networks that may read by TFTP, by comma, e.g. 192.0.2.0/24; others hear nothing (default: everyone)")
	f.IntVar(&cfg.TFTPBlock, "tftp-block", 1468, "most bytes of a TFTP block; 1428 where tunnels or VLAN tags shorten packets")
	f.IntVar(&cfg.TFTPWindow, "tftp-window", 64, "most blocks of a TFTP window; 1 where firmware or a switch loses packets of a burst")
	f.StringVar(&cfg.URL, "url", "", "base URL as boot loaders reach it (default: the interface's address and the port of --http); agents call its host by HTTPS")
	f.StringVar(&cfg.Ramdisk, "ramdisk", "", "directory with vmlinuz and ramdisk (muster ramdisk build), imported at the start as ramdisk default-ARCH")
	f.StringVar(&cfg.ImgVerify, "imgverify", "off", "have iPXE verify the signatures of ramdisks: off, on, or permanent (imgtrust --permanent); only an iPXE of your own can")
	f.StringVar(&cfg.Loaders, "loaders", "", "directory with boot loaders of your own, looked at before the distribution's")
	f.StringVar(&cfg.UEFILoader, "uefi-loader", "snponly", "first loader of UEFI machines: snponly, ipxe, grub, or shim for Secure Boot")
	f.StringVar(&cfg.BIOSLoader, "bios-loader", "undionly", "first loader of BIOS machines: undionly (iPXE), pxelinux, lpxelinux or grub")
	f.StringVar(&cfg.KernelArgs, "kernel-args", "", "more kernel arguments for the ramdisk, e.g. console=ttyS0")
	f.StringVar(&cfg.Tasks, "task-dir", "", "directory of tasks of your own, a folder to a task; one of the name of a shipped task takes its place")
	f.BoolVar(&cfg.RecipesByAddress, "recipes-by-address", false, "give the recipe of a machine that is being installed at /ks too, to who has its address or says its MAC (X-RHN-Provisioning-MAC-0)")
	f.StringVar(&cfg.Hooks, "hooks", "", "directory of the commands that hooks may run, as the user that runs the server (default: hooks run none)")
	f.StringVar(&cfg.HookAllow, "hook-allow", "", "networks by comma that hooks and mirrors may be called at though they are loopback, link-local or a cloud's metadata service")
	f.StringVar(&cfg.LogLevel, "log-level", "info", "debug, info, warn or error")
}

// readConfig fills what no flag set from the file. An unknown line is an error with its position.
func readConfig(cmd *cobra.Command, file string, cfg *serveConfig) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	var check serveConfig
	if err := yaml.UnmarshalWithOptions(raw, &check, yaml.Strict()); err != nil {
		return usageError{fmt.Errorf("configuration %s: %s", file, yaml.FormatError(err, false, true))}
	}
	cfg.LoaderFor, cfg.Menu = check.LoaderFor, check.Menu
	var lines map[string]any
	if err := yaml.Unmarshal(raw, &lines); err != nil {
		return usageError{fmt.Errorf("configuration %s: %s", file, yaml.FormatError(err, false, true))}
	}
	for name, value := range lines {
		flag := strings.ReplaceAll(name, "_", "-")
		if name == "loader_for" || name == "menu" || cmd.Flags().Changed(flag) {
			continue
		}
		if err := cmd.Flags().Set(flag, fmt.Sprint(value)); err != nil {
			return usageError{fmt.Errorf("configuration %s: %s: %w", file, name, err)}
		}
	}
	return nil
}

// serve opens everything first, so that what is wrong is said before anything is answered, and then runs until ctx
// ends or a part fails.
func serve(ctx context.Context, cfg serveConfig, out, errOut io.Writer) error {
	log, err := newLog(errOut, cfg.LogLevel)
	if err != nil {
		return err
	}
	s := &server{cfg: cfg, log: log}
	defer func() {
		if err := s.close(); err != nil {
			log.Error("close", "err", err)
		}
	}()
	for _, open := range []func(context.Context) error{s.openURL, s.openStore, s.openTLS, s.openBroker, s.openRamdisk, s.openBoot, s.openNet, s.openAPI, s.checkCertificate} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	if s.newToken != "" {
		fmt.Fprintf(out, "operator token (shown only now): %s\n", s.newToken)
	}
	if s.cert != nil {
		fmt.Fprintf(out, "MUSTER_CA of %s: %s\n", s.agentURL, pin.Of(s.cert.CA))
	}
	fmt.Fprintf(out, "muster serves %s, agents %s, dhcp %s, socket %s\n", s.url, s.agentURL, cfg.DHCP, s.socketPath())
	return s.run(ctx)
}

// server is one process of muster serve.
type server struct {
	cfg      serveConfig
	log      *slog.Logger
	addr     netip.Addr // of the interface
	url      string
	agentURL string
	newToken string

	store    *store.Store
	lock     *os.File // of the data directory, where the store has none
	images   *repo.Images
	ramdisks *repo.Files
	trees    *repo.Trees
	mirrors  *repo.Mirrors
	repos    *api.Repos
	broker   *broker.Broker
	boot     *boot.Server
	dhcp     *dhcp.Server
	tftp     *tftp.Server
	tftpIn   *net.UDPConn
	httpIn   net.Listener
	httpsIn  net.Listener        // of TLS; nil: off
	cert     *broker.Certificate // nil: off
	warned   time.Time           // of the certificate's end
	localIn  net.Listener
	handler  http.Handler
}

func newLog(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError{fmt.Errorf("log level %q: want debug, info, warn or error", level)}
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// openURL listens on HTTP and settles the URL that machines are told.
func (s *server) openURL(context.Context) (err error) {
	if s.httpIn, err = net.Listen("tcp", s.cfg.HTTP); err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	if s.cfg.Interface != "" {
		if s.addr, err = interfaceAddr(s.cfg.Interface); err != nil {
			return err
		}
	}
	s.url = s.cfg.URL
	if s.url == "" {
		host := s.addr
		if !host.IsValid() {
			host = netip.MustParseAddr("127.0.0.1")
		}
		port := s.httpIn.Addr().(*net.TCPAddr).Port
		s.url = fmt.Sprintf("http://%s", net.JoinHostPort(host.String(), fmt.Sprint(port)))
	}
	return nil
}

func interfaceAddr(name string) (netip.Addr, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %q: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("interface %q: %w", name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %q has no IPv4 address: give it one first", name)
}

func (s *server) openBroker(ctx context.Context) error {
	extra := kargs.Parse(s.cfg.KernelArgs)
	if _, err := extra.Render(); err != nil {
		return usageError{fmt.Errorf("--kernel-args: %w", err)}
	}
	if !slices.Contains([]string{"off", "on", "permanent"}, s.cfg.ImgVerify) {
		return usageError{fmt.Errorf("--imgverify %q: want off, on or permanent", s.cfg.ImgVerify)}
	}
	key, err := broker.LoadKey(filepath.Join(s.cfg.Data, "server.key"))
	if err != nil {
		return err
	}
	cfg := broker.Config{Store: s.store, Key: key, Version: version, BaseURL: s.url, AgentURL: s.agentURL, Plain: s.cfg.PlainSecrets, Args: extra,
		Held: s.ramdisks.Held, HeldTree: s.trees.Held, Verify: s.cfg.ImgVerify != "off", TrustOnly: s.cfg.ImgVerify == "permanent", Menu: s.cfg.Menu, Log: s.log}
	cfg.Owner, cfg.RecipesByAddress = s.owner, s.cfg.RecipesByAddress
	if s.cfg.Tasks != "" {
		cfg.Tasks = os.DirFS(s.cfg.Tasks)
	}
	cfg.RepoFile = s.repoFile
	cfg.KeepEvents = time.Duration(s.cfg.KeepEvents) * 24 * time.Hour
	if s.cert != nil {
		cfg.CA = s.cert.CA
	}
	if err := s.hookConfig(&cfg); err != nil {
		return err
	}
	s.broker, err = broker.New(ctx, cfg)
	return err
}

// hookConfig says what hooks may run and call.
func (s *server) hookConfig(cfg *broker.Config) (err error) {
	if cfg.HookAllow, err = prefixes(s.cfg.HookAllow); err != nil {
		return usageError{fmt.Errorf("--hook-allow: %w", err)}
	}
	if s.cfg.Hooks == "" {
		return nil
	}
	if cfg.HookDir, err = filepath.Abs(s.cfg.Hooks); err != nil {
		return fmt.Errorf("--hooks: %w", err)
	}
	return nil
}

func (s *server) openBoot(context.Context) (err error) {
	loaders := boot.Loaders{Dir: s.cfg.Loaders, UEFI: s.cfg.UEFILoader, BIOS: s.cfg.BIOSLoader, For: s.cfg.LoaderFor, Machine: s.broker.Machine}
	if err := loaders.Check(); err != nil {
		if s.cfg.DHCP != "off" || !errors.Is(err, boot.ErrNotFound) {
			return err
		}
		s.log.Warn("boot loaders", "err", err)
	}
	if err := s.reportLoaders(loaders); err != nil {
		return err
	}
	s.repos = &api.Repos{Broker: s.broker, Trees: s.trees, Mirrors: s.mirrors}
	s.boot, err = boot.New(boot.Config{BaseURL: s.url, Source: s.broker, Files: s.ramdisks, Repo: s.repos.Open, Loaders: loaders,
		Client: s.client, Observe: s.saw, Log: s.log})
	return err
}

// saw takes what TFTP and HTTP saw: DHCP learns by it how firmware wants to be told its file.
func (s *server) saw(x boot.Sighting) {
	s.broker.Observe(x)
	if s.dhcp != nil {
		s.dhcp.Saw(x)
	}
}

// reportLoaders logs which loaders machines are given: a boot that went wrong is looked for here first.
func (s *server) reportLoaders(l boot.Loaders) error {
	var status io.Reader = strings.NewReader("") // another distribution: versions stay unknown
	if f, err := os.Open("/var/lib/dpkg/status"); err == nil {
		defer f.Close()
		status = f
	}
	for _, w := range l.Warnings(s.cfg.DHCP == "proxy") {
		s.log.Warn("boot loaders", "err", w)
	}
	files, err := l.Files(status)
	for _, f := range files {
		s.log.Info("boot loader", "name", f.Name, "path", f.Path, "package", f.Package, "version", f.Version, "sha256", f.SHA256)
	}
	return err
}

// owner says who has a lease of ours on an address, zero for nobody.
func (s *server) owner(a netip.Addr) (mac boot.MAC) {
	if s.dhcp != nil && dhcp.Mode(s.cfg.DHCP) == dhcp.ModeServer {
		mac, _ = s.dhcp.MACOf(a)
	}
	return mac
}

// client says whose an address is, as far as DHCP was seen, or the link tells.
func (s *server) client(a netip.Addr) boot.Client {
	c, ok := boot.Client{Addr: a}, false
	if s.dhcp != nil {
		c.MAC, ok = s.dhcp.MACOf(a)
	}
	if !ok {
		c.MAC, _ = boot.Neighbour(a)
	}
	return c
}

func (s *server) openNet(context.Context) error {
	if s.cfg.TFTP != "off" && s.cfg.TFTP != "" {
		addr, err := net.ResolveUDPAddr("udp4", s.cfg.TFTP)
		if err == nil {
			s.tftpIn, err = net.ListenUDP("udp4", addr)
		}
		if err != nil {
			return fmt.Errorf("listen for TFTP on %s: %w (another TFTP server? --tftp off)", s.cfg.TFTP, err)
		}
		only, err := prefixes(s.cfg.TFTPOnlyFrom)
		if err != nil {
			return usageError{fmt.Errorf("--tftp-only-from: %w", err)}
		}
		s.tftp = tftp.New(tftp.Config{Resolve: s.boot.Resolve, Client: s.client, Observe: s.saw, OnlyFrom: only,
			MaxBlock: s.cfg.TFTPBlock, MaxWindow: s.cfg.TFTPWindow, Log: s.log})
	}
	if s.cfg.DHCP == "off" {
		return nil
	}
	d, err := s.dhcpConfig()
	if err == nil {
		s.dhcp, err = dhcp.Listen(d)
	}
	return err
}

// prefixes reads networks, by comma; an address alone is a network of one.
func prefixes(list string) (nets []netip.Prefix, err error) {
	for _, word := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(word)
		if a, single := netip.ParseAddr(word); single == nil {
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("network %q: want ADDRESS/BITS", word)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}

func (s *server) dhcpConfig() (dhcp.Config, error) {
	d := dhcp.Config{Interface: s.cfg.Interface, Mode: dhcp.Mode(s.cfg.DHCP), Addr: s.addr, Source: s.boot,
		Loader: s.boot.Loader, Script: s.boot.ScriptURL, Prefix: s.boot.Prefix, Known: s.broker.Known, Observe: s.broker.Observe, Log: s.log,
		LeaseFile: filepath.Join(s.cfg.Data, "leases")}
	var err error
	switch {
	case !slices.Contains([]dhcp.Mode{dhcp.ModeProxy, dhcp.ModeSameHost, dhcp.ModeServer}, d.Mode):
		return d, usageError{fmt.Errorf("--dhcp %q: want off, proxy, same-host or server", s.cfg.DHCP)}
	case s.cfg.Interface == "":
		return d, usageError{errors.New("--dhcp needs --interface")}
	}
	if s.cfg.BootPrompt != "" {
		if d.HotKey, err = parsePrompt(s.cfg.BootPrompt); err != nil {
			return d, usageError{fmt.Errorf("--boot-prompt: %w", err)}
		}
	}
	if s.cfg.Networks != "" {
		if err := readNetworks(s.cfg.Networks, &d); err != nil {
			return d, err
		}
	}
	if d.Mode != dhcp.ModeServer {
		return d, nil
	}
	return d, s.ownNetwork(&d.Network)
}

// ownNetwork fills what the flags say of the interface's network; the file may have said it.
func (s *server) ownNetwork(n *dhcp.Network) error {
	if s.cfg.Pool == "" && len(n.Ranges) == 0 {
		return usageError{errors.New("--dhcp server needs --pool FIRST-LAST")}
	}
	for _, p := range strings.FieldsFunc(s.cfg.Pool, func(r rune) bool { return r == ',' }) {
		r, err := parsePool(p)
		if err != nil {
			return usageError{fmt.Errorf("--pool: %w", err)}
		}
		n.Ranges = append(n.Ranges, r)
	}
	if s.cfg.Router != "" {
		var err error
		if n.Router, err = netip.ParseAddr(s.cfg.Router); err != nil {
			return usageError{fmt.Errorf("--router: %w", err)}
		}
	}
	for _, a := range strings.FieldsFunc(s.cfg.DNS, func(r rune) bool { return r == ',' || r == ' ' }) {
		ns, err := netip.ParseAddr(a)
		if err != nil {
			return usageError{fmt.Errorf("--dns: %w", err)}
		}
		n.DNS = append(n.DNS, ns)
	}
	return nil
}

func (s *server) socketPath() string { return filepath.Join(s.cfg.Data, "muster.sock") }

func (s *server) openAPI(context.Context) error {
	hash, token, err := loadToken(filepath.Join(s.cfg.Data, "token.sha256"))
	if err != nil {
		return err
	}
	s.newToken = token
	s.handler, err = api.New(api.Config{Broker: s.broker, Images: s.images, Files: s.ramdisks, Repos: s.repos, Boot: s.boot, TokenHash: hash, BaseURL: s.url,
		Metrics: metrics(s.dhcp, s.tftp, s.log), PlainSecrets: s.cfg.PlainSecrets, Log: s.log})
	if err != nil {
		return err
	}
	// The store's lock says that no other server runs here, so a socket that is there is a dead one's.
	if err := os.Remove(s.socketPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listen on the socket: %w", err)
	}
	if s.localIn, err = net.Listen("unix", s.socketPath()); err != nil {
		return fmt.Errorf("listen on the socket: %w", err)
	}
	return os.Chmod(s.socketPath(), 0o600)
}

// run serves until ctx ends or a part fails; then all end.
func (s *server) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	part := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("broker", s.broker.Run)
	part("ramdisks", s.sweepRamdisks)
	part("http", func(ctx context.Context) error { return s.serveHTTP(ctx, s.httpIn, nil) })
	if s.cert != nil {
		part("https", func(ctx context.Context) error { return s.serveHTTP(ctx, s.httpsIn, nil) })
		part("certificate", s.keepCertificate)
	}
	part("socket", func(ctx context.Context) error { return s.serveHTTP(ctx, s.localIn, api.LocalContext) })
	if s.tftp != nil {
		part("tftp", func(ctx context.Context) error {
			defer func() { s.log.Info("tftp ends", "counts", s.tftp.Counts()) }()
			return s.tftp.Serve(ctx, s.tftpIn)
		})
	}
	if s.dhcp != nil {
		part("dhcp", s.dhcp.Serve)
	}
	<-ctx.Done()
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *server) serveHTTP(ctx context.Context, l net.Listener, conn func(context.Context, net.Conn) context.Context) error {
	h := &http.Server{Handler: s.handler, ConnContext: conn, ReadHeaderTimeout: api.ReadHeaderTimeout,
		IdleTimeout: api.IdleTimeout, MaxHeaderBytes: api.MaxHeaderBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stopped := context.AfterFunc(ctx, func() { h.Close() })
	defer stopped()
	err := h.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *server) close() error {
	var errs []error
	for _, l := range []net.Listener{s.httpIn, s.httpsIn, s.localIn} {
		if l != nil {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
