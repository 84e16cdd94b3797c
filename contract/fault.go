package contract

import (
	"slices"

	"bollard/iso15118/message"
)

// Fault is why a car gets no certificate: the standard's code for the car, the
// reason for the operator. The reason names no person.
type Fault struct {
	code2, code20 string // ResponseCode
	Reason        string
	elsewhere     bool   // pools of others may have what the car wants
	pools         string // what became of those that were asked
	retry         *int64 // RetryCounter of the pool that says so; nil: ours
}

// Error returns the operator's reason.
func (f *Fault) Error() string { return f.Reason }

// Code is the answer's response code.
func (f *Fault) Code(p message.Protocol) string {
	if p == message.ISO20 {
		return f.code20
	}
	return f.code2
}

// orElsewhere lets pools of others be asked.
func (f *Fault) orElsewhere() *Fault {
	f.elsewhere = true
	return f
}

// The failures there are, with the codes of ISO 15118-2 and -20.
func noContract(reason string) *Fault {
	return &Fault{code2: "FAILED_NoCertificateAvailable", code20: "WARNING_NoContractMatchingPCIDFound", Reason: reason}
}

func unavailable(reason string) *Fault {
	return &Fault{code2: "FAILED_NoCertificateAvailable", code20: "WARNING_NoCertificateAvailable", Reason: reason}
}

func cancelled(reason string) *Fault {
	return &Fault{code2: "FAILED_ContractCanceled", code20: "WARNING_NoCertificateAvailable", Reason: reason}
}

func unknownAccount(reason string) *Fault {
	return &Fault{code2: "FAILED_NoCertificateAvailable", code20: "WARNING_eMSPUnknown", Reason: reason}
}

func badSignature(reason string) *Fault {
	return &Fault{code2: "FAILED_SignatureError", code20: "FAILED_SignatureError", Reason: reason}
}

func badChain(reason string) *Fault {
	return &Fault{code2: "FAILED_CertChainError", code20: "WARNING_CertificateValidationError", Reason: reason}
}

func expired(reason string) *Fault {
	return &Fault{code2: "FAILED_CertificateExpired", code20: "WARNING_CertificateExpired", Reason: reason}
}

func notYet(reason string) *Fault {
	return &Fault{code2: "FAILED_CertChainError", code20: "WARNING_CertificateNotYetValid", Reason: reason}
}

func revoked(reason string) *Fault {
	return &Fault{code2: "FAILED_CertificateRevoked", code20: "WARNING_CertificateRevoked", Reason: reason}
}

// retries is the RetryCounter of an update that failed (ISO 15118-2): -1 where the same
// contract certificate will never be updated, so that the car needn't ask with it again;
// nil where another try may do.
func (f *Fault) retries() *int64 {
	never := int64(-1)
	switch {
	case f.retry != nil:
		return f.retry
	case slices.Contains([]string{cancelled("").code2, revoked("").code2, expired("").code2}, f.code2):
		return &never
	}
	return nil
}

// answer is a well-formed answer of the failure: members the schema demands are
// there, with nothing in them.
func (f *Fault) answer(r *message.Request, now int64) ([]byte, error) {
	nothing := message.Chain{Certificate: []byte{0}}
	a := message.Response{
		Protocol: r.Protocol, Header: message.Header{Session: r.Session, Time: now}, Update: r.Update, Code: f.Code(r.Protocol),
		CPS: nothing, Contract: nothing, Public: []byte{0}, Key: []byte{0}, EMAID: "XX000000000000",
		Curve: message.SECP521, Processing: "Finished",
	}
	if r.Update {
		a.Retry = f.retries()
	}
	if r.Protocol == message.ISO20 {
		a.Contract.SubCertificates = [][]byte{{0}}
		a.Public, a.Key = make([]byte, 133), make([]byte, 94)
	}
	a.SetIDs()
	return a.Encode()
}
