package fleet_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"

	"bollard/fleet"
	"bollard/ocpp"
)

func smallKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// A key on P-224 is for the models that are named, over TLS 1.2, at both doors.
func TestP224ForNamedModels(t *testing.T) { // A00.FR.503, A02.FR.12
	t.Parallel()
	r := newRig(t)
	r.p224 = []fleet.Model{{Vendor: "acme", Model: "Old*"}}
	r.restart()
	d := r.est()
	for _, tt := range []struct {
		name, vendor, model string
		tls13               bool
		reason              string // "": accepted
	}{
		{"named", "Acme", "old 7", false, ""},
		{"another model", "Acme", "New 1", false, "p224 in bollard.yaml"},
		{"another vendor", "Emca", "Old 7", false, "p224 in bollard.yaml"},
		{"unknown model", "", "", false, "p224 in bollard.yaml"},
		{"over TLS 1.3", "ACME", "OLD 8", true, "TLS 1.3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			id := "CS " + tt.name
			id = strings.ReplaceAll(strings.ReplaceAll(id, " ", "-"), ".", "")
			c := withPassword(claim(t, id), r.add(fleet.Enrolment{Identity: id, Vendor: tt.vendor, Model: tt.model}))
			c.TLS13 = tt.tls13
			s := r.open(r.admit(c), ocpp.V201)
			v := s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, smallKey(t), "SN-"+id))
			if tt.reason != "" {
				if !strings.Contains(status(v), "Rejected") || !strings.Contains(v.Reason, tt.reason) {
					t.Errorf("SignCertificate: %+v", v)
				}
			} else {
				r.waitOrder(id, fleet.OrderDelivered)
			}
			if tt.tls13 {
				return // EST can't tell how the station comes to the other door
			}
			a := d.ask("simpleenroll", csrDER(t, smallKey(t), "SN-"+id, organisation), d.secret(id))
			if want := map[bool]int{true: 200, false: 400}[tt.reason == ""]; a.status != want {
				t.Errorf("EST: %d %s", a.status, a.body)
			}
		})
	}
}

// Such a certificate proves its station over TLS 1.2; a client offers none over
// TLS 1.3, which is why it isn't issued there.
func TestP224ProvesItsStationOverTLS12(t *testing.T) { // A00.FR.503
	t.Parallel()
	r := newRig(t)
	r.p224 = []fleet.Model{{Model: "Old"}}
	r.restart()
	password := r.add(fleet.Enrolment{Identity: "CS-1", Model: "Old"})
	s := r.open(r.admit(withPassword(claim(t, "CS-1"), password)), ocpp.V201)
	key := smallKey(t)
	s.message(ocpp.FromStation, "SignCertificate", csrPayload(t, key, "SN-CS-1"))
	r.waitOrder("CS-1", fleet.OrderDelivered)
	chain := chainOf(t, s.sent("CertificateSigned")[0])
	if shown := shownOver(t, tls.VersionTLS13, chain, key); len(shown) != 0 {
		t.Error("TLS 1.3 took a certificate on P-224: TLS 1.2 needn't be asked for any more")
	}
	shown := shownOver(t, tls.VersionTLS12, chain, key)
	if len(shown) == 0 {
		t.Fatal("TLS 1.2 took no certificate")
	}
	if adm := r.admit(withCertificates(claim(t, "CS-1"), shown...)); adm.Profile != 3 {
		t.Errorf("admitted on profile %d", adm.Profile)
	}
}

// shownOver is what a server sees of a client's certificates.
func shownOver(t *testing.T, version uint16, chain []*x509.Certificate, key *ecdsa.PrivateKey) []*x509.Certificate {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	pair := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	own := newMaker(t, chain[0].NotBefore)
	server := tls.Server(far, &tls.Config{ClientAuth: tls.RequestClientCert, Certificates: []tls.Certificate{{Certificate: [][]byte{own.Cert.Raw}, PrivateKey: own.Key}}})
	client := tls.Client(near, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, Certificates: []tls.Certificate{pair}})
	ended := make(chan error, 1)
	go func() { ended <- client.HandshakeContext(t.Context()) }()
	if err := server.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return server.ConnectionState().PeerCertificates
}
