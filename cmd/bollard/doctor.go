package main

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bollard/admin"
	"bollard/ca"
	"bollard/ca/subscriber"
	"bollard/internal/config"
	"bollard/keys"
	"bollard/policy"
)

// verdict of one finding.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictWarn verdict = "warn"
	verdictFail verdict = "fail"
)

// finding is one line of the doctor's report.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Text    string  `json:"text"`
	Advice  string  `json:"advice,omitempty"`
}

// doctor looks at a data directory and what surrounds it, and changes nothing.
type doctor struct {
	dir      string
	cfg      *config.File
	findings []finding
}

func (c *cli) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong, and say what to do",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			d := &doctor{dir: c.data}
			d.examine(ctx, c)
			report := struct {
				Findings []finding `json:"findings"`
			}{d.findings}
			err := c.print(report, func(w io.Writer) {
				for _, f := range d.findings {
					fmt.Fprintf(w, "%-4s  %-12s %s\n", f.Verdict, f.Check, strings.ReplaceAll(f.Text, "\n", "; "))
					if f.Advice != "" {
						fmt.Fprintf(w, "      %-12s → %s\n", "", f.Advice)
					}
				}
			})
			if err != nil {
				return err
			}
			for _, f := range d.findings {
				if f.Verdict == verdictFail {
					return admin.Failedf("mend what is marked fail, then look again", "something is wrong with %s", d.dir)
				}
			}
			return nil
		}),
	}
}

func (d *doctor) add(check string, v verdict, advice, format string, args ...any) {
	d.findings = append(d.findings, finding{check, v, fmt.Sprintf(format, args...), advice})
}

// fail adds an error with its hint as advice.
func (d *doctor) fail(check string, err error) {
	text, hint, _ := explain(err)
	d.add(check, verdictFail, hint, "%s", text)
}

func (d *doctor) examine(ctx context.Context, c *cli) {
	cfg, err := loadConfig(d.dir)
	if err != nil {
		d.fail("config", err)
		return // without it there is nothing to look at
	}
	d.cfg = cfg
	d.add("config", verdictOK, "", "%s is understood", filepath.Join(d.dir, configName))
	d.permissions()
	d.policy()
	d.disk()
	if err := c.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
		d.records(ctx, v)
		return nil
	}); err != nil {
		d.fail("database", err)
	}
	d.contracts()
	d.files()
	for i, b := range cfg.Backends {
		d.backend(ctx, b, i)
	}
}

// contracts names what weakens the certificates of cars.
func (d *doctor) contracts() {
	if slices.Contains(d.cfg.Contracts.Curves20, config.CurveP256) {
		d.add("contracts", verdictWarn, "take P-256 out of contracts.curves_20 once the tests are over",
			"keys on P-256 count in ISO 15118-20, which demands P-521: only test stacks have them")
	}
	if slices.Contains(d.cfg.Contracts.Curves20, config.CurveEd448) {
		d.add("contracts", verdictOK, "", "keys on Ed448 count in ISO 15118-20, beside P-521")
	}
}

// permissions: secrets are for the owner alone.
func (d *doctor) permissions() {
	before := len(d.findings)
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // SQLite's own files come and go
		}
		if err != nil {
			return err
		}
		mode := info.Mode().Perm()
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
		case entry.IsDir() && mode&0o077 != 0:
			d.add("permissions", verdictFail, "`chmod 700 "+path+"`", "%s is open to other users (mode %04o)", path, mode)
		case filepath.Base(path) == configName && mode&0o022 != 0:
			d.add("permissions", verdictFail, "`chmod go-w "+path+"`", "others can change %s (mode %04o)", path, mode)
		case private(path) && mode&0o077 != 0:
			d.add("permissions", verdictFail, "`chmod 600 "+path+"`; if others had access, replace what it holds", "%s is open to other users (mode %04o)", path, mode)
		}
		return nil
	})
	if err != nil {
		d.fail("permissions", err)
	} else if len(d.findings) == before {
		d.add("permissions", verdictOK, "", "only the owner can read keys and database")
	}
}

// private says whether a file of the data directory holds secrets.
func private(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, databaseName) || filepath.Ext(name) == ".key" || filepath.Base(filepath.Dir(path)) == keysName
}

