package ca

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bollard/keys"
)

// ServerNames of a server certificate: the first DNS name is its CN.
type ServerNames struct {
	DNS    []string
	IPs    []string
	CNOnly bool // no SAN: an extra listener for old stations
}

// serverKeys are the two kinds of certificate OCPP's cipher suites need
// (A00.FR.318 and its like), the preferred one first.
var serverKeys = [2]serverKey{{"ecdsa", keys.P256}, {"rsa", keys.RSA2048}}

type serverKey struct {
	name      string
	algorithm keys.Algorithm
}

// serverReference marks the Reference of a server certificate: the name of its
// private key's file follows.
const serverReference = "tls:"

// ServerCertificates keeps an ECDSA and an RSA server certificate valid by
// itself, as long as Maintain runs. It is safe for concurrent use.
type ServerCertificates struct {
	authority *Authority
	profile   Profile
	subject   Subject
	pairing   sync.Mutex // what is in current changes under it
	dir       string
	current   [2]atomic.Pointer[tls.Certificate] // as serverKeys
	following [2]atomic.Pointer[tls.Certificate] // the same under the root that follows, while one does
}

// ServerCertificates loads the server certificates for these names, or issues
// them with new keys below dir. The keys are in files of their own, role tls;
// which one belongs to a certificate is in its record.
func (a *Authority) ServerCertificates(ctx context.Context, names ServerNames, dir string) (*ServerCertificates, error) {
	if a.cfg.Keeper == nil {
		return nil, errors.New("internal error: ca.Config.Keeper is missing")
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &ServerCertificates{authority: a, profile: profiles[ProfileServer], dir: absolute}
	if names.CNOnly {
		s.profile = profiles[ProfileServerCNOnly]
	}
	if s.subject, err = names.subject(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	for _, name := range append([]string{s.subject.CommonName}, names.DNS...) {
		a.servers[strings.ToLower(name)] = true
	}
	a.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	// What is due and can't be renewed now is served until it can be: Maintain sees to it.
	if err := s.Renew(ctx); err != nil && (ctx.Err() != nil || s.current[0].Load() == nil || s.current[1].Load() == nil) {
		return nil, err
	}
	a.Watch(s)
	s.Changed() // between loading and watching
	return s, nil
}

func (n ServerNames) subject() (Subject, error) {
	s := Subject{DNSNames: slices.Clone(n.DNS)}
	for _, text := range n.IPs {
		ip := net.ParseIP(text)
		if ip == nil {
			return Subject{}, fmt.Errorf("%q is no IP address", text)
		}
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		s.IPAddresses = append(s.IPAddresses, ip)
	}
	switch {
	case len(n.DNS) > 0:
		s.CommonName = n.DNS[0]
	case len(n.IPs) > 0:
		s.CommonName = s.IPAddresses[0].String()
	default:
		return Subject{}, errors.New("a server certificate needs a name; set host in bollard.yaml")
	}
	if n.CNOnly {
		s.DNSNames, s.IPAddresses = nil, nil
	}
	return s, nil
}

// load takes the newest certificates that are still good for these names and
// whose keys are still there; of those that begin later, since the clock was ahead, only
// where there is no other.
func (s *ServerCertificates) load(ctx context.Context) error {
	records, err := s.authority.cfg.Store.Certificates(ctx, Filter{Profile: s.profile.Name, State: StateIssued})
	if err != nil {
		return fmt.Errorf("couldn't read the server certificates: %w", err)
	}
	now := s.authority.cfg.Clock()
	begun := func(r Record) bool { return !now.Before(r.NotBefore) }
	first, later := slices.DeleteFunc(slices.Clone(records), func(r Record) bool { return !begun(r) }), slices.DeleteFunc(records, begun)
	for _, r := range append(first, later...) {
		file, ok := strings.CutPrefix(r.Reference, serverReference)
		if !ok || r.External || now.After(r.NotAfter) {
			continue
		}
		issued, err := s.authority.issued(r)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(serverKeys[:], func(k serverKey) bool {
			return (k.name == "rsa") == isRSA(issued.Certificate.PublicKey)
		})
		if s.current[i].Load() != nil || !s.names(issued.Certificate) || len(issued.Chain) == 0 {
			continue
		}
		signer, err := s.authority.cfg.Keeper.Open(ctx, s.uri(file), keys.RoleTLS)
		if errors.Is(err, keys.ErrNotFound) {
			continue // another directory's, or lost: a new one is issued
		}
		if err != nil {
			return err
		}
		if hash, err := keyHash(signer.Public()); err != nil || hash != r.KeyHash {
			continue
		}
		s.current[i].Store(pair(issued, signer))
	}
	return nil
}

// names tells whether a certificate says what would be issued now.
func (s *ServerCertificates) names(cert *x509.Certificate) bool {
	return cert.Subject.CommonName == s.subject.CommonName &&
		slices.Equal(cert.Subject.Organization, []string{s.authority.cfg.Organisation}) &&
		slices.Equal(cert.DNSNames, s.subject.DNSNames) &&
		slices.EqualFunc(cert.IPAddresses, s.subject.IPAddresses, net.IP.Equal)
}

func (s *ServerCertificates) uri(file string) string {
	return keys.SchemeSoft + ":" + filepath.Join(s.dir, file)
}

// Revoked has nothing to do: a revoked server certificate is replaced by hand.
func (s *ServerCertificates) Revoked(string, string) {}

// Changed takes over the chain that is to be served now.
func (s *ServerCertificates) Changed() {
	s.pairing.Lock()
	defer s.pairing.Unlock()
	for i := range s.current {
		present := s.current[i].Load()
		if present == nil {
			continue
		}
		by := s.authority.hierarchy(KindCSMS).issuing
		next := &tls.Certificate{PrivateKey: present.PrivateKey, Leaf: present.Leaf, Certificate: [][]byte{present.Leaf.Raw}}
		for _, cert := range by.chain {
			next.Certificate = append(next.Certificate, cert.Raw)
		}
		s.current[i].Store(next)
		// Without the bridge from the old root: who follows this trusts the new one.
		under := &tls.Certificate{PrivateKey: present.PrivateKey, Leaf: present.Leaf, Certificate: [][]byte{present.Leaf.Raw}}
		for _, cert := range s.authority.Chain(KindCSMS, UnderNew) {
			under.Certificate = append(under.Certificate, cert.Raw)
		}
		s.following[i].Store(under)
	}
}

// pair is what TLS sends: leaf and issuing CA, without the root (RFC 5246 §7.4.2).
func pair(issued *Issued, signer crypto.Signer) *tls.Certificate {
	out := &tls.Certificate{PrivateKey: signer, Leaf: issued.Certificate, Certificate: [][]byte{issued.Certificate.Raw}}
	for _, cert := range issued.Chain {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

// Renew issues every certificate that is missing or due, each with a new key.
// One that fails leaves the present one in use.
func (s *ServerCertificates) Renew(ctx context.Context) error {
	var errs []error
	for i, kind := range serverKeys {
		present := s.current[i].Load()
		now := s.authority.cfg.Clock()
		if present != nil && now.Before(s.profile.RenewAt(present.Leaf)) && !now.Before(present.Leaf.NotBefore) {
			continue
		}
		next, err := s.issue(ctx, kind.name, kind.algorithm)
		if err != nil {
			errs = append(errs, fmt.Errorf("couldn't renew the %s server certificate: %w", kind.name, err))
			continue
		}
		s.pairing.Lock()
		s.current[i].Store(next)
		s.pairing.Unlock()
		s.Changed() // the root may have changed since it was signed
		if present != nil {
			s.retire(ctx, present)
		}
	}
	return errors.Join(errs...)
}

func (s *ServerCertificates) issue(ctx context.Context, name string, algorithm keys.Algorithm) (*tls.Certificate, error) {
	// The file's name is new each time: the old key stays until the new
	// certificate is recorded.
	tag, err := newSerial(s.authority.random)
	if err != nil {
		return nil, err
	}
	file := fmt.Sprintf("%s-%s-%s.key", s.profile.Name, name, tag.Text(16)[:12])
	signer, err := s.authority.cfg.Keeper.Create(ctx, s.uri(file), keys.RoleTLS, algorithm)
	if err != nil {
		return nil, err
	}
	issued, err := s.certify(ctx, file, signer)
	if err != nil {
		if gone := s.authority.cfg.Keeper.Discard(ctx, s.uri(file)); gone != nil {
			err = errors.Join(err, gone)
		}
		return nil, err
	}
	s.authority.cfg.Log.Info("server certificate issued", "serial", issued.Serial, "kind", name, "not_after", issued.NotAfter)
	return pair(issued, signer), nil
}

func (s *ServerCertificates) certify(ctx context.Context, file string, signer crypto.Signer) (*Issued, error) {
	proven, err := GeneratedKey(signer)
	if err != nil {
		return nil, err
	}
	prepared, err := s.authority.Prepare(ctx, Order{
		Profile: s.profile.Name, Key: proven, Subject: s.subject,
		Requester: "bollard", Reference: serverReference + file,
	})
	if err != nil {
		return nil, err
	}
	return s.authority.Issue(ctx, prepared)
}

// retire deletes the key of a certificate no longer served; handshakes under
// way hold it in memory. Failing to is no reason to stop.
func (s *ServerCertificates) retire(ctx context.Context, old *tls.Certificate) {
	signer, ok := old.PrivateKey.(keys.Signer)
	if !ok {
		return
	}
	if err := s.authority.cfg.Keeper.Discard(ctx, signer.URI()); err != nil {
		s.authority.cfg.Log.Warn("old server key not deleted", "serial", SerialOf(old.Leaf), "err", err)
	}
}

// Due returns when the next certificate is to be renewed.
func (s *ServerCertificates) Due() time.Time {
	var due time.Time
	for i := range s.current {
		if c := s.current[i].Load(); c != nil {
			if at := s.profile.RenewAt(c.Leaf); due.IsZero() || at.Before(due) {
				due = at
			}
		}
	}
	return due
}

// Maintain renews the certificates when they are due, until the context ends.
// Trouble is logged and tried again; what is served stays.
func (s *ServerCertificates) Maintain(ctx context.Context) error {
	KeepUp(ctx, func(ctx context.Context) (time.Duration, error) {
		err := s.Renew(ctx)
		return s.Due().Sub(s.authority.cfg.Clock()), err
	}, func(err error, retry time.Duration) {
		s.authority.cfg.Log.Error("server certificate not renewed", "err", err, "retry", retry)
	})
	return nil
}

// GetCertificate picks ECDSA or RSA by what the client can verify; for
// tls.Config.
func (s *ServerCertificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return pick(hello, &s.current)
}

// GetFollowing is GetCertificate with the chain under the root that follows,
// while the CSMS root is changed; else they are the same.
func (s *ServerCertificates) GetFollowing(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return pick(hello, &s.following)
}

func pick(hello *tls.ClientHelloInfo, from *[2]atomic.Pointer[tls.Certificate]) (*tls.Certificate, error) {
	candidates := make([]*tls.Certificate, len(from))
	for i := range from {
		candidates[i] = from[i].Load()
	}
	return PickCertificate(hello, candidates...)
}

// PickCertificate returns the first certificate the client can use, nil ones
// left out; if it can use none, the last, so that the handshake ends with an
// alert that says so. The name it asks for is left aside: stations connect by
// address or under names of their own.
func PickCertificate(hello *tls.ClientHelloInfo, candidates ...*tls.Certificate) (*tls.Certificate, error) {
	anyName := *hello
	anyName.ServerName = ""
	var last *tls.Certificate
	for _, c := range candidates {
		if c == nil {
			continue
		}
		if anyName.SupportsCertificate(c) == nil {
			return c, nil
		}
		last = c
	}
	if last == nil {
		return nil, errors.New("there is no server certificate")
	}
	return last, nil
}
