package station

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	"bollard/ocpp"
)

// csrOrder is a CSR that waits for its certificate.
type csrOrder struct {
	key       crypto.Signer
	of        purpose
	requestID *int          // as sent (2.1), or nil
	done      chan struct{} // closed when nothing is waited for any more
	closed    bool
}

// end stops waiting for the order. Under mu.
func (o *csrOrder) end() {
	if !o.closed {
		o.closed = true
		close(o.done)
	}
}

// maxOrders bounds how many CSRs wait at once; the oldest is forgotten.
const maxOrders = 8

// RequestCertificate makes a new key and sends its CSR (A02, A03). In 2.x the
// CSR is repeated with a new key if no certificate follows (A02.FR.17–.19).
func (s *Station) RequestCertificate(ctx context.Context) error {
	return s.requestCertificate(ctx, purpose{}, 0)
}

func (s *Station) requestCertificate(ctx context.Context, of purpose, repeats int) error {
	dev := s.deviations()
	key := dev.CSRKey
	if key == nil {
		var err error
		if key, err = s.newKey(of.keyType(s.cfg.Key)); err != nil {
			return fmt.Errorf("couldn't make a key: %w", err)
		}
	}
	der, err := s.csr(key, of, dev)
	if err != nil {
		return err
	}
	order := &csrOrder{key: key, of: of, done: make(chan struct{})}
	version := s.State().Version
	action, payload := s.signCertificate(version, der, order, dev)

	// Known before it is sent: the certificate may come before this goroutine
	// sees the answer.
	s.mu.Lock()
	s.orders = append(s.orders, order)
	if len(s.orders) > maxOrders {
		s.orders[0].end()
		s.orders = s.orders[1:]
	}
	s.mu.Unlock()

	var answer struct {
		Status string `json:"status"`
		Data   string `json:"data"`
	}
	err = s.ask(ctx, action, payload, &answer)
	if err == nil && action == "DataTransfer" && answer.Data != "" {
		err = json.Unmarshal([]byte(answer.Data), &answer)
	}
	if err == nil && answer.Status != accepted {
		err = fmt.Errorf("the CSMS answered %s to SignCertificate", answer.Status)
	}
	if err != nil {
		s.forget(order)
		return err
	}
	if version != ocpp.V16 {
		s.background(func(ctx context.Context) { s.repeat(ctx, order, repeats) })
	}
	return nil
}

// repeat asks again if no certificate came in time (A02.FR.17), waiting twice
// as long each time (.18), until the repeats are used up (.19).
func (s *Station) repeat(ctx context.Context, order *csrOrder, repeats int) {
	s.mu.Lock()
	wait, limit := s.set.signingWait, s.set.signingRepeats
	s.mu.Unlock()
	for range repeats {
		wait *= 2
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-order.done:
		return
	case <-ctx.Done():
		return
	}
	if repeats >= limit {
		return
	}
	if err := s.requestCertificate(ctx, order.of, repeats+1); err != nil {
		s.cfg.Log.Warn("couldn't repeat the CSR", "station", s.cfg.Identity, "err", err)
	}
}

func (s *Station) forget(order *csrOrder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	order.end()
	s.orders = slices.DeleteFunc(s.orders, func(o *csrOrder) bool { return o == order })
}

// csr is the PKCS#10 request: CN the serial number, O the operator's name
// (A00.FR.509, .511, A02.FR.13); toward cars, CN the SECC identifier.
func (s *Station) csr(key crypto.Signer, of purpose, dev Deviations) ([]byte, error) {
	s.mu.Lock()
	organisation := s.set.organisation
	s.mu.Unlock()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cmp.Or(of.secc, s.cfg.Serial)}}
	if organisation != "" {
		template.Subject.Organization = []string{organisation}
	}
	if dev.CSR != nil {
		dev.CSR(template)
	} else if der, err := s.evidence(key, template.Subject); der != nil || err != nil {
		return der, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("couldn't make a CSR: %w", err)
	}
	return der, nil
}

// iso15118pnc is the vendorId under which 1.6 stations wrap 2.0.1 messages.
const iso15118pnc = "org.openchargealliance.iso15118pnc"

// signCertificate writes the request of the version or the deviation.
func (s *Station) signCertificate(v ocpp.Version, der []byte, order *csrOrder, dev Deviations) (action string, payload any) {
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	if dev.Edition1 {
		text = hex.EncodeToString(der)
	}
	request := object{"csr": text}
	wrap := v == ocpp.V16 && dev.DataTransferCSR
	if v != ocpp.V16 || wrap {
		request["certificateType"] = "ChargingStationCertificate"
		if dev.CertificateType != "" {
			request["certificateType"] = dev.CertificateType
		}
		if dev.CertificateType == "-" {
			delete(request, "certificateType")
		}
		if order.of.kind != "" {
			request["certificateType"] = order.of.kind
		}
	}
	if root, ok := s.v2gRoot(); ok && order.of.kind != "" && v == ocpp.V21 {
		request["hashRootCertificate"] = root // A02.FR.27
	}
	if v == ocpp.V21 && !dev.NoRequestID {
		id := s.number()
		order.requestID = &id // A02.FR.24
		request["requestId"] = id
	}
	if !wrap {
		return "SignCertificate", request
	}
	data, err := json.Marshal(request)
	if err != nil {
		panic("internal error: a CSR request is not JSON: " + err.Error())
	}
	return "DataTransfer", object{"vendorId": iso15118pnc, "messageId": "SignCertificate", "data": string(data)}
}

