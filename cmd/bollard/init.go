package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ca"
	"bollard/internal/config"
	"bollard/keys"
	"bollard/store"
)

// initOptions are what a new data directory is made of.
type initOptions struct {
	dataDir      string
	organisation string
	country      string
	host         string           // "": localhost
	listen       string           // "": loopback and the default ports
	backend      string           // "": ws://127.0.0.1:9000/ocpp
	keys         string           // "": softkms:
	clock        func() time.Time // nil: time.Now
}

func (c *cli) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init --org NAME --country CC",
		Short: "Make a data directory: configuration, keys and the csms certificate hierarchy",
		Long: `Make a data directory: bollard.yaml with every listener written out, the
database, the keys and the csms certificate hierarchy. Nothing is overwritten.

Key files are encrypted if the environment has BOLLARD_KEY_PASSPHRASE, or with
--passphrase-stdin; serve needs one of them then too, or keys.passphrase_file in
bollard.yaml, or the systemd credential bollard-key-passphrase.

With --keys pkcs11:… the CA keys are made in a hardware security module and
never leave it, with --keys tpmkms:… in the TPM 2.0 of this machine. The PIN is
in the file that pin-source names (mode 0600) or in the environment variable
BOLLARD_HSM_PIN. With --keys vault:… they are made in the transit engine of a
HashiCorp Vault, with --keys awskms:… in the KMS of AWS (docs/keys.md). Keys of TLS
server certificates stay files: they are short-lived and used by every handshake.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			o.dataDir = c.data
			if err := initialise(ctx, o); err != nil {
				return err
			}
			made := struct {
				Data   string `json:"data"`
				Config string `json:"config"`
			}{c.data, filepath.Join(c.data, configName)}
			return c.print(made, func(w io.Writer) {
				fmt.Fprintf(w, "%s is ready. Look through %s, then:\n\n", made.Data, made.Config)
				data := shellWord(made.Data)
				fmt.Fprintf(w, "  bollard serve --data %s\n", data)
				fmt.Fprintf(w, "  bollard station add ID --serial SN --data %s\n", data)
				fmt.Fprintf(w, "  bollard ca root csms --data %s     the root that stations have to trust\n", data)
				if o.keys == "" || !keys.Held(o.keys) {
					fmt.Fprintf(w, "\nThe root's key is a file on this machine, good for trials: before stations come, `bollard doctor` says how to take it offline.\n")
				}
				if o.host == "" {
					fmt.Fprintf(w, "\nThe server certificate will say localhost: set host: in bollard.yaml to the name stations dial.\n")
				}
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.organisation, "org", "", "organisation: O of every certificate (required)")
	f.StringVar(&o.country, "country", "", "two-letter country: C of CA certificates (required)")
	f.StringVar(&o.host, "host", "", "name stations dial: CN and SAN of the server certificate (default localhost)")
	f.StringVar(&o.listen, "listen", "", "IP address of the listeners for stations, or IP:PORT: then OCPP takes\nPORT and PKI, firmware, admin and status the next four; 0: any free ones")
	f.StringVar(&o.backend, "backend", "", "URL of the back end (default ws://127.0.0.1:9000/ocpp)")
	f.StringVar(&o.keys, "keys", "", "where CA keys are made (default softkms:, files below the data directory);\nin an HSM: pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=/path/of/a/file\nin this machine's TPM: tpmkms:device=/dev/tpmrm0?pin-source=FILE\nin Vault: vault:address=https://HOST:8200?role-id-source=FILE&secret-id-source=FILE\nin AWS: awskms:region=REGION?credentials-source=FILE (docs/keys.md)")
	return cmd
}

// initialise makes a data directory. bollard.yaml comes last: where it stands,
// everything else does too.
func initialise(ctx context.Context, o initOptions) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	text, err := config.Render(cfg)
	if err != nil {
		return fmt.Errorf("couldn't write the configuration: %w", err)
	}
	// What serve will read is judged before anything is made.
	cfg, err = config.Parse(configName, text)
	if err != nil {
		return o.blame(err)
	}
	if err := makeDir(o.dataDir); err != nil {
		return err
	}
	lock, err := tryLock(o.dataDir)
	if errors.Is(err, errLocked) {
		return admin.Refusedf("give another --data", "another bollard works in %s", o.dataDir)
	}
	if err != nil {
		return err
	}
	defer lock.release()
	if err := refuseUsed(o.dataDir); err != nil {
		return err
	}
	if err := createContents(ctx, o.dataDir, cfg, o.clock); err != nil {
		return errors.Join(err, clearContents(o.dataDir))
	}
	// The name appears with the whole content behind it, or not at all.
	draft := filepath.Join(o.dataDir, configName+".new")
	if err := errors.Join(removeIfThere(draft), writeNew(draft, text)); err != nil {
		return err
	}
	if err := os.Rename(draft, filepath.Join(o.dataDir, configName)); err != nil {
		return fmt.Errorf("couldn't put the configuration in place: %w", err)
	}
	return syncDir(o.dataDir)
}

// clearContents takes away what a failed init has made, which nothing was issued from: the
// same command can be given again, mended. What is in a token stays there.
func clearContents(dir string) error {
	found, err := leftovers(dir)
	for _, name := range found {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err != nil {
		return fmt.Errorf("couldn't clear what was made: %w", err)
	}
	return nil
}

func createContents(ctx context.Context, dir string, cfg *config.File, clock func() time.Time) error {
	if clock == nil {
		clock = time.Now
	}
	if err := os.Mkdir(filepath.Join(dir, keysName), 0o700); err != nil {
		return fmt.Errorf("couldn't make the key directory: %w", err)
	}
	if err := createSealer(filepath.Join(dir, sealName)); err != nil {
		return err
	}
	keeper, err := openKeeper(ctx, dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, databaseName), Clock: clock})
	if err != nil {
		return errors.Join(err, keeper.Close())
	}
	err = ca.Init(ctx, ca.InitConfig{
		Store: db, Keeper: keeper, KeyBase: cfg.Keys.URI, Kind: ca.KindCSMS, StatusURL: statusURL(cfg),
		Organisation: cfg.Organisation, Country: cfg.Country,
		Actor: admin.OperatorName(os.Geteuid()), Clock: clock,
	})
	if err == nil {
		_, err = newNotary(db, keeper, cfg).Checkpoint(ctx)
	}
	return errors.Join(err, db.Close(), keeper.Close())
}

// config is the configuration with everything explicit that an operator may
// want to change.
func (o initOptions) config() (*config.File, error) {
	listen, err := o.listeners()
	if err != nil {
		return nil, err
	}
	base := o.keys
	if base == "" {
		base = keys.SchemeSoft + ":"
	}
	if _, err := keys.Join(base, "probe.key"); err != nil {
		return nil, admin.Usagef("give softkms:, softkms:DIRECTORY, pkcs11:module-path=/usr/lib/…/MODULE.so;token=LABEL?pin-source=/path/of/a/file, tpmkms:device=/dev/tpmrm0?pin-source=/path/of/a/file, vault:address=https://HOST:8200?… or awskms:region=REGION?… (docs/keys.md)", "--keys: %w", err)
	}
	cfg := &config.File{
		Organisation: o.organisation,
		Country:      o.country,
		Host:         o.host,
		Listen:       listen,
		Backends:     []config.Backend{{URL: o.backend}},
		Keys:         config.Keys{URI: base},
	}
	if cfg.Host == "" {
		cfg.Host = "localhost"
	}
	if o.backend == "" {
		cfg.Backends[0].URL = "ws://127.0.0.1:9000/ocpp"
	}
	switch {
	case strings.TrimSpace(o.organisation) == "":
		return nil, admin.Usagef("it becomes O of every certificate", "--org is missing")
	case o.country == "":
		return nil, admin.Usagef("two letters, such as DE; it becomes C of CA certificates", "--country is missing")
	}
	return cfg, nil
}

// listeners are loopback unless --listen says otherwise. The admin listener
// stays on loopback even then: it is for this machine's monitoring.
func (o initOptions) listeners() (config.Listen, error) {
	const usage = "give an IP address such as 0.0.0.0, or IP:PORT"
	host, ports := "127.0.0.1", [5]int{8443, 8444, 8445, 8446, 8080}
	if o.listen != "" {
		name, port, err := net.SplitHostPort(o.listen)
		if err != nil {
			name, port = strings.Trim(o.listen, "[]"), ""
		}
		if net.ParseIP(name) == nil {
			return config.Listen{}, admin.Usagef(usage, "--listen: %q is no IP address", name)
		}
		host = name
		if port != "" {
			first, err := strconv.Atoi(port)
			if last := 65536 - len(ports); err != nil || first < 0 || first > last {
				return config.Listen{}, admin.Usagef(usage, "--listen: %q is no port up to %d: the next four are taken, too", port, last)
			}
			for i := range ports {
				ports[i] = first + min(i, first*len(ports)) // 0 stays 0: any free port
			}
		}
	}
	local := host
	if !net.ParseIP(host).IsLoopback() {
		local = "127.0.0.1"
	}
	at := func(host string, i int) string { return net.JoinHostPort(host, strconv.Itoa(ports[i])) }
	return config.Listen{
		OCPP:     []config.OCPPListener{{Address: at(host, 0), Profiles: []int{2, 3}}},
		PKI:      at(host, 1),
		Firmware: at(host, 2),
		Admin:    at(local, 3),
		Status:   at(host, 4),
	}, nil
}

// blame says which flag a fault of the rendered configuration came from.
func (o initOptions) blame(err error) error {
	var wrong *config.Error
	if !errors.As(err, &wrong) {
		return err
	}
	flags := map[string]string{
		"organisation": "--org", "country": "--country", "host": "--host",
		"backends[0].url": "--backend", "keys.uri": "--keys", "listen.ocpp[0].address": "--listen",
	}
	if flag, ok := flags[wrong.Key]; ok {
		return admin.Usagef("", "%s: %s", flag, wrong.Text)
	}
	return admin.Usagef("", "%s: %s", wrong.Key, wrong.Text)
}

// makeDir makes the data directory 0700. One that exists must be empty or
// private already: modes of a directory in use are its owner's business.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return admin.Usagef("give a directory, or one that isn't there", "%s is a file", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("couldn't make the data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("couldn't look into the data directory: %w", err)
	}
	if len(entries) == 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("couldn't protect the data directory: %w", err)
		}
	}
	return checkPrivate(dir)
}

// leftovers are what init makes and finds in dir, in the order it is told.
func leftovers(dir string) ([]string, error) {
	var found []string
	for _, name := range []string{configName, databaseName, databaseName + "-wal", databaseName + "-shm", keysName, sealName} {
		switch _, err := os.Lstat(filepath.Join(dir, name)); {
		case err == nil:
			found = append(found, name)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("couldn't look into the data directory: %w", err)
		}
	}
	return found, nil
}

// removeLeftovers is the advice for a directory without a configuration. All
// files of the database go together: a new one must not meet an old log.
func removeLeftovers(dir string, found []string) string {
	var paths []string
	for _, name := range found {
		paths = append(paths, shellWord(filepath.Join(dir, name)))
	}
	return "an earlier init stopped half-way, or " + configName + " was moved away: bring that back; if nothing was ever issued from here, remove " +
		strings.Join(paths, " ") + " and run init again"
}

// refuseUsed keeps init from touching what exists, and says what a crash left.
func refuseUsed(dir string) error {
	found, err := leftovers(dir)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return nil
	case found[0] == configName:
		return admin.Refusedf("it is in use: `bollard serve --data "+shellWord(dir)+"` runs it; a new one needs another --data",
			"%s already has %s: nothing was changed", dir, strings.Join(found, ", "))
	default:
		return admin.Refusedf(removeLeftovers(dir, found),
			"%s has no %s but already has %s: nothing was changed", dir, configName, strings.Join(found, ", "))
	}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
