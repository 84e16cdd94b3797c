package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bollard/e2e/rawws"
)

// Promises 1 and 2: whoever isn't the station disturbs nothing. The live
// session keeps its socket, its pings and its back-end connection, and the back
// end sees neither a connection nor a byte of the attacker.
func TestImpostorsDisturbNothing(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	victims := map[string]enlisted{"on a password": srv.enlist("victim-2", 2), "on a certificate": srv.enlist("victim-3", 3)}
	other := srv.enlist("other", 3)
	for name, victim := range victims {
		forged := selfSigned(t, srv, victim)
		attacks := map[string]rawOptions{
			"wrong password":                            {password: "0123456789abcdef0123"},
			"other station's certificate":               {cert: other.cert, key: other.key},
			"self-signed certificate of the right name": {cert: forged.cert, key: forged.key},
			"nothing at all":                            {noAuth: true},
		}
		t.Run("victim "+name, func(t *testing.T) {
			live, upstream := backend.session(t, srv, victim, rawOptions{})
			live.heartbeat("before")
			connections := backend.acceptedConnections()
			for attack, o := range attacks {
				for range 5 {
					s, err := dialRaw(t, srv, victim, o)
					if err == nil {
						s.conn.Net.Close()
						t.Fatalf("%s: let in", attack)
					}
					var refused *rawws.HandshakeError
					if errors.As(err, &refused) && refused.Status != 401 && refused.Status != 403 {
						t.Errorf("%s: %v, want 401", attack, err)
					}
				}
			}
			// Nothing tells an unknown identity from a known one (A00.FR.204).
			for what, o := range map[string]rawOptions{
				"password": {password: "0123456789abcdef0123"}, "certificate": {cert: other.cert, key: other.key},
			} {
				_, known := dialRaw(t, srv, victim, o)
				_, unknown := dialRaw(t, srv, enlisted{identity: "nobody"}, o)
				if known == nil || unknown == nil || known.Error() != unknown.Error() {
					t.Errorf("wrong %s: %v for a known identity, %v for an unknown one", what, known, unknown)
				}
			}
			seen := live.conn.Pings.Load()
			live.heartbeat("after")
			eventually(t, "the live session is still pinged", func() bool { return live.conn.Pings.Load() > seen })
			if !live.alive() {
				t.Errorf("the live session ended: %v", live.reason())
			}
			if got := backend.acceptedConnections(); got != connections {
				t.Errorf("the back end got %d connections more", got-connections)
			}
			if got := upstream.received(); len(got) != 2 {
				t.Errorf("the back end got %q, want the victim's two Heartbeats", got)
			}
			live.conn.Net.Close()
		})
	}
}

// selfSigned is a certificate with the victim's names and nobody's signature.
func selfSigned(t *testing.T, srv *server, victim enlisted) enlisted {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: pkix.Name{CommonName: victim.serial, Organization: []string{"E2E"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	out := enlisted{cert: filepath.Join(srv.dir, "forged-"+victim.identity+".crt"), key: filepath.Join(srv.dir, "forged-"+victim.identity+".key")}
	srv.write(out.cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	srv.write(out.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return out
}

// 1,000 parallel handshakes of one identity, all of them proven: the back end
// has one connection of it at every instant, and the last one proven lives.
func TestOneIdentityHasOneSession(t *testing.T) {
	t.Parallel()
	backend := startBackend(t)
	srv := newServer(t, backend.conf())
	srv.start()
	e := srv.enlist("crowd", 3)
	const handshakes, atOnce = 1000, 50
	work := make(chan int)
	var mu sync.Mutex
	let := 0
	refusals := map[string]int{}
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for range work {
				s, err := dialRaw(t, srv, e, rawOptions{})
				mu.Lock()
				if err == nil {
					let++
					_ = s // stays open until another displaces it
				} else {
					refusals[err.Error()]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range handshakes {
		work <- i
	}
	close(work)
	workers.Wait()
	if let == 0 {
		t.Fatal("nobody was let in")
	}
	s := mustDial(t, srv, e, rawOptions{})
	s.heartbeat("last")
	backend.mu.Lock()
	most := backend.most["crowd"]
	backend.mu.Unlock()
	if most != 1 {
		t.Errorf("the back end had %d connections of one identity at once", most)
	}
	t.Logf("%d of %d handshakes were let in, the others: %v", let, handshakes, refusals)
}
