package contract

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"bollard/ca"
	"bollard/ocpp"
)

// Revocation learns from the responders and lists of other CAs. What can't be read is an
// error, and never a panic: here it would end the process. *revocation.Checker is one.
type Revocation interface {
	// Revoked asks about a certificate whose issuer is proven. An error means that it
	// couldn't be learned; it comes no later than the end of ctx.
	Revoked(ctx context.Context, cert, issuer *x509.Certificate) (bool, error)
	// RevokedByHash asks about a certificate of a trusted provider that is known by
	// hashes alone; other providers' are an error.
	RevokedByHash(ctx context.Context, d ocpp.OCSPRequestData) (bool, error)
}

// askPatience bounds all questions about one chain: a car waits 5 s for its answer
// to PaymentDetailsReq and to CertificateInstallationReq (ISO 15118-2), and the back
// end has to be asked within them too.
const askPatience = 2 * time.Second

var (
	errNobody   = errors.New("nobody can be asked")
	errTooOften = errors.New("the station asks too often")
)

// standing tells whether a certificate of a verified path, leaf first and root last,
// is revoked: own ones by the records, those of others by what their CAs say.
func (s *Service) standing(ctx context.Context, path []*x509.Certificate) (*Fault, error) {
	var questions []question
	for i, cert := range path[:len(path)-1] {
		record, known, err := s.authority.Status(ctx, cert)
		switch {
		case err != nil:
			return nil, err
		case known && record.State != ca.StateIssued:
			return revoked("certificate " + record.Serial + " is " + string(record.State)), nil
		case known && !record.External:
			continue
		case len(cert.OCSPServer)+len(cert.CRLDistributionPoints) == 0:
			continue // its CA revokes none: a car's may have no source
		}
		questions = append(questions, question{ca.SerialOf(cert), func(ctx context.Context) (bool, error) { return s.revocation.Revoked(ctx, cert, path[i+1]) }})
	}
	_, fault := s.inquire(ctx, questions)
	return fault, nil
}

// question is one about a certificate of another CA.
type question struct {
	serial string
	ask    func(ctx context.Context) (revoked bool, err error)
}

// inquire asks all at once, and says whether every one was answered.
func (s *Service) inquire(ctx context.Context, questions []question) (all bool, fault *Fault) {
	if len(questions) == 0 {
		return true, nil
	}
	answers := make([]struct {
		revoked bool
		err     error
	}, len(questions))
	if s.revocation != nil {
		ctx, cancel := context.WithTimeout(ctx, askPatience)
		defer cancel()
		var asking sync.WaitGroup
		for i := range questions {
			asking.Go(func() { answers[i].revoked, answers[i].err = questions[i].ask(ctx) })
		}
		asking.Wait()
	}
	var unknown error
	for i, a := range answers {
		switch {
		case a.revoked:
			return true, revoked("certificate " + questions[i].serial + " is revoked by its CA")
		case a.err != nil || s.revocation == nil:
			unknown = fmt.Errorf("whether certificate %s is revoked couldn't be learned: %w", questions[i].serial, cmp.Or(a.err, errNobody))
		}
	}
	if unknown == nil {
		return true, nil
	}
	if s.hardFail {
		return false, badChain(unknown.Error())
	}
	if s.within("unlearned", s.clock()) {
		s.log.Warn("a chain counts though a certificate's status couldn't be learned; contracts.revocation: hard refuses it", "err", unknown)
	}
	return false, nil
}
