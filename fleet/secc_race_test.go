package fleet_test

import (
	"crypto"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"
	"bollard/ocpp"
)

// hookedSigner does something before the next signature.
type hookedSigner struct {
	crypto.Signer
	before *atomic.Pointer[func()]
}

func (s hookedSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if f := s.before.Swap(nil); f != nil {
		(*f)()
	}
	return s.Signer.Sign(random, digest, opts)
}

// What is being issued while its identifier is taken away is revoked too.
func TestSECCRemovedWhileIssued(t *testing.T) { // promise 9
	t.Parallel()
	r, _, claim := carsRig(t, ca.KindV2G)
	var before atomic.Pointer[func()]
	r.dirty = func(s crypto.Signer) crypto.Signer { return hookedSigner{s, &before} }
	r.start()
	s := r.open(r.admit(claim), ocpp.V201)
	removed := make(chan error, 1)
	remove := func() { // it is prepared, and not issued
		go func() {
			_, err := r.svc.RemoveSECC(t.Context(), "operator", "CS-1", "DE*ABC*E1")
			removed <- err
		}()
		eventually(t, "removal", func() bool { return len(removed) == 1 || fleet.TakingTurns(r.svc, "cs-1") == 2 })
	}
	before.Store(&remove)
	s.message(ocpp.FromStation, "SignCertificate", marshal(t, map[string]any{"csr": csrPEM(t, newKey(t), "DE*ABC*E1", organisation), "certificateType": "V2GCertificate"}))
	s.wg.Wait()
	if err := <-removed; err != nil {
		t.Fatal(err)
	}
	records := r.records("CS-1")
	if len(records) != 1 || records[0].State != ca.StateRevoked {
		t.Errorf("records %+v", records)
	}
}

// EVSEs that refuse keep no other from its certificate.
func TestSECCRefusedTriggers(t *testing.T) {
	t.Parallel()
	r, c, claim := carsRig(t, ca.KindV2G)
	c.seccs[6] = "DE*ABC*E6"
	for evse, id := range map[int]string{3: "DE*ABC*E3", 4: "DE*ABC*E4", 5: "DE*ABC*E5", 6: "DE*ABC*E6"} {
		if _, err := r.svc.AddSECC(t.Context(), "operator", "CS-1", fleet.SECC{ID: id, EVSE: evse}); err != nil {
			t.Fatal(err)
		}
	}
	c.only = 6
	c.connect(claim, ocpp.V201)
	eventually(t, "the certificate of EVSE 6", func() bool { r.advance(time.Minute); return c.has(1) })
}
