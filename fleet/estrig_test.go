package fleet_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"bollard/ca"
	"bollard/ca/est"
	"bollard/fleet"
)

// estDoor is the rig's EST listener: real TLS, real store.
type estDoor struct {
	r         *rig
	registrar *fleet.Registrar
	address   string
	roots     *x509.CertPool
}

// est opens the door of the rig's present service.
func (r *rig) est() *estDoor {
	r.t.Helper()
	certs, err := r.auth.ServerCertificates(r.t.Context(), ca.ServerNames{DNS: []string{"localhost"}}, filepath.Join(r.dir, "server"))
	if err != nil {
		r.t.Fatal(err)
	}
	d := &estDoor{r: r, registrar: fleet.NewRegistrar(r.svc, r.store), roots: x509.NewCertPool()}
	for _, root := range r.auth.Roots(ca.KindCSMS) {
		d.roots.AddCert(root)
	}
	handler, err := est.New(est.Config{Authority: r.auth, Registrar: d.registrar, Keys: ca.KeyClasses(ca.ProfileStation)})
	if err != nil {
		r.t.Fatal(err)
	}
	d.address = r.listen(handler, certs.GetCertificate)
	return d
}

// listen serves a handler as the PKI listener does, and returns where.
func (r *rig) listen(handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
	r.t.Helper()
	bound, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	listener := est.Listener{
		Net: bound, Handler: handler, Certificate: certificate, Subjects: r.svc.Subjects,
		Drain: time.Second, Log: slog.New(slog.DiscardHandler),
	}
	go func() { ended <- listener.Serve(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	return bound.Addr().String()
}

// credentials are what a client shows.
type credentials struct {
	user, secret string
	cert         *x509.Certificate
	key          crypto.Signer
}

// estAnswer is what came back.
type estAnswer struct {
	status int
	retry  string
	body   string
}

func (d *estDoor) ask(operation string, csr []byte, shown credentials) estAnswer {
	d.r.t.Helper()
	cfg := &tls.Config{RootCAs: d.roots, ServerName: "localhost", Time: d.r.clock}
	if shown.cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{shown.cert.Raw}, PrivateKey: shown.key}, nil
		}
	}
	transport := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	q, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+d.address+est.Prefix+operation, strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		d.r.t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/pkcs10")
	if shown.user != "" {
		q.SetBasicAuth(shown.user, shown.secret)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(q)
	if err != nil {
		d.r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.r.t.Fatal(err)
	}
	return estAnswer{resp.StatusCode, resp.Header.Get("Retry-After"), string(body)}
}

// certificate is the one an answer holds.
func (d *estDoor) certificate(a estAnswer) *x509.Certificate {
	d.r.t.Helper()
	if a.status != 200 {
		d.r.t.Fatalf("%d: %s", a.status, a.body)
	}
	der, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(a.body, "\n", ""))
	if err != nil {
		d.r.t.Fatal(err)
	}
	bag, err := pkcs7.Parse(der)
	if err != nil || len(bag.Certificates) != 1 {
		d.r.t.Fatalf("%+v, %v", bag, err)
	}
	return bag.Certificates[0]
}

func (d *estDoor) wantStatus(a estAnswer, status int) {
	d.r.t.Helper()
	if a.status != status {
		d.r.t.Errorf("status %d, want %d: %s\n%s", a.status, status, a.body, d.r.logged())
	}
}

// secret makes a one-time secret for a station.
func (d *estDoor) secret(identity string) credentials {
	d.r.t.Helper()
	secret, _, err := d.registrar.NewSecret(d.r.t.Context(), "operator", identity, 24*time.Hour)
	if err != nil {
		d.r.t.Fatal(err)
	}
	return credentials{user: identity, secret: secret}
}

// records are the station's certificates in the store.
func (r *rig) records(identity string) []ca.Record {
	r.t.Helper()
	list, err := r.store.Certificates(r.t.Context(), ca.Filter{Station: keyOf(identity)})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// factory makes a maker's certificate with its key.
func (m *maker) factory(r *rig, cn string) credentials {
	r.t.Helper()
	key, now := newKey(r.t), r.clock()
	return credentials{key: key, cert: m.Issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: cn, Organization: []string{"Maker"}}, NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}, key)}
}