// certificateSigned checks what the CSMS brings and answers (A02.FR.06–.08,
// .16, .26).
func (l *link) certificateSigned(payload []byte) reply {
	var req struct {
		Chain     string   `json:"certificateChain"`
		Type      string   `json:"certificateType"`
		Cert      []string `json:"cert"` // edition 1 of the white paper
		RequestID *int     `json:"requestId"`
	}
	if r, ok := decode(payload, &req); !ok {
		return r
	}
	s := l.s
	edition1 := s.deviations().Edition1
	if req.Chain == "" && (!edition1 || len(req.Cert) == 0) {
		return failure(ocpp.OccurrenceConstraintViolation, "certificateChain")
	}
	var cert tls.Certificate
	err := errTooLarge
	if len(req.Chain) <= s.cfg.MaxChainSize {
		var chain []*x509.Certificate
		if chain, err = readChain(req.Chain, req.Cert, edition1); err == nil {
			cert, err = s.check(chain, req.RequestID)
		}
	}
	of := s.purposeOf(cert.Leaf)
	if err == nil && (req.Type != "" && req.Type != of.certificateType() || req.Type == "" && of.kind != "") {
		err = errors.New("no CSR of this certificate type was sent")
	}
	if err == nil {
		err = s.keep(of, cert)
	}
	if err != nil {
		s.cfg.Log.Info("refused a certificate", "station", s.cfg.Identity, "reason", err)
		s.update(func() {
			s.state.Refused++
			for _, o := range s.orders {
				o.end() // A02.FR.20: waits for a trigger
			}
		})
		event, code := "InvalidChargingStationCertificate", "InvalidCertificate"
		if l.version == ocpp.V16 {
			event = "InvalidChargePointCertificate"
		}
		if errors.Is(err, errTooLarge) {
			code = "TooLargeElement"
		}
		return l.refuse(code).then(func(context.Context) { s.queueEvent(event) })
	}
	s.update(func() {
		s.state.Installed++
		s.state.Certificate = s.keys.newest()
		s.orders = slices.DeleteFunc(s.orders, func(o *csrOrder) bool {
			used := samePublic(o.key.Public(), cert.Leaf.PublicKey)
			if used {
				o.end()
			}
			return used
		})
	})
	return status(accepted).then(func(context.Context) {
		if of.kind == "" && s.State().Profile == 3 {
			s.drop("new certificate") // A02.FR.08 as of errata 2025-01
		}
	})
}

var errTooLarge = errors.New("longer than MaxCertificateChainSize")

func readChain(text string, edition1List []string, edition1 bool) ([]*x509.Certificate, error) {
	if text != "" {
		return ParseCertificates([]byte(text))
	}
	if !edition1 {
		return nil, errors.New("no certificate")
	}
	var out []*x509.Certificate
	for _, item := range edition1List {
		der, err := hex.DecodeString(item)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a hex certificate: %w", err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("couldn't read a certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// check judges a chain, leaf first, as a station does before it trusts its
// own future to it.
func (s *Station) check(chain []*x509.Certificate, requestID *int) (tls.Certificate, error) {
	leaf := chain[0]
	s.mu.Lock()
	organisation := s.set.organisation
	var order *csrOrder
	for _, o := range s.orders {
		if samePublic(o.key.Public(), leaf.PublicKey) {
			order = o
		}
	}
	s.mu.Unlock()

	if order == nil {
		return tls.Certificate{}, errors.New("its key is of no CSR that waits for an answer")
	}
	if requestID != nil && (order.requestID == nil || *order.requestID != *requestID) {
		return tls.Certificate{}, errors.New("unknown requestId") // A02.FR.26
	}
	if requestID == nil && order.requestID != nil {
		return tls.Certificate{}, errors.New("requestId was not copied") // A02.FR.25
	}
	if leaf.IsCA {
		return tls.Certificate{}, errors.New("it is a CA certificate")
	}
	if leaf.Subject.CommonName != cmp.Or(order.of.secc, s.cfg.Serial) {
		return tls.Certificate{}, errors.New("its CN is not the one asked for") // A00.FR.511
	}
	if !slices.Contains(leaf.Subject.Organization, organisation) {
		return tls.Certificate{}, errors.New("its O is not the operator's") // A00.FR.509
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// The period too: now must lie inside it (A02.FR.06 as of errata 2025-01).
	options := x509.VerifyOptions{
		Roots: s.trust.pool(csmsRoot), Intermediates: between, CurrentTime: s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if order.of.kind != "" {
		options.Roots, options.KeyUsages = s.trust.pool(v2gRoot), []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	_, err := leaf.Verify(options)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("it is not valid now under the operator's roots: %w", err)
	}
	cert := tls.Certificate{PrivateKey: order.key, Leaf: leaf}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert, nil
}

// samePublic compares public keys of the kinds NewKey makes.
func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
