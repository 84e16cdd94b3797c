package e2e_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// signing is a station that wants a certificate for one CSR, however often the
// server dies meanwhile.
type signing struct {
	t        *testing.T
	s        *rawStation
	csr      string
	serial   string   // of the station
	accepted bool     // the CSR has been answered
	chains   []string // every chain delivered, in PEM
}

// request sends the CSR.
func (g *signing) request(id string) {
	g.t.Helper()
	csr, err := json.Marshal(g.csr)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = g.s.conn.WriteText(fmt.Appendf(nil, `[2,%q,"SignCertificate",{"csr":%s,"certificateType":"ChargingStationCertificate"}]`, id, csr))
}

// boot sends BootNotification, after which Bollard speaks up, and takes its
// answer.
func (g *signing) boot() {
	g.t.Helper()
	g.s.send(fmt.Sprintf(`[2,"boot","BootNotification",{"reason":"PowerUp","chargingStation":{"vendorName":"E2E","model":"Raw","serialNumber":%q}}]`, g.serial))
	if m := decode(g.t, g.s.next()); m.kind != 3 || m.id != "boot" {
		g.t.Fatalf("BootNotification: got %d %q %s", m.kind, m.id, m.action)
	}
}

// run takes messages until the connection ends, a chain has come, or nothing
// has come for quiet.
func (g *signing) run(quiet time.Duration) {
	g.t.Helper()
	for {
		var frame string
		select {
		case frame = <-g.s.frames:
		case <-g.s.ended:
			select {
			case frame = <-g.s.frames:
			default:
				return
			}
		case <-time.After(quiet):
			return
		}
		m := decode(g.t, frame)
		switch {
		case m.kind == 3:
			var answer struct {
				Status string `json:"status"`
			}
			err := json.Unmarshal(m.payload, &answer)
			if err != nil || answer.Status != "Accepted" {
				g.t.Fatalf("the CSR was answered with %s", frame)
			}
			g.accepted = true
		case m.kind == 2 && m.action == "CertificateSigned":
			var call struct {
				CertificateChain string `json:"certificateChain"`
			}
			err := json.Unmarshal(m.payload, &call)
			if err != nil {
				g.t.Fatalf("unreadable CertificateSigned %s: %v", frame, err)
			}
			g.chains = append(g.chains, call.CertificateChain)
			_ = g.s.conn.WriteText(fmt.Appendf(nil, `[3,%q,{"status":"Accepted"}]`, m.id))
			return
		case m.kind == 2:
			_ = g.s.conn.WriteText(fmt.Appendf(nil, `[4,%q,"NotSupported","",{}]`, m.id))
		default:
			g.t.Fatalf("unexpected answer %s", frame)
		}
	}
}

// Promise 7: kill -9 at each point between CSR and CertificateSigned. After the
// restart no signature is without a record, no serial exists twice, and the
// station gets its certificate: by itself if its CSR had been answered, after
// asking again with the same CSR otherwise.
func TestKilledBetweenCSRAndCertificate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"ca.after-intent", "ca.after-sign", "ca.after-issued",
		"fleet.order-accepted", "fleet.answered", "fleet.before-deliver", "fleet.after-deliver",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := startBackend(t)
			srv := newServer(t, backend.conf())
			srv.start() // the server certificates are issued here, not at the failpoint
			e := srv.enlist("killed", 2)
			srv.stop()

			srv.start("BOLLARD_FAILPOINT=" + name)
			csr, key := newCSR(t, e.serial)
			g := &signing{t: t, s: mustDial(t, srv, e, rawOptions{}), csr: csr, serial: e.serial}
			g.request("sign-1")
			g.run(patience)
			srv.proc.wait(t)
			state := srv.proc.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !state.Signaled() || state.Signal() != syscall.SIGKILL {
				t.Fatalf("the server ended with %v, not at the failpoint\n%s", srv.proc.err, tail(srv.proc.log.String(), 3000))
			}

			srv.start()
			g.s = mustDial(t, srv, e, rawOptions{})
			g.boot()
			if !g.accepted {
				g.request("sign-2")
			}
			if len(g.chains) == 0 {
				g.run(patience)
			} else {
				g.run(time.Second) // a second delivery of the same is allowed
			}
			if len(g.chains) == 0 {
				t.Fatalf("the station (CSR answered before the kill: %t) never got its certificate", g.accepted)
			}
			checkRecords(t, srv, e, g.chains)

			// And it works: the station comes back with it on profile 3.
			e.cert, e.key = filepath.Join(srv.dir, "got.crt"), filepath.Join(srv.dir, "got.key")
			srv.write(e.cert, g.chains[0])
			srv.write(e.key, key)
			mustDial(t, srv, e, rawOptions{}).heartbeat("proven")
			var detail struct {
				Session *struct {
					Profile int `json:"profile"`
				} `json:"session"`
			}
			srv.cliJSON(&detail, "station", "show", e.identity)
			if detail.Session == nil || detail.Session.Profile != 3 {
				t.Errorf("station show: session %+v, want profile 3", detail.Session)
			}
		})
	}
}

// checkRecords: every certificate the station holds is recorded, byte for byte,
// as issued; no serial is there twice; all delivered chains are one and the
// same certificate; the ledger verifies.
func checkRecords(t *testing.T, srv *server, e enlisted, chains []string) {
	t.Helper()
	serials := map[string]bool{}
	issued := 0
	for _, c := range srv.certificates() {
		if serials[c.Serial] {
			t.Errorf("serial %s is there twice", c.Serial)
		}
		serials[c.Serial] = true
		if c.State == "intended" {
			t.Errorf("certificate %s is still only intended after a restart", c.Serial)
		}
		if c.Profile == "station" && c.State == "issued" {
			issued++
		}
	}
	if issued != 1 {
		t.Errorf("%d station certificates are issued for one CSR, want 1", issued)
	}
	held := map[string]bool{}
	for _, chain := range chains {
		block, _ := pem.Decode([]byte(chain))
		if block == nil {
			t.Fatalf("the station got no PEM: %.100q", chain)
		}
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if leaf.Subject.CommonName != e.serial {
			t.Errorf("CN is %q, want the registered serial %q", leaf.Subject.CommonName, e.serial)
		}
		serial := hex.EncodeToString(leaf.SerialNumber.FillBytes(make([]byte, 16)))
		held[serial] = true
		var rec certificate
		srv.cliJSON(&rec, "cert", "show", serial)
		if rec.State != "issued" || strings.TrimSpace(rec.PEM) != strings.TrimSpace(string(pem.EncodeToMemory(block))) {
			t.Errorf("the record of %s is %q and not what the station holds", serial, rec.State)
		}
	}
	if len(held) != 1 {
		t.Errorf("the station was given %d different certificates for one CSR", len(held))
	}
	out, errs, code := srv.try("", "ledger", "verify")
	if code != 0 {
		t.Errorf("ledger verify: exit code %d\n%s%s", code, out, errs)
	}
}
