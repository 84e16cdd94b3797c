package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/smallstep/pkcs7"

	"bollard/admin"
)

const estPath = "/.well-known/est/"

// bollardCA is the product as certificate authority: EST and the status
// listener of `bollard serve`. Clients prove themselves with a one-time secret
// each.
type bollardCA struct {
	*bollardProxy
	trusted *x509.CertPool
	status  string // address of the status listener, the same in every run
	issuing []*x509.Certificate
}

func newBollardCA(ctx context.Context, binary, dir string) (*bollardCA, error) {
	p, err := newBollard(ctx, binary, dir)
	if err != nil {
		return nil, err
	}
	a := &bollardCA{bollardProxy: p}
	a.trusted, err = poolOf(p.roots)
	if err != nil {
		return nil, err
	}
	a.status, err = freeAddress()
	return a, err
}

// command lets it listen for enrolment on listen, and for OCSP. Its front door
// and its back end are there, as they must be, and idle.
func (a *bollardCA) command(ctx context.Context, listen, _ string) (*exec.Cmd, error) {
	front := map[string]any{"address": "127.0.0.1:0", "profiles": []int{2, 3}}
	err := a.configure(map[string]any{"ocpp": []any{front}, "pki": listen, "status": a.status}, "127.0.0.1:1")
	if err != nil {
		return nil, err
	}
	return a.serve(ctx), nil
}

func (a *bollardCA) roots() *x509.CertPool { return a.trusted }

// enrolAll imports the applicants as stations, before it is started.
func (a *bollardCA) enrolAll(ctx context.Context, list []applicant) error {
	var rows bytes.Buffer
	rows.WriteString("identity,serial,profile,vendor,model\n")
	for _, q := range list {
		fmt.Fprintf(&rows, "%s,%s,3,Bench,Bench\n", q.identity, q.serial)
	}
	file := filepath.Join(a.data, "bench-stations.csv")
	err := writePrivate(file, rows.Bytes())
	if err != nil {
		return err
	}
	_, err = a.run(ctx, "station", "import", file)
	return err
}

// credentials are one-time secrets, from the operation behind `bollard station
// enrol-secret`.
func (a *bollardCA) credentials(ctx context.Context, list []applicant) ([]string, error) {
	client := admin.NewClient(a.data)
	secrets := make([]string, len(list))
	err := each(0, len(list), 32, func(_ context.Context, i int) error {
		made, err := admin.Call[admin.EnrolSecret, admin.NewEnrolSecret](ctx, client, "station.enrol-secret", admin.EnrolSecret{Identity: list[i].identity, Valid: time.Hour})
		secrets[i] = made.Secret
		return err
	})
	return secrets, err
}

func (a *bollardCA) ask(ctx context.Context, address string, q applicant, secret string) (*http.Request, error) {
	body := base64.StdEncoding.EncodeToString(q.csr)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+address+estPath+"simpleenroll", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/pkcs10")
	req.SetBasicAuth(q.identity, secret)
	return req, nil
}

// learn asks a running server for its issuing CA (RFC 7030 §4.1): answers hold
// the leaf only.
func (a *bollardCA) learn(ctx context.Context, r *running) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.listen+estPath+"cacerts", nil)
	if err != nil {
		return err
	}
	client := newClient(a.trusted, 1)
	defer client.CloseIdleConnections()
	bodies, err := fetch(ctx, client, []*http.Request{req}, 1)
	if err != nil {
		return err
	}
	all, err := certsOnly(bodies[0])
	for _, cert := range all {
		if !bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			a.issuing = append(a.issuing, cert)
		}
	}
	if err == nil && len(a.issuing) == 0 {
		err = errors.New("cacerts holds no issuing CA")
	}
	return err
}

func (a *bollardCA) read(body []byte) ([]*x509.Certificate, error) {
	list, err := certsOnly(body)
	return append(list, a.issuing...), err
}

// certsOnly reads an EST answer: base64 in lines of a certs-only CMS message.
func certsOnly(body []byte) ([]*x509.Certificate, error) {
	der, err := base64.StdEncoding.DecodeString(string(body)) // skips line breaks
	if err != nil {
		return nil, fmt.Errorf("couldn't read an EST answer: %w", err)
	}
	bag, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("couldn't read an EST answer: %w", err)
	}
	return bag.Certificates, nil
}
