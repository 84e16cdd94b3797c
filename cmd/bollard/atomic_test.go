package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/admin"
	"bollard/fleet"
	"bollard/ledger"
)

// Every command that decides something is cut off at each row it writes, and the
// database looked at: an effect is never there without its entry, nor an entry
// without its effect.
func TestCommandsAndTheirEntriesAreOne(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	known := undecided()
	for _, d := range decisions() {
		known = append(known, d.op)
		f.sweep(&d)
	}
	slices.Sort(known)
	for _, name := range f.registry.Names() {
		if !slices.Contains(known, name) {
			t.Errorf("operation %s: does it decide anything?", name)
		}
	}
}

// faulty is a data directory whose database notes the rows that are written, in
// order, and fails at the one it is told.
type faulty struct {
	t        *testing.T
	offline  *admin.ImportList // of the one offline root
	db       *sql.DB
	app      *app
	registry *admin.Registry
	maker    *maker
	keys     string // folder of the approver's key
	n        int
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	dir := newDataDir(t, "")
	f := &faulty{t: t, maker: newMaker(t), keys: t.TempDir()}
	f.keygen("-q", "-N", "", "-t", "ed25519", "-C", "alice", "-f", filepath.Join(f.keys, "alice"))
	public, err := os.ReadFile(filepath.Join(f.keys, "alice.pub"))
	if err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, configName), "country: NL", fmt.Sprintf("country: NL\napprovers: [{name: alice, ssh: [%q]}]\napprovals: [{action: station.downgrade, needed: 1}, {action: firmware.publish, needed: 1}, {action: firmware.resume, needed: 1}]",
		strings.TrimSpace(string(public))))
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	f.app, f.registry = a, a.operations()
	if f.db, err = sql.Open("sqlite3", "file:"+filepath.Join(dir, databaseName)+"?_busy_timeout=5000"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	f.watch()
	f.call("ca.trust.add", admin.AddTrust{Use: "manufacturer", PEM: []byte(certPEM(f.maker.root))}, nil)
	return f
}

// watch has every table note its rows, but meta, which a transaction touches
// whatever it is about.
func (f *faulty) watch() {
	f.exec("CREATE TABLE watched (at INTEGER PRIMARY KEY, row TEXT NOT NULL)")
	f.exec("CREATE TABLE fault (at INTEGER NOT NULL)")
	f.exec("INSERT INTO fault VALUES (0)")
	rows, err := f.db.QueryContext(f.t.Context(), `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'goose_%' AND name NOT IN ('meta', 'watched', 'fault')`)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			f.t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil || !slices.Contains(tables, "ledger") || !slices.Contains(tables, "stations") {
		f.t.Fatalf("tables %v: %v", tables, err)
	}
	for _, name := range tables {
		for _, change := range []string{"INSERT", "UPDATE", "DELETE"} {
			note := "'" + name + "'"
			if name == "ledger" {
				note = "'entry ' || NEW.kind"
				if change == "DELETE" {
					continue
				}
			}
			f.exec(fmt.Sprintf(`CREATE TRIGGER watch_%s_%s AFTER %s ON %s BEGIN INSERT INTO watched (row) VALUES (%s);
				SELECT RAISE(ABORT, 'cut off') WHERE (SELECT COUNT(*) FROM watched) = (SELECT at FROM fault); END`, name, change, change, name, note))
		}
	}
}

func (f *faulty) exec(statement string, args ...any) {
	f.t.Helper()
	if _, err := f.db.ExecContext(f.t.Context(), statement, args...); err != nil {
		f.t.Fatalf("%s: %v", statement, err)
	}
}

