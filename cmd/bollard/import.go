package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/fleet"
	"bollard/iso15118/identifier"
)

// Limits of an import file.
const (
	maxImport       = 32 << 20 // bytes
	maxStations     = 100_000  // their request fits the socket's
	maxImportErrors = 20
)

func (c *cli) stationImport() *cobra.Command {
	passwordsOut, oneTime, reuse := "", false, false
	cmd := &cobra.Command{
		Use:   "import FILE.csv",
		Short: "Enrol many stations, all or none",
		Long: `Enrol many stations, all or none. The first line names the columns, in any
order: identity, serial, profile, vendor, model and, where wanted, password
(hex:… for raw bytes), cert_sha256, key_sha256 (of a maker's
certificate and its public key), tpm (its TPM's endorsement key: the SHA-256 of its
SubjectPublicKeyInfo, or a file beside the import file with the key or its
certificate), alias, group, site, hardware, secc (SECC
identifiers toward cars, each with its EVSE: DE*ABC*E1=1;DE*ABC*E2=2, or one
without for the whole station). An empty password is
generated for profiles 1 and 2 and told once: in --passwords-out FILE, else on
standard output.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			stations, err := readImport(args[0])
			if err != nil {
				return err
			}
			for i := range stations {
				stations[i].OneTime, stations[i].Reuse = oneTime, reuse
			}
			return c.importStations(ctx, stations, passwordsOut)
		}),
	}
	cmd.Flags().StringVar(&passwordsOut, "passwords-out", "", "new file for the generated passwords (CSV, 0600)")
	cmd.Flags().BoolVar(&oneTime, "one-time", false, "have each station replace its password at first contact by one nobody is told (A01)")
	cmd.Flags().BoolVar(&reuse, "reuse", false, "identities may be ones that were decommissioned")
	return cmd
}

func (c *cli) importStations(ctx context.Context, stations []admin.Enrolment, passwordsOut string) (err error) {
	var file *os.File
	if passwordsOut != "" {
		// Made first: that it can be written must be known before passwords exist.
		file, err = os.OpenFile(passwordsOut, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, os.ErrExist) {
			return admin.Usagef("name a new file, it is never overwritten", "%s exists already", passwordsOut)
		}
		if err != nil {
			return admin.Usagef("", "couldn't create the file for the passwords: %w", err)
		}
		defer file.Close() // for errors on the way; the good one is below
	}
	out, err := call[admin.Import, admin.Imported](ctx, c, "station.import", admin.Import{Stations: stations})
	if err != nil {
		if file != nil {
			err = errors.Join(err, os.Remove(passwordsOut))
		}
		return err
	}
	if file != nil {
		if err := writePasswords(file, out.Stations); err != nil {
			return admin.Failedf("the stations are enrolled; `bollard station password ID` makes new passwords", "couldn't write the passwords: %w", err)
		}
		for i := range out.Stations {
			out.Stations[i].Password = "" // told in the file, once
		}
	}
	return c.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "added %d stations\n", len(out.Stations))
		if file == nil && slices.ContainsFunc(out.Stations, func(s admin.Enrolled) bool { return s.Password != "" }) {
			_ = passwordCSV(w, out.Stations) // a bytes.Buffer takes everything
		}
	})
}

func writePasswords(f *os.File, stations []admin.Enrolled) error {
	return errors.Join(passwordCSV(f, stations), f.Sync(), f.Close())
}

func passwordCSV(w io.Writer, stations []admin.Enrolled) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"identity", "password"}) // Flush's Error tells
	for _, s := range stations {
		if s.Password != "" {
			_ = out.Write([]string{s.Identity, s.Password})
		}
	}
	out.Flush()
	return out.Error()
}

func readImport(path string) ([]admin.Enrolment, error) {
	if err := wantFile(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxImport {
		return nil, admin.Usagef("split it", "%s is larger than %d MiB", path, maxImport>>20)
	}
	stations, err := parseImport(path, io.LimitReader(f, maxImport))
	if err != nil {
		return nil, err
	}
	return stations, readTPMs(path, stations)
}

// importColumns are the known columns; false: may be left out.
func importColumns() map[string]bool {
	return map[string]bool{
		"identity": true, "serial": true, "profile": true, "vendor": true, "model": true,
		"password": false, "cert_sha256": false, "alias": false, "key_sha256": false, "group": false, "site": false, "hardware": false, "secc": false, "tpm": false,
	}
}

// parseImport reads an import file. Errors name their lines, at most
// maxImportErrors of them, and never repeat a password.
func parseImport(name string, r io.Reader) ([]admin.Enrolment, error) {
	rows := csv.NewReader(r)
	rows.ReuseRecord = true
	head, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, admin.Usagef("the first line names the columns", "%s is empty", name)
	}
	if err != nil {
		return nil, admin.Usagef("the first line names the columns", "%s: couldn't read the header: %w", name, err)
	}
	head = slices.Clone(head)
	head[0] = strings.TrimPrefix(head[0], "\ufeff") // spreadsheets put a byte order mark
	for i := range head {
		head[i] = strings.TrimSpace(head[i])
	}
	if err := checkColumns(name, head); err != nil {
		return nil, err
	}
	var stations []admin.Enrolment
	var faults importFaults
	seen, serials, seccs := map[string]int{}, map[string]int{}, map[string]int{}
	for {
		cells, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			line, reason := 0, err.Error()
			var p *csv.ParseError
			if errors.As(err, &p) {
				line, reason = p.StartLine, p.Err.Error()
			}
			faults.add(line, reason)
			if errors.Is(err, csv.ErrFieldCount) {
				continue
			}
			break // after a broken quote nothing more can be told apart
		}
		line, _ := rows.FieldPos(0)
		s, fault := parseRow(head, cells)
		if first, twice := seen[strings.ToLower(s.Identity)]; twice && fault == "" {
			fault = fmt.Sprintf("identity %q is in line %d already", s.Identity, first)
		}
		for _, serial := range []string{s.Serial, s.Alias} {
			if first, twice := serials[serial]; twice && serial != "" && fault == "" {
				fault = fmt.Sprintf("serial number %q is in line %d already", serial, first)
			}
		}
		for _, secc := range s.SECCs {
			if first, twice := seccs[strings.ToLower(secc.ID)]; twice && fault == "" {
				fault = fmt.Sprintf("SECC identifier %q is in line %d already", secc.ID, first)
			}
		}
		if fault == "" && len(stations) == maxStations {
			faults.add(line, fmt.Sprintf("more than %d stations: split the file", maxStations))
			break
		}
		if fault != "" {
			faults.add(line, fault)
			continue
		}
		seen[strings.ToLower(s.Identity)], serials[s.Serial] = line, line
		if s.Alias != "" {
			serials[s.Alias] = line
		}
		for _, secc := range s.SECCs {
			seccs[strings.ToLower(secc.ID)] = line
		}
		s.Line = line
		stations = append(stations, s)
	}
	if err := faults.err(name); err != nil {
		return nil, err
	}
	if len(stations) == 0 {
		return nil, admin.Usagef("each line after the header is a station", "%s has no stations", name)
	}
	return stations, nil
}

func checkColumns(name string, head []string) error {
	columns := importColumns()
	const hint = "columns are identity,serial,profile,vendor,model[,password][,cert_sha256][,key_sha256][,alias][,group][,site][,hardware][,secc][,tpm]"
	for i, column := range head {
		if _, known := columns[column]; !known {
			return admin.Usagef(hint, "%s:1: unknown column %q", name, column)
		}
		if slices.Contains(head[:i], column) {
			return admin.Usagef(hint, "%s:1: column %q is there twice", name, column)
		}
	}
	for _, column := range []string{"identity", "serial", "profile", "vendor", "model"} {
		if !slices.Contains(head, column) {
			return admin.Usagef(hint, "%s:1: column %q is missing", name, column)
		}
	}
	return nil
}

// parseSECCs reads what cars may know a station by: ID=EVSE;ID=EVSE…, an ID alone for
// the whole station.
func parseSECCs(cell string) (list []fleet.SECC, fault string) {
	for one := range strings.FieldsFuncSeq(cell, func(r rune) bool { return r == ';' || r == ' ' }) {
		id, number, numbered := strings.Cut(one, "=")
		secc := fleet.SECC{ID: id}
		if numbered {
			var err error
			if secc.EVSE, err = strconv.Atoi(number); err != nil || secc.EVSE < 1 {
				return nil, fmt.Sprintf("secc has EVSE %.20q, which is no number from 1 up", number)
			}
		}
		if err := identifier.CheckSECC(id); err != nil {
			return nil, "secc: " + err.Error()
		}
		if slices.ContainsFunc(list, func(other fleet.SECC) bool { return strings.EqualFold(other.ID, id) }) {
			return nil, fmt.Sprintf("secc has %q twice", id)
		}
		list = append(list, secc)
	}
	return list, ""
}

// writeSECCs is what parseSECCs reads.
func writeSECCs(list []fleet.SECC) string {
	var parts []string
	for _, secc := range list {
		if secc.EVSE > 0 {
			parts = append(parts, secc.ID+"="+strconv.Itoa(secc.EVSE))
		} else {
			parts = append(parts, secc.ID)
		}
	}
	return strings.Join(parts, ";")
}

// parseRow returns what is wrong with a line, or "".
func parseRow(head, cells []string) (admin.Enrolment, string) {
	var s admin.Enrolment
	for i, column := range head {
		cell := cells[i]
		if !utf8.ValidString(cell) { // on the way to a server it would silently become another text
			return s, column + " is not UTF-8; save the file as UTF-8"
		}
		if column != "password" { // in which spaces count
			cell = strings.TrimSpace(cell)
		}
		switch column {
		case "identity":
			s.Identity = cell
		case "serial":
			s.Serial = cell
		case "vendor":
			s.Vendor = cell
		case "model":
			s.Model = cell
		case "alias":
			s.Alias = cell
		case "key_sha256":
			s.FactoryKey = strings.ToLower(cell)
		case "group":
			s.Group = cell
		case "site":
			s.Site = cell
		case "hardware":
			s.Hardware = cell
		case "secc":
			var fault string
			if s.SECCs, fault = parseSECCs(cell); fault != "" {
				return s, fault
			}
		case "tpm":
			s.EK = cell // readTPMs looks what it is
		case "cert_sha256":
			s.FactoryHash = strings.ToLower(cell)
		case "profile":
			n, err := strconv.Atoi(cell)
			if err != nil || n < 1 || n > 3 {
				return s, fmt.Sprintf("profile is %.20q, not 1, 2 or 3", cell)
			}
			s.Profile = n
		case "password":
			if cell == "" {
				continue
			}
			password, err := stationPassword([]byte(cell))
			if err != nil {
				return s, err.Error()
			}
			s.Password = password
		}
	}
	switch {
	case s.Identity == "":
		return s, "identity is empty"
	case s.Serial == "":
		return s, "serial is empty"
	}
	return s, ""
}

// importFaults collects what is wrong with a file, line by line.
type importFaults struct {
	texts []string
	more  int
}

func (f *importFaults) add(line int, text string) {
	if len(f.texts) == maxImportErrors {
		f.more++
		return
	}
	f.texts = append(f.texts, fmt.Sprintf("line %d: %s", line, text))
}

func (f *importFaults) err(name string) error {
	if len(f.texts) == 0 {
		return nil
	}
	if f.more > 0 {
		f.texts = append(f.texts, fmt.Sprintf("and %d more lines", f.more))
	}
	return admin.Refusedf("nothing was added; mend the lines and repeat", "%s:\n%s", name, strings.Join(f.texts, "\n"))
}