// policy looks at the rule files: a server doesn't start with faults in them, and
// a rule that does nothing is seldom meant.
func (d *doctor) policy() {
	files, err := policySources(d.dir)
	if err != nil {
		d.fail("policy", err)
		return
	}
	set, err := policy.New(policy.Config{Files: files})
	if err != nil {
		for _, f := range policy.Faults(err) {
			d.add("policy", verdictFail, "mend it; a running server keeps the rules it has, and none starts", "%v", f)
		}
		return
	}
	for _, f := range set.Findings() {
		d.add("policy", verdictWarn, "`bollard policy list` shows the rules in the order in which they judge", "%v", f)
	}
	if len(set.Findings()) == 0 {
		d.add("policy", verdictOK, "", "%d rules, all good", len(set.Rules()))
	}
}

// Free space below which the doctor warns and fails: with less than the latter
// a database checkpoint may not fit.
const (
	spaceWarn = 1 << 30
	spaceFail = 64 << 20
)

func (d *doctor) disk() {
	var s unix.Statfs_t
	if err := unix.Statfs(d.dir, &s); err != nil {
		d.fail("disk", fmt.Errorf("couldn't look at free space: %w", err))
		return
	}
	free := s.Bavail * uint64(s.Bsize)
	v, advice := verdictOK, ""
	switch {
	case free < spaceFail:
		v, advice = verdictFail, "make room: issuing stops when the disk is full, traffic goes on"
	case free < spaceWarn:
		v, advice = verdictWarn, "make room soon"
	}
	d.add("disk", v, advice, "%d MiB free", free>>20)
}

// records looks at everything behind the operations: of the running server, or
// opened here.
func (d *doctor) records(ctx context.Context, v admin.Invoker) {
	status, err := admin.Call[admin.None, admin.Status](ctx, v, "server.status", admin.None{})
	if err != nil {
		d.fail("database", err)
		return
	}
	d.add("database", verdictOK, "", "%d stations", status.Stations)
	if status.Server != nil {
		d.add("server", verdictOK, "", "version %s runs since %s with %d sessions", status.Server.Version, when(&status.Server.StartedAt), len(status.Sessions))
	} else {
		d.add("server", verdictOK, "", "none runs in this directory")
	}
	d.listeners(ctx, status.Server)
	limit := openFiles()
	if status.Server != nil {
		limit = status.Server.OpenFiles
	}
	d.descriptors(limit, status.Stations)
	d.clock(status.Newest)
	state, err := admin.Call[admin.VerifyLedger, admin.LedgerState](ctx, v, "ledger.verify", admin.VerifyLedger{})
	if err != nil {
		d.fail("ledger", err)
	} else {
		d.add("ledger", verdictOK, "", "%d entries, unbroken", state.Entries)
	}
	if _, err := admin.Call[admin.None, admin.None](ctx, v, "ca.check", admin.None{}); err != nil {
		d.fail("keys", err)
	} else {
		d.add("keys", verdictOK, "", "CA keys open and are those of their certificates")
	}
	d.restored(ctx, v)
	d.alerts(ctx, v)
	d.authority(ctx, v)
	d.expiring(ctx, v)
}

// Descriptors: each session has two sockets, and the lobby, the database and
// the rest want some. Below fewFiles even a small fleet is at risk when all of
// it reconnects.
const (
	filesPerStation = 2
	filesBeside     = 1024
	fewFiles        = 4096
)

// openFiles is this process's limit; 0: unknown. Go has raised it as far as
// the system lets it.
func openFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Cur
}

func (d *doctor) descriptors(limit uint64, stations int) {
	wanted := max(fewFiles, filesPerStation*uint64(stations)+filesBeside)
	switch {
	case limit == 0:
	case limit < wanted:
		d.add("open files", verdictWarn, fmt.Sprintf("raise the limit for the server: LimitNOFILE=%d in its systemd unit, or `ulimit -n %d` before it starts", wanted, wanted),
			"at most %d may be open: each connected station takes %d", limit, filesPerStation)
	default:
		d.add("open files", verdictOK, "", "at most %d, enough for %d stations", limit, stations)
	}
}

func (d *doctor) clock(newest *time.Time) {
	switch {
	case newest == nil:
	case time.Since(*newest) < -5*time.Minute:
		d.add("clock", verdictFail, "set the clock (NTP): nothing is signed, and rollouts wait, until it is right; if it is, and was ahead before, `bollard ca accept-clock`", "the clock is behind what is recorded, %s", when(newest))
	case time.Since(*newest) < 0:
		d.add("clock", verdictWarn, "look after the clock (NTP)", "the clock is a little behind what is recorded, %s", when(newest))
	default:
		d.add("clock", verdictOK, "", "ahead of everything recorded")
	}
}