// cut runs an operation that fails at its nth row (0: at none) and returns the
// rows that are there then.
func (f *faulty) cut(n int, op string, in any) (rows []string, err error) {
	f.t.Helper()
	f.exec("DELETE FROM watched")
	f.exec("UPDATE fault SET at = ?", n)
	raw, err := json.Marshal(in)
	if err != nil {
		f.t.Fatal(err)
	}
	_, failed := f.registry.Invoke(admin.WithActor(f.t.Context(), "operator:root"), op, raw)
	f.exec("UPDATE fault SET at = 0")
	list, err := f.db.QueryContext(f.t.Context(), "SELECT row FROM watched ORDER BY at")
	if err != nil {
		f.t.Fatal(err)
	}
	defer list.Close()
	for list.Next() {
		var row string
		if err := list.Scan(&row); err != nil {
			f.t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if err := list.Err(); err != nil {
		f.t.Fatal(err)
	}
	return rows, failed
}

// sweep cuts a command off at its first row, its second, … until it is through.
// Rows that are lost together are of one transaction.
func (f *faulty) sweep(d *decision) {
	f.t.Helper()
	var begins []int // by row: how many rows there were before its transaction
	for n := 1; ; n++ {
		f.n++
		in := d.with(f, fmt.Sprintf("CS-%d", f.n))
		if d.uncut {
			n = 0
		}
		rows, err := f.cut(n, d.op, in)
		if err == nil {
			if !d.once && len(rows) != n-1 {
				f.t.Errorf("%s: failed silently at row %d: %v", d.op, n, rows)
			}
			f.judge(d, rows, begins)
			return
		}
		if !strings.Contains(err.Error(), "cut off") {
			f.t.Fatalf("%s (%s), cut off at row %d: %v", d.op, d.kind, n, err)
		}
		begins = append(begins, len(rows))
		if d.once { // it goes on there: what it left must be whole
			if why := whole(d, rows); why != "" {
				f.t.Errorf("%s (%s), cut off at row %d, left %v: %s", d.op, d.kind, n, rows, why)
			}
		}
	}
}

func (f *faulty) judge(d *decision, rows []string, begins []int) {
	f.t.Helper()
	if !slices.Contains(rows, "entry "+d.kind) {
		f.t.Errorf("%s left %v, no entry %s", d.op, rows, d.kind)
	}
	if d.once {
		if why := whole(d, rows); why != "" {
			f.t.Errorf("%s (%s) left %v: %s", d.op, d.kind, rows, why)
		}
		return
	}
	for first := 0; first < len(rows); {
		end := first
		for end < len(rows) && begins[end] == first {
			end++
		}
		if end == first {
			f.t.Errorf("%s (%s): row %d of %v is lost with %d before it", d.op, d.kind, first+1, rows, first-begins[first])
			return
		}
		if why := whole(d, rows[first:end]); why != "" {
			f.t.Errorf("%s (%s): transaction %v of %v: %s", d.op, d.kind, rows[first:end], rows, why)
		}
		first = end
	}
}

// whole says why rows aren't effects with their entries: of one transaction in any
// order, of several with the entries behind.
func whole(d *decision, rows []string) string {
	effects, entries, after := 0, 0, 0
	for _, row := range rows {
		switch {
		case strings.HasPrefix(row, "entry "):
			entries++
			after = 0
		case row == "people" && d.op != "ledger.forget" || row == "ledger_checkpoints" || row == "plans" && d.plans: // nothing is decided there
		default:
			effects++
			after++
		}
	}
	switch {
	case effects > 0 && entries == 0 || d.once && after > 0:
		return "an effect without an entry"
	case entries > 0 && effects == 0 && !d.alone:
		return "an entry without an effect"
	}
	return ""
}

// call runs an operation that nothing cuts off.
func (f *faulty) call(op string, in, out any) {
	f.t.Helper()
	raw, err := json.Marshal(in)
	if err != nil {
		f.t.Fatal(err)
	}
	answer, err := f.registry.Invoke(admin.WithActor(f.t.Context(), "operator:root"), op, raw)
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		f.t.Fatalf("%s: %v", op, err)
	}
}

func (f *faulty) station(id string, profile int) string {
	f.call("station.add", admin.Enrolment{Identity: id, Serial: "SN-" + id, Profile: profile}, nil)
	return id
}

// seen is what a session would leave.
func (f *faulty) seen(id string) {
	f.t.Helper()
	if _, err := f.app.store.UpdateStation(f.t.Context(), strings.ToLower(id), func(st *fleet.Station) ([]ledger.Event, error) {
		st.SeenProfile, st.SeenAt, st.Version = 2, time.Now(), "2.0.1"
		return nil, nil
	}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *faulty) certificate(id string) (serial string) {
	var out admin.Issued
	f.call("ca.issue", admin.Issue{Profile: "station", Station: id, CSR: request(f.t, id)}, &out)
	return out.Certificate.Serial
}

func (f *faulty) keygen(args ...string) {
	f.t.Helper()
	if out, err := exec.CommandContext(context.Background(), "ssh-keygen", args...).CombinedOutput(); err != nil {
		f.t.Fatalf("ssh-keygen %v: %v: %s", args, err, out)
	}
}

func (f *faulty) sign(statement string) []byte {
	f.t.Helper()
	f.n++
	path := filepath.Join(f.keys, fmt.Sprint("statement", f.n))
	if err := os.WriteFile(path, []byte(statement), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.keygen("-q", "-Y", "sign", "-n", "bollard-approval", "-f", filepath.Join(f.keys, "alice"), path)
	signature, err := os.ReadFile(path + ".sig")
	if err != nil {
		f.t.Fatal(err)
	}
	return signature
}

func ptr[T any](v T) *T { return &v }

func request(t *testing.T, id string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-" + id, Organization: []string{"Example CPO"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// root is an outside one.
func root(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root", Organization: []string{"Maker"}}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
