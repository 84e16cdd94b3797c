package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"bollard/e2e/rawws"
)

// credentials of one station, as they are handed from process to process.
type credentials struct {
	Identity string `json:"identity"`
	Serial   string `json:"serial"`
	Password string `json:"password,omitempty"`
	Cert     string `json:"cert,omitempty"` // PEM, leaf and issuing CA
	Key      string `json:"key,omitempty"`  // PEM

	pair  *tls.Certificate       // of Cert and Key, parsed once
	cache tls.ClientSessionCache // its own: what it was given at its last visit
}

// ioTimeout bounds every handshake and every wait for an answer.
const ioTimeout = time.Minute

var errWrongBytes = errors.New("wrong bytes")

// station is one connection of the generator. One goroutine uses it at a time.
type station struct {
	number int
	conn   *rawws.Conn
	sent   int
	mix    mix
	extra  int // CALLs that were none of the back end's
	out    []byte
	want   []byte
}

// manner is how stations connect.
type manner struct {
	TLS    string `json:"tls,omitempty"`    // "1.2" or "1.3"; else both, taking turns, and both lengths of AES with 1.2
	Resume bool   `json:"resume,omitempty"` // go on with the TLS session of the last visit; a full handshake is an error
}

// config of one station's TLS. Stations' crypto is P-256 and AES-GCM, whoever
// they connect to.
func (m manner) config(number int, c *credentials, roots *x509.CertPool) *tls.Config {
	conf := &tls.Config{
		RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256},
		ClientSessionCache:          c.cache,
		DynamicRecordSizingDisabled: true, // as stations' libraries write: a message is one record
	}
	if m.TLS == "1.2" || m.TLS == "" && number%2 == 1 {
		conf.MinVersion, conf.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		conf.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		if number/2%2 == 1 {
			conf.CipherSuites[0] = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
		}
	}
	return conf
}

// secure connects a station by TLS, with its certificate if it has one.
func secure(ctx context.Context, number int, c *credentials, m manner, address string, roots *x509.CertPool) (*tls.Conn, error) {
	if c.cache == nil || !m.Resume {
		c.cache = tls.NewLRUClientSessionCache(1)
	}
	conf := m.config(number, c, roots)
	if c.Cert != "" {
		if c.pair == nil {
			pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
			if err != nil {
				return nil, fmt.Errorf("couldn't load a station's certificate: %w", err)
			}
			c.pair = &pair
		}
		conf.Certificates = []tls.Certificate{*c.pair}
	}
	dialer := net.Dialer{Timeout: ioTimeout}
	bare, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("couldn't connect station %s: %w", c.Identity, err)
	}
	_ = bare.SetDeadline(time.Now().Add(ioTimeout))
	conn := tls.Client(bare, conf)
	err = conn.HandshakeContext(ctx)
	if err != nil {
		_ = bare.Close()
		return nil, fmt.Errorf("couldn't connect station %s: %w", c.Identity, err)
	}
	if m.Resume && !conn.ConnectionState().DidResume {
		_ = conn.Close()
		return nil, fmt.Errorf("the TLS session of station %s was not resumed", c.Identity)
	}
	return conn, nil
}

// shake makes a TLS handshake, takes the session tickets and goes. That the
// server says goodbye, too, shows that it took the certificate: with TLS 1.3 the
// handshake is over for a client before the server has seen that.
func shake(ctx context.Context, number int, c *credentials, m manner, address string, roots *x509.CertPool) error {
	conn, err := secure(ctx, number, c, m, address, roots)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.CloseWrite()
	if err == nil {
		_, err = io.Copy(io.Discard, conn)
	}
	if err != nil {
		return fmt.Errorf("couldn't end the handshake of station %s: %w", c.Identity, err)
	}
	return nil
}

// dial connects a station with its certificate, or its password if it has none.
func dial(ctx context.Context, number int, c *credentials, m manner, address string, roots *x509.CertPool) (*station, error) {
	req := rawws.Request{Host: "localhost", Target: "/ocpp/" + c.Identity, Subprotocols: []string{"ocpp1.6"}}
	if c.Cert == "" {
		req.User, req.Password = c.Identity, []byte(c.Password)
	}
	conn, err := secure(ctx, number, c, m, address, roots)
	if err != nil {
		return nil, err
	}
	ws, err := rawws.Client(conn, req)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("couldn't open station %s: %w", c.Identity, err)
	}
	return &station{number: number, conn: ws}, nil
}