// authority looks at the validity of the CA and where its root key lies.
func (d *doctor) authority(ctx context.Context, v admin.Invoker) {
	list, err := admin.Call[admin.None, admin.Hierarchies](ctx, v, "ca.show", admin.None{})
	if err != nil {
		d.fail("ca", err)
		return
	}
	for _, h := range list.Hierarchies {
		d.rollover(ctx, v, h.Kind)
		d.lists(ctx, v, h.Kind)
		if h.Kind == string(ca.KindCSMS) {
			d.organisation(h)
			d.policies(ctx, v, h)
		}
		for _, cert := range h.Certificates {
			d.validity("ca", h.Kind+" "+cert.Profile, cert.NotAfter, 365*24*time.Hour, "plan its successor: stations need the new root long before")
		}
	}
	held, err := admin.Call[admin.None, keyCustodies](ctx, v, "keys.custody", admin.None{})
	if err != nil {
		d.fail("keys", err)
		return
	}
	for _, k := range held.Keys {
		switch {
		case k.HSM && k.Fault != "":
			d.add("keys", verdictWarn, "see that it is there and answers", "the key of %s is in %s (%s), which says nothing of it now: %s", k.Name, keys.Holder(k.URI), k.URI, k.Fault)
		case k.HSM:
			d.add("keys", verdictOK, "", "the key of %s is in %s (%s); exportable: %s", k.Name, k.Holder, k.URI, k.Exportable)
		case k.Root != "":
			d.softRoot(k.keyPlace)
		default:
			d.add("keys", verdictWarn, "for more than trials keep the root's key apart from this machine, or have CAs below it issue with keys that never leave (`bollard keys migrate --to pkcs11:…`, `tpmkms:…`, `vault:…`, `awskms:…`)", "the key of %s is a file on this machine (%s)", k.Name, k.URI)
		}
	}
}

// softRoot says how the key of a root is taken away from this machine.
func (d *doctor) softRoot(k keyPlace) {
	advice := "`bollard ca request " + k.Root + "`, a ceremony with what it prints (docs/ceremony.md), then `bollard ca rollover " + k.Root + " start --chain FILE --list FILE`, and switch and finish"
	if !slices.Contains([]ca.Kind{ca.KindCSMS, ca.KindManufacturer, ca.KindAttestation}, ca.Kind(k.Root)) {
		advice = "have the hierarchy certified by a root of a ceremony instead (docs/ceremony.md), before cars trust this one"
	}
	d.add("keys", verdictWarn, advice, "the key of the root %s is a file on this machine (%s): whoever reads it is the CA for as long as the root is trusted", k.Name, k.URI)
}

// lists looks at the revocation lists of offline roots, which only people renew.
func (d *doctor) lists(ctx context.Context, v admin.Invoker, kind string) {
	out, err := admin.Call[admin.KindRef, admin.RootLists](ctx, v, "ca.lists", admin.KindRef{Kind: kind})
	if err != nil {
		d.fail("ca", err)
		return
	}
	for _, l := range out.Lists {
		advice := "a ceremony with `root: kept` signs another (docs/ceremony.md), `bollard ca import-list " + kind + " FILE` takes it in"
		if l.Until == nil {
			d.add("ca", verdictFail, advice, "there is no revocation list of %s", l.Root)
		} else {
			d.validity("ca", "the revocation list of "+l.Root, *l.Until, 60*24*time.Hour, advice)
		}
		for _, name := range l.Revokes {
			d.add("ca", verdictFail, "have it certified anew (`bollard ca request "+kind+"`, a ceremony, `bollard ca import-chain "+kind+" FILE`), or its key moved (`bollard keys migrate`)",
				"the revocation list of %s revokes %s: whoever reads it follows nothing that was issued below", l.Root, name)
		}
	}
}

// organisation: stations whose certificates name another one aren't let in (A00.FR.404).
func (d *doctor) organisation(h admin.Hierarchy) {
	name := pkix.Name{Organization: []string{d.cfg.Organisation}}.String()
	for _, cert := range h.Certificates {
		if !strings.Contains(","+cert.Subject+",", ","+name+",") {
			d.add("ca", verdictWarn, "put organisation: back as it was; stations with certificates under the old name are refused",
				"the %s %s says %s, bollard.yaml %s", h.Kind, cert.Profile, cert.Subject, name)
		}
	}
}

