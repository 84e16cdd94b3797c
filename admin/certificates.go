package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"bollard/ca"
	"bollard/iso15118/identifier"
	"bollard/ocpp"
)

// Certificate is what an operator sees of a certificate record.
type Certificate struct {
	Serial    string     `json:"serial"`
	Subject   string     `json:"subject"`
	Profile   string     `json:"profile,omitempty"`
	Station   string     `json:"station,omitempty"` // its key
	Issuer    string     `json:"issuer"`
	State     string     `json:"state"` // as recorded; an issued one may have expired
	Expired   bool       `json:"expired"`
	NotBefore time.Time  `json:"not_before"`
	NotAfter  time.Time  `json:"not_after"`
	Requester string     `json:"requester,omitempty"`
	IssuedAt  *time.Time `json:"issued_at,omitempty"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
	Reason    string     `json:"reason,omitempty"`
	External  bool       `json:"external,omitempty"` // issued by another CA
	KeyHash   string     `json:"key_sha256,omitempty"`
	Attested  string     `json:"attested_by,omitempty"` // serial of the attestation key's certificate; none: nothing is known of where the key is
	PEM       string     `json:"pem,omitempty"`         // cert.show only
}

// Certificates is a list.
type Certificates struct {
	Certificates []Certificate `json:"certificates"`
}

// CertificateFilter selects records; zero fields select everything.
type CertificateFilter struct {
	Station  string        `json:"station,omitempty"` // identity
	Profile  string        `json:"profile,omitempty"`
	Expiring time.Duration `json:"expiring,omitempty"` // expires within, and is in force
}

// CertificateRef names one record.
type CertificateRef struct {
	Serial string `json:"serial"` // hex; case and colons don't matter
}

// Revoke revokes one certificate.
type Revoke struct {
	Serial string `json:"serial,omitempty"`
	// Certificate, in place of its serial number, and its name for errors.
	Certificate *File  `json:"certificate,omitempty"`
	Reason      string `json:"reason"` // RFC 5280's name
}

// KindRef names a hierarchy.
type KindRef struct {
	Kind string `json:"kind"`
	// Installable: ca.root gives what stations install as their root.
	Installable bool `json:"installable,omitempty"`
}

// PEM is one or more PEM blocks.
type PEM struct {
	PEM string `json:"pem"`
}

// Issue asks for a certificate for a CSR's key. Everything the certificate
// says comes from here, nothing from the CSR.
type Issue struct {
	Profile string   `json:"profile"`
	CSR     []byte   `json:"csr"`               // PEM or DER
	Station string   `json:"station,omitempty"` // station profile: an enrolled identity
	DNS     []string `json:"dns,omitempty"`     // server profiles: the first is the CN
	IPs     []string `json:"ips,omitempty"`
	// Name is the CN of ISO 15118's: the identifier of a station's controller or
	// EVSE, or a car's PCID.
	Name string `json:"name,omitempty"`
}

// Issued is the new certificate with its chain.
type Issued struct {
	Certificate Certificate `json:"certificate"`
	PEM         string      `json:"pem"` // leaf first, root not included
}

// Hierarchy is one of the own CA's.
type Hierarchy struct {
	Kind         string        `json:"kind"`
	Certificates []Certificate `json:"certificates"` // roots, then issuing CAs
}

// Hierarchies is a list.
type Hierarchies struct {
	Hierarchies []Hierarchy `json:"hierarchies"`
}

// Kinds are the hierarchies Bollard has names for; not all exist everywhere.
func Kinds() []string {
	var names []string
	for _, k := range ca.Kinds() {
		names = append(names, string(k))
	}
	return names
}

func (o *operations) registerCertificates(r *Registry) {
	Register(r, "cert.list", o.certList)
	Register(r, "cert.show", o.certShow)
	Register(r, "ca.show", o.caShow)
	Register(r, "ca.root", o.caRoot)
	Register(r, "ca.check", o.caCheck)
	Register(r, "ca.issue", o.caIssue)
	Register(r, "ca.revoke", o.caRevoke)
	Register(r, "ca.crl", o.caCRL)
	Register(r, "ca.create", o.caCreate)
	Register(r, "ca.rollover", o.caRollover)
	Register(r, "ca.request", o.caRequest)
	Register(r, "ca.import", o.caImport)
	Register(r, "ca.chains", o.caChains)
	Register(r, "ca.remove-chain", o.caRemoveChain)
	Register(r, "ca.renew", o.caRenew)
	Register(r, "ca.ceremony", o.caCeremony)
	Register(r, "ca.import-list", o.caImportList)
	Register(r, "ca.lists", o.caLists)
	Register(r, "keys.migrate", o.keysMigrate)
	Register(r, "ca.mount", o.caMount)
	Register(r, "ca.use-mount", o.caUseMount)
}

func (o *operations) certList(ctx context.Context, in CertificateFilter) (Certificates, error) {
	filter := ca.Filter{Profile: in.Profile}
	if in.Station != "" {
		// A removed station's certificates are still listed by its identity.
		id, err := ocpp.ParseIdentity(in.Station)
		if err != nil {
			return Certificates{}, Usagef("`bollard station list` shows the identities", "%q can't be an identity: %w", in.Station, err)
		}
		filter.Station = id.Key()
	}
	if in.Expiring > 0 {
		filter.State = ca.StateIssued
		filter.ExpiringBefore = o.cfg.Clock().Add(in.Expiring)
	}
	records, err := o.cfg.Store.Certificates(ctx, filter)
	if err != nil {
		return Certificates{}, err
	}
	out := Certificates{Certificates: make([]Certificate, len(records))}
	for i, rec := range records {
		out.Certificates[i] = o.certificate(rec, false)
	}
	return out, nil
}

func (o *operations) certShow(ctx context.Context, in CertificateRef) (Certificate, error) {
	rec, err := o.cfg.Store.Certificate(ctx, serial(in.Serial))
	if err != nil {
		return Certificate{}, err
	}
	return o.certificate(rec, true), nil
}

func (o *operations) caShow(ctx context.Context, _ None) (Hierarchies, error) {
	out := Hierarchies{Hierarchies: []Hierarchy{}}
	for _, kind := range ca.Kinds() {
		h := Hierarchy{Kind: string(kind)}
		for _, cert := range slices.Concat(o.cfg.Authority.PathRoots(kind), o.cfg.Authority.Intermediates(kind)) {
			rec, known, err := o.cfg.Authority.Status(ctx, cert)
			if err != nil {
				return Hierarchies{}, err
			}
			if !known {
				rec = outsideRecord(cert)
			}
			h.Certificates = append(h.Certificates, o.certificate(rec, false))
		}
		if len(h.Certificates) > 0 {
			out.Hierarchies = append(out.Hierarchies, h)
		}
	}
	return out, nil
}

// outsideRecord shows a CA that others certified.
func outsideRecord(cert *x509.Certificate) ca.Record {
	return ca.Record{Intent: ca.Intent{
		Serial: ca.SerialOf(cert), Issuer: cert.Issuer.String(), Subject: cert.Subject.String(), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}, State: ca.StateIssued, DER: cert.Raw, External: true}
}

// caCheck opens every CA key, also those not needed every day.
func (o *operations) caCheck(ctx context.Context, _ None) (None, error) {
	err := o.cfg.Authority.CheckKeys(ctx)
	if tokenAway(err) {
		return None{}, err
	}
	if err != nil {
		return None{}, Failedf("restore keys and database from one backup; for encrypted keys set BOLLARD_KEY_PASSPHRASE", "%w", err)
	}
	return None{}, nil
}

func (o *operations) caCRL(ctx context.Context, in KindRef) (PEM, error) {
	if _, err := o.roots(in.Kind); err != nil {
		return PEM{}, err
	}
	der, err := o.cfg.Authority.CRL(ctx, ca.Kind(in.Kind))
	if err != nil {
		return PEM{}, err
	}
	return PEM{string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))}, nil
}

func (o *operations) caRoot(_ context.Context, in KindRef) (PEM, error) {
	roots, err := o.roots(in.Kind)
	if err != nil {
		return PEM{}, err
	}
	if in.Installable {
		roots = o.cfg.Authority.Installable(ca.Kind(in.Kind))
	}
	return PEM{encodePEM(roots...)}, nil
}

// roots of a hierarchy; refused if the data directory doesn't have it.
func (o *operations) roots(kind string) ([]*x509.Certificate, error) {
	if !slices.Contains(Kinds(), kind) {
		return nil, Usagef("kinds are "+strings.Join(Kinds(), ", "), "there is no kind of hierarchy %q", kind)
	}
	roots := o.cfg.Authority.PathRoots(ca.Kind(kind))
	if len(roots) == 0 {
		return nil, Refusedf("`bollard ca create "+kind+"` makes it", "there is no %s hierarchy here", kind)
	}
	return roots, nil
}

func (o *operations) caIssue(ctx context.Context, in Issue) (Issued, error) {
	csr, err := o.cfg.Authority.ParseCSR(in.CSR)
	if err != nil {
		return Issued{}, Refusedf("make a new request, such as with `openssl req -new`", "the CSR is refused: %w", err)
	}
	order := ca.Order{Profile: in.Profile, Key: csr.Key, Requester: Actor(ctx)}
	switch in.Profile {
	case ca.ProfileStation:
		err = o.stationSubject(ctx, in, &csr, &order)
	case ca.ProfileFirmware:
		err = firmwareSubject(in, &order)
	case ca.ProfileServer, ca.ProfileServerCNOnly:
		err = serverSubject(in, &order)
	case ca.ProfileSECC, ca.ProfileSECC20, ca.ProfileSECC448:
		err = o.seccSubject(ctx, in, &order)
	case ca.ProfileProvisioning, ca.ProfileProvisioning20, ca.ProfileProvisioning448:
		err = carSubject(in, &order)
	default:
		err = Usagef("profiles are "+strings.Join(ca.Profiles(), ", "), "there is no profile %q", in.Profile)
	}
	if err != nil {
		return Issued{}, err
	}
	prepared, err := o.cfg.Authority.Prepare(ctx, order)
	if err != nil {
		return Issued{}, err
	}
	issued, err := o.cfg.Authority.Issue(ctx, prepared)
	if err != nil {
		return Issued{}, err
	}
	chain := append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
	return Issued{Certificate: o.certificate(issued.Record, false), PEM: encodePEM(chain...)}, nil
}

// stationSubject: CN is the registered serial (A00.FR.511), never the CSR's.
func (o *operations) stationSubject(ctx context.Context, in Issue, csr *ca.CSR, order *ca.Order) error {
	if in.Station == "" || len(in.DNS)+len(in.IPs) > 0 {
		return Usagef("--station names it; its serial becomes the CN", "the station profile needs an enrolled station and takes no names")
	}
	s, err := o.cfg.Fleet.Station(ctx, in.Station)
	if err != nil {
		return err
	}
	order.Station = stationKey(s.Identity)
	order.Subject, order.P224 = ca.Subject{CommonName: s.Serial}, o.cfg.Fleet.MayHaveP224(s.Vendor, s.Model)
	if order.Attested, err = o.cfg.Fleet.Attestation(ctx, &s, csr); errors.Is(err, ca.ErrNotAttested) {
		return Refusedf("", "the CSR is refused: %w", err)
	}
	return err
}

// seccSubject: CN is the identifier of the station's controller or of one EVSE.
func (o *operations) seccSubject(ctx context.Context, in Issue, order *ca.Order) error {
	if in.Station == "" || in.Name == "" || len(in.DNS)+len(in.IPs) > 0 {
		return Usagef("--station names it, --name is the SECC's identifier", "a SECC profile needs an enrolled station and a name, and takes no others")
	}
	s, err := o.cfg.Fleet.Station(ctx, in.Station)
	if err != nil {
		return err
	}
	order.Station, order.Subject = stationKey(s.Identity), ca.Subject{CommonName: in.Name}
	return nil
}

// carSubject: CN is the PCID in its normal form.
func carSubject(in Issue, order *ca.Order) error {
	pcid, err := identifier.ParsePCID(in.Name)
	if err != nil || in.Station != "" || len(in.DNS)+len(in.IPs) > 0 {
		return Usagef("--name gives it, such as WP0TESTA00000001A3", "a provisioning profile needs a PCID and nothing else")
	}
	order.Subject = ca.Subject{CommonName: string(pcid)}
	return nil
}

// firmwareSubject: O is the manufacturer's, the CN only tells signers apart.
func firmwareSubject(in Issue, order *ca.Order) error {
	if in.Station != "" || len(in.DNS)+len(in.IPs) > 0 {
		return Usagef("leave --station, --dns and --ip out", "the firmware-signing profile takes no names")
	}
	order.Subject = ca.Subject{CommonName: "Firmware Signing " + order.Key.Hash()[:8]}
	return nil
}

func serverSubject(in Issue, order *ca.Order) error {
	if len(in.DNS)+len(in.IPs) == 0 || in.Station != "" {
		return Usagef("--dns gives them; the first is the CN", "a server profile needs names and takes no station")
	}
	order.Subject = ca.Subject{DNSNames: in.DNS}
	for _, text := range in.IPs {
		ip := net.ParseIP(text)
		if ip == nil {
			return Usagef("", "%q is no IP address", text)
		}
		order.Subject.IPAddresses = append(order.Subject.IPAddresses, ip)
	}
	if len(in.DNS) > 0 {
		order.Subject.CommonName = in.DNS[0]
	} else {
		order.Subject.CommonName = in.IPs[0]
	}
	return nil
}

func (o *operations) caRevoke(ctx context.Context, in Revoke) (Certificate, error) {
	revoke := func() (ca.Record, error) {
		return o.cfg.Fleet.Revoke(ctx, Actor(ctx), serial(in.Serial), in.Reason)
	}
	if in.Certificate != nil {
		certs, err := parseCertificates(in.Certificate.Name, in.Certificate.Data)
		if err != nil {
			return Certificate{}, err
		}
		revoke = func() (ca.Record, error) {
			rec, err := o.cfg.Fleet.RevokeCertificate(ctx, Actor(ctx), certs[0], in.Reason)
			return rec, aboutFile(in.Certificate.Name, err)
		}
	}
	rec, err := revoke()
	if err != nil {
		return Certificate{}, err
	}
	return o.certificate(rec, false), nil
}

// serial takes the spellings of other tools: upper case, colons.
func serial(text string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), ":", ""))
}

func (o *operations) certificate(rec ca.Record, withPEM bool) Certificate {
	view := Certificate{
		Serial: rec.Serial, Subject: rec.Subject, Profile: rec.Profile, Station: rec.Station, Issuer: rec.Issuer,
		State: string(rec.State), NotBefore: rec.NotBefore, NotAfter: rec.NotAfter, Requester: rec.Requester,
		IssuedAt: instant(rec.IssuedAt), RevokedAt: instant(rec.RevokedAt), Reason: rec.Reason,
		External: rec.External, KeyHash: rec.KeyHash, Attested: rec.Attested, Expired: o.cfg.Clock().After(rec.NotAfter),
	}
	if withPEM && len(rec.DER) > 0 {
		view.PEM = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rec.DER}))
	}
	return view
}

func encodePEM(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a strings.Builder takes everything
	}
	return b.String()
}