// roundTrip sends the next message and checks every byte of its answer.
func (s *station) roundTrip() (time.Duration, error) {
	s.out = s.mix.request(s.out, s.number, s.sent)
	s.sent++
	var err error
	s.want, err = response(s.want, s.out)
	if err != nil {
		return 0, err
	}
	_ = s.conn.Net.SetDeadline(time.Now().Add(ioTimeout))
	start := time.Now()
	err = s.conn.WriteText(s.out)
	if err != nil {
		return 0, fmt.Errorf("couldn't send: %w", err)
	}
	got, err := s.read()
	if err != nil {
		return 0, fmt.Errorf("an answer is lost: %w", err)
	}
	took := time.Since(start)
	if !bytes.Equal(got, s.want) {
		return 0, fmt.Errorf("%w: got %.200q, want %q", errWrongBytes, got, s.want)
	}
	return took, nil
}

// read returns the next answer. CALLs are answered with NotSupported: no back
// end of the benchmark sends any.
func (s *station) read() ([]byte, error) {
	for {
		msg, err := s.conn.ReadMessage()
		if err != nil || !isCall(msg) {
			return msg, err
		}
		s.extra++
		err = s.conn.WriteText(fmt.Appendf(nil, `[4,"%s","NotSupported","",{}]`, callID(msg)))
		if err != nil {
			return nil, err
		}
	}
}

// listen answers pings, and CALLs of the proxy's own, until then.
func (s *station) listen(end time.Time) error {
	_ = s.conn.Net.SetWriteDeadline(end.Add(ioTimeout))
	_ = s.conn.Net.SetReadDeadline(end)
	msg, err := s.read()
	var network net.Error
	switch {
	case err == nil:
		return fmt.Errorf("%w: nothing was asked, got %.200q", errWrongBytes, msg)
	case errors.As(err, &network) && network.Timeout():
		return nil
	}
	return fmt.Errorf("an idle station was lost: %w", err)
}

func (s *station) close() {
	_ = s.conn.Net.SetDeadline(time.Now().Add(time.Second))
	_ = s.conn.WriteFrame(rawws.CloseFrame(1000))
	_ = s.conn.Net.Close()
}

// enrol gets a certificate through SignCertificate (A02) on a password
// connection, with a fresh key.
func (s *station) enrol(c *credentials) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: stationName(c.Serial)}, key)
	if err != nil {
		return fmt.Errorf("couldn't make a CSR: %w", err)
	}
	csr, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	if err != nil {
		return err
	}
	_ = s.conn.Net.SetDeadline(time.Now().Add(ioTimeout))
	err = s.conn.WriteText(fmt.Appendf(nil, `[2,"sign","SignCertificate",{"csr":%s}]`, csr))
	if err != nil {
		return err
	}
	chain, err := s.awaitChain()
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	c.Cert = chain
	c.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	_, err = tls.X509KeyPair([]byte(c.Cert), []byte(c.Key))
	return err
}

func (s *station) awaitChain() (string, error) {
	accepted := false
	for {
		msg, err := s.conn.ReadMessage()
		if err != nil {
			return "", fmt.Errorf("no certificate came: %w", err)
		}
		if !isCall(msg) {
			if !strings.Contains(string(msg), `"Accepted"`) {
				return "", fmt.Errorf("the CSR was answered with %.200q", msg)
			}
			accepted = true
			continue
		}
		var call [4]json.RawMessage
		err = json.Unmarshal(msg, &call)
		if err != nil {
			return "", fmt.Errorf("couldn't read a CALL: %w", err)
		}
		var payload struct {
			CertificateChain string `json:"certificateChain"`
		}
		if string(call[2]) != `"CertificateSigned"` {
			s.extra++
			err = s.conn.WriteText(fmt.Appendf(nil, `[4,%s,"NotSupported","",{}]`, call[1]))
			if err != nil {
				return "", err
			}
			continue
		}
		err = json.Unmarshal(call[3], &payload)
		if err != nil {
			return "", fmt.Errorf("couldn't read CertificateSigned: %w", err)
		}
		err = s.conn.WriteText(fmt.Appendf(nil, `[3,%s,{"status":"Accepted"}]`, call[1]))
		if err != nil {
			return "", err
		}
		if !accepted {
			return "", errors.New("CertificateSigned came before the CSR was answered")
		}
		return payload.CertificateChain, nil
	}
}