// policies says that nobody can demand those of assurance of a whole path, since the CA of
// stations was certified by an earlier version.
func (d *doctor) policies(ctx context.Context, v admin.Invoker, h admin.Hierarchy) {
	if d.cfg.Assurance == (config.Assurance{}) {
		return
	}
	var issuing admin.Certificate // the newest
	for _, cert := range h.Certificates {
		if cert.Profile == ca.ProfileIssuing && !cert.NotBefore.Before(issuing.NotBefore) {
			issuing = cert
		}
	}
	shown, err := admin.Call[admin.CertificateRef, admin.Certificate](ctx, v, "cert.show", admin.CertificateRef{Serial: issuing.Serial})
	if err != nil {
		d.fail("assurance", err)
		return
	}
	block, _ := pem.Decode([]byte(shown.PEM))
	if block == nil {
		d.fail("assurance", fmt.Errorf("certificate %s can't be read", issuing.Serial))
		return
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil:
		d.fail("assurance", fmt.Errorf("certificate %s can't be read: %w", issuing.Serial, err))
	case len(cert.Policies) == 0:
		d.add("assurance", verdictWarn, "its successor says anyPolicy: `bollard keys migrate --to URI`, or `bollard ca rollover csms start`; whoever looks for the policy in the station's certificate alone finds it",
			"%s asserts no policy: path validation that demands one of assurance finds no path below it (RFC 5280 §6.1)", cert.Subject)
	default:
		d.add("assurance", verdictOK, "", "%s lets policies of assurance be demanded of the paths below it", cert.Subject)
	}
}

// restored says when the records have a gap.
func (d *doctor) restored(ctx context.Context, v admin.Invoker) {
	state, err := admin.Call[admin.None, restoredState](ctx, v, "backup.state", admin.None{})
	switch {
	case err != nil:
		d.fail("restored", err)
	case state.Restored:
		d.add("restored", verdictOK, "", "from a backup: station certificates issued between %s and %s are recorded again when their stations connect", when(&state.BackedUpAt), when(&state.RestoredAt))
	}
}

// rollover tells of a root change that waits for its next step.
func (d *doctor) rollover(ctx context.Context, v admin.Invoker, kind string) {
	state, err := admin.Call[admin.Rollover, admin.RolloverState](ctx, v, "ca.rollover", admin.Rollover{Kind: kind, Step: "show"})
	if err != nil {
		d.fail("rollover", err)
		return
	}
	advice := "`bollard ca rollover " + kind + " %s` is the next step, once the stations have the new root"
	switch ca.Phase(state.Phase) {
	case ca.PhasePreparing:
		advice = "the command that began it goes on; `bollard ca rollover " + kind + " abort` gives up a start with a root made elsewhere"
	case ca.PhaseStarted:
		advice = fmt.Sprintf(advice, "switch")
	case ca.PhaseSwitched:
		advice = fmt.Sprintf(advice, "finish")
	default:
		return
	}
	d.add("rollover", verdictWarn, advice, "the change to root %d of %s is %s since %s", state.Generation, kind, state.Phase, when(state.At))
}

// alerts looks at who is told of findings, and what still waits to be told.
func (d *doctor) alerts(ctx context.Context, v admin.Invoker) {
	list, err := admin.Call[admin.AlertFilter, admin.Alerts](ctx, v, "alert.list", admin.AlertFilter{Limit: 1})
	switch {
	case err != nil:
		d.fail("alerts", err)
	case len(list.Receivers) == 0:
		d.add("alerts", verdictWarn, "give a webhook or a syslog receiver under alerts: in bollard.yaml; until then `bollard alert list` and the metrics show findings", "nobody is told of findings")
	}
	for _, r := range list.Receivers {
		switch {
		case r.Oldest != nil && time.Since(*r.Oldest) > time.Hour:
			d.add("alerts", verdictFail, "`bollard alert test "+r.Name+"` says what is wrong", "%d alerts wait for %s, the oldest since %s", r.Waiting, r.Name, when(r.Oldest))
		case r.Lost > 0:
			d.add("alerts", verdictWarn, "`bollard alert list` has the findings", "%d alerts were given up: %s didn't take them", r.Lost, r.Name)
		default:
			d.add("alerts", verdictOK, "", "%s: %d wait", r.Name, r.Waiting)
		}
	}
}

func (d *doctor) validity(check, what string, until time.Time, early time.Duration, advice string) {
	switch left := time.Until(until); {
	case left < 0:
		d.add(check, verdictFail, advice, "%s expired %s", what, when(&until))
	case left < early:
		d.add(check, verdictWarn, advice, "%s expires %s", what, when(&until))
	default:
		d.add(check, verdictOK, "", "%s is valid until %s", what, when(&until))
	}
}

