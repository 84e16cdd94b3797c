package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	"bollard/ledger"
)

// adopting judges a claim of a station that has no password here yet, on a
// listener that would take one: its back end may be the one that knows it. What
// is returned proves nothing; the gateway presents the password to the back end
// and tells Adopted what it answered.
func (s *Service) adopting(claim Claim, st *Station, profile int) (adm Admission, refused string) {
	adm = Admission{Station: st.Proven(), Profile: profile, Adopting: true}
	switch {
	case claim.Adopts == nil || !claim.Adopts(adm):
		return Admission{}, fmt.Sprintf("no password is set: `bollard station password %s` sets one", st.Identity)
	case claim.Basic.User != claim.Identity.Name: // A00.FR.204, .207
		return Admission{}, "user name is not the identity in the URL (A00.FR.204)"
	case len(claim.Basic.Password) == 0 || len(claim.Basic.Password) > maxPassword:
		return Admission{}, fmt.Sprintf("password has %d bytes: 1 to %d can be adopted", len(claim.Basic.Password), maxPassword)
	case s.budget.spent(keyOf(st), claim.Source):
		return Admission{}, "too many wrong passwords: the back end isn't asked about another yet"
	}
	return adm, ""
}

// Adopted takes the back end's answer about a password that was presented for
// adoption. Accepted, it becomes the station's, once: whoever comes next proves
// it here. The error is a *Refusal, or something else if it couldn't be stored.
func (s *Service) Adopted(ctx context.Context, claim Claim, adm Admission, accepted bool) (Admission, error) {
	key := adm.Station.Key()
	if !accepted {
		s.budget.failed(key, claim.Source)
		return Admission{}, s.refuse(claim, key, refusedPassword, "back end refused the password presented for adoption", http.StatusUnauthorized)
	}
	// Nothing is known of how it was made, so it counts as a passphrase.
	credential, err := s.secrets.newCredential(ctx, kindHuman, claim.Basic.Password, s.clock())
	if errors.Is(err, errBusy) {
		return Admission{}, s.busy(errBusy)
	}
	if err != nil {
		return Admission{}, err
	}
	meanwhile := errors.New("a password was set while the station was being adopted")
	st, err := s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if st.Password != nil || adm.Profile < st.FloorProfile || st.Serial != adm.Station.Serial {
			return nil, meanwhile
		}
		st.Password = credential
		return []ledger.Event{{Kind: "station.adopted", Subject: key, Actor: "backend", Data: map[string]string{
			"source": claim.Source.String(), "listener": claim.Listener,
		}}}, nil
	})
	if errors.Is(err, meanwhile) || errors.Is(err, ErrUnknownStation) {
		return Admission{}, s.refuse(claim, key, refusedPassword, err.Error(), http.StatusUnauthorized)
	}
	if err != nil {
		return Admission{}, fmt.Errorf("couldn't store the adopted password: %w", err)
	}
	if err := s.learnSecrets(ctx); err != nil {
		return Admission{}, err
	}
	if _, err := s.store.UpdatePlan(ctx, key, func(p *Plan) ([]ledger.Event, error) {
		p.AdoptedAt = s.clock()
		return nil, nil
	}); err != nil {
		return Admission{}, fmt.Errorf("couldn't note the adoption: %w", err)
	}
	return Admission{Station: st.Proven(), Profile: adm.Profile, NewChain: adm.NewChain, TLS13: adm.TLS13, Listener: adm.Listener, Notes: []string{adoptedNote(claim.Basic.Password)}}, nil
}

func adoptedNote(password []byte) string {
	if len(bytes.TrimSpace(password)) < minPassword {
		return fmt.Sprintf("password was adopted and is shorter than %d bytes: `bollard station password --rotate` replaces it", minPassword)
	}
	return "password was adopted from the back end's answer"
}