// expiring: stations renew at two thirds of a year, so one that has less than
// a month left doesn't renew.
func (d *doctor) expiring(ctx context.Context, v admin.Invoker) {
	filter := admin.CertificateFilter{Profile: "station", Expiring: 30 * 24 * time.Hour}
	list, err := admin.Call[admin.CertificateFilter, admin.Certificates](ctx, v, "cert.list", filter)
	if err != nil {
		d.fail("certificates", err)
		return
	}
	if n := len(list.Certificates); n > 0 {
		d.add("certificates", verdictWarn, "`bollard cert list --expiring 30d` names them, `bollard station renew ID` asks for a CSR", "%d station certificates expire within 30 days", n)
		return
	}
	d.add("certificates", verdictOK, "", "no station certificate expires within 30 days")
}

// listeners: each address is the running server's, or free.
func (d *doctor) listeners(ctx context.Context, running *admin.Server) {
	if running != nil {
		d.add("listeners", verdictOK, "", "the server listens on %s", strings.Join(running.OCPP, ", "))
		return
	}
	wanted := map[string]string{"listen.pki": d.cfg.Listen.PKI, "listen.status": d.cfg.Listen.Status, "listen.admin": d.cfg.Listen.Admin, "listen.firmware": d.cfg.Listen.Firmware, "listen.sftp": d.cfg.Listen.SFTP, "listen.acme": d.cfg.Listen.ACME}
	keys := []string{"listen.pki", "listen.status", "listen.admin", "listen.firmware", "listen.sftp", "listen.acme"}
	for i, l := range d.cfg.Listen.OCPP {
		key := fmt.Sprintf("listen.ocpp[%d].address", i)
		wanted[key] = l.Address
		keys = append(keys, key)
	}
	for _, key := range keys {
		if wanted[key] == "" {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", wanted[key])
		if err != nil {
			d.add("listeners", verdictFail, "stop what uses it (`ss -ltnp` shows it) or change "+key, "%s %s can't be opened: %v", key, wanted[key], err)
			continue
		}
		_ = l.Close() // it was only to see whether it is free
		d.add("listeners", verdictOK, "", "%s %s is free", key, wanted[key])
	}
}

// files looks at what the configuration names.
func (d *doctor) files() {
	if _, err := readCertificateFiles(d.dir, d.cfg.Server); err != nil {
		d.fail("files", err)
	}
	for i, pair := range []config.CertFiles{d.cfg.Server.ECDSA, d.cfg.Server.RSA} {
		if pair.Certificate == "" {
			continue
		}
		key := [...]string{"server_certificate.ecdsa", "server_certificate.rsa"}[i]
		if cert, err := readLeaf(within(d.dir, pair.Certificate)); err == nil {
			d.validity("files", key, cert.NotAfter, 14*24*time.Hour, "replace the file, then send SIGHUP to the server")
		}
	}
	d.outside()
}

// outside looks at the certificates of server_certificate.acme.
func (d *doctor) outside() {
	if d.cfg.Server.ACME.Directory == "" {
		return
	}
	for _, algorithm := range outsideAlgorithms(d.cfg.Server.ACME) {
		what := fmt.Sprintf("server_certificate.acme (%s)", algorithm)
		last, err := subscriber.Until(filepath.Join(d.dir, outsideName), algorithm)
		switch {
		case err != nil:
			d.fail("files", err)
		case last.IsZero():
			d.add("files", verdictWarn, "the server's log says how the CA answered", "%s: there is no certificate yet, and the own CA's is shown", what)
		default:
			d.validity("files", what, last, 14*24*time.Hour, "the server's log says why the CA gives no further one")
		}
	}
}

func readLeaf(path string) (*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("there is no PEM certificate in %s", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

func (d *doctor) backend(ctx context.Context, b config.Backend, i int) {
	name := backendName(b, i)
	if _, err := gatewayBackend(d.dir, b); err != nil {
		d.fail("back end", fmt.Errorf("%s: %w", name, err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	if err := probeBackend(ctx, d.dir, b); err != nil {
		d.add("back end", verdictWarn, "stations are let in only while it answers", "%s (%s) doesn't answer: %v", name, b.URL, err)
		return
	}
	d.add("back end", verdictOK, "", "%s (%s) answers HTTP", name, b.URL)
}
