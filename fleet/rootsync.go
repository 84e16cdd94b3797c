package fleet

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"bollard/ca"
	"bollard/ca/hashdata"
	"bollard/internal/failpoint"
	"bollard/ledger"
	"bollard/ocpp"
)

// Longest InstallCertificate.certificate in characters; a station may tell a
// larger one (OCPPCommCtrlr.FieldLength).
const (
	maxRoot   = 5500
	maxRoot21 = 10000
)

// StationLimits are what a station reported of itself; zero: nothing.
type StationLimits struct {
	// CrossSigned: a new CSMS root must be signed by the one installed
	// (AdditionalRootCertificateCheck).
	CrossSigned bool `json:"cross_signed,omitempty"`
	Chain       int  `json:"chain,omitempty"` // longest certificateChain in characters
	Root        int  `json:"root,omitempty"`  // longest certificate to install in characters
	Store       int  `json:"store,omitempty"` // most CA certificates
}

// syncRoots brings the roots on the station nearer to the wanted ones: it asks
// for what is installed (M03), installs what is missing (M05), deletes what is
// to go (M04), and believes only what the station then reports.
func (s *Service) syncRoots(ctx context.Context, sit *situation) (string, bool, error) {
	const what = "couldn't bring the roots on the station up to date"
	targets, err := s.targets(ctx, sit)
	if err != nil {
		return what, false, err
	}
	limits, err := s.readLimits(ctx, sit.sess)
	if err != nil {
		return what, false, err
	}
	asked := s.rootsAsked(sit, targets)
	if err := s.report(ctx, sit, asked, limits); err != nil {
		return what, false, pointless(err)
	}
	var failures []error
	changed := false
	for i := range targets {
		if t := &targets[i]; !t.installed(&sit.plan) {
			err := s.install(ctx, sit, t)
			if err != nil && !answered(err) && !errors.Is(err, errPointless) {
				return what, false, err // the session is gone or silent
			}
			failures, changed = append(failures, err), changed || err == nil
		}
	}
	for _, w := range slices.Clone(sit.plan.Wanted) {
		if w.Drop == "" {
			continue
		}
		err := s.drop(ctx, sit, w, targets)
		if err != nil && !answered(err) && !errors.Is(err, errPointless) {
			return what, false, err
		}
		failures, changed = append(failures, err), changed || err == nil
	}
	for _, r := range slices.Clone(sit.plan.Seen[RootCSMS]) {
		if len(failures) > 0 && errors.Join(failures...) != nil || !s.retired(r) || len(sit.plan.Seen[RootCSMS]) < 2 {
			continue
		}
		err := s.drop(ctx, sit, WantedRoot{Use: RootCSMS, Drop: r.ID()}, targets)
		if err != nil && !answered(err) && !errors.Is(err, errPointless) {
			return what, false, err
		}
		failures, changed = append(failures, err), changed || err == nil
	}
	if changed {
		if err := s.report(ctx, sit, asked, limits); err != nil {
			return what, false, err
		}
	}
	if err := errors.Join(failures...); err != nil {
		return what, false, oneLine(failures)
	}
	for i := range targets {
		if t := &targets[i]; !t.installed(&sit.plan) {
			return what, false, fmt.Errorf("station took the %s root %s but doesn't list it", t.use, ca.SerialOf(t.root))
		}
	}
	return "", true, nil
}

// oneLine joins errors for a note, the pointless only if all are.
func oneLine(list []error) error {
	var texts []string
	stop := true
	for _, err := range list {
		if err != nil {
			texts = append(texts, err.Error())
			stop = stop && errors.Is(err, errPointless)
		}
	}
	if stop {
		return fmt.Errorf("%s%w", strings.TrimSuffix(strings.Join(texts, "; "), errPointless.Error()), errPointless)
	}
	return errors.New(strings.Join(texts, "; "))
}

// rootsAsked says about which uses the station is asked.
func (s *Service) rootsAsked(sit *situation, targets []target) func(use string) bool {
	look, wants := sit.plan.Look, slices.Clone(sit.plan.Wanted)
	return func(use string) bool {
		wanted := slices.ContainsFunc(targets, func(t target) bool { return t.use == use }) ||
			slices.ContainsFunc(wants, func(w WantedRoot) bool { return w.onStation() == use })
		// A 1.6 station isn't asked without need whether it knows the wrapped form.
		known := wireUse(sit.sess.Version(), use) != "" || sit.wrapped
		return (wanted || look && known) && wireUse(sit.rootSession(use).Version(), use) != ""
	}
}

// rootSession is how messages about one use of roots go to the station: as its
// version has them, or as 2.0.1 messages inside DataTransfer where 1.6 has none
// for the use, or the station none of 1.6's.
func (sit *situation) rootSession(use string) Session {
	if sit.sess.Version() == ocpp.V16 && (sit.wrapped || wireUse(ocpp.V16, use) == "") {
		return transferred{sit.sess}
	}
	return sit.sess
}

// readLimits asks for what bounds an installation. A station that can't tell
// has the standard's limits.
func (s *Service) readLimits(ctx context.Context, sess Session) (StationLimits, error) {
	var l StationLimits
	number := func(text string) int {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	if sess.Version() == ocpp.V16 {
		values, err := configuration(ctx, sess, "AdditionalRootCertificateCheck", "CertificateSignedMaxChainSize", "CertificateStoreMaxLength")
		if err != nil {
			return l, unlessAnswered(err)
		}
		l.CrossSigned = strings.EqualFold(strings.TrimSpace(values["AdditionalRootCertificateCheck"]), "true")
		l.Chain, l.Store = number(values["CertificateSignedMaxChainSize"]), number(values["CertificateStoreMaxLength"])
		return l, nil
	}
	values, err := getVariables(ctx, sess, ocpp.Component{Name: "SecurityCtrlr"}, "AdditionalRootCertificateCheck", "MaxCertificateChainSize")
	if err != nil {
		return l, unlessAnswered(err)
	}
	l.CrossSigned = strings.EqualFold(strings.TrimSpace(values["AdditionalRootCertificateCheck"]), "true")
	l.Chain = number(values["MaxCertificateChainSize"])
	fields, err := getInstance(ctx, sess, ocpp.Component{Name: "OCPPCommCtrlr"}, "FieldLength", "InstallCertificateRequest.certificate")
	if err != nil {
		return l, unlessAnswered(err)
	}
	l.Root = number(fields)
	return l, nil
}

func unlessAnswered(err error) error {
	if answered(err) {
		return nil
	}
	return err
}

// report asks for the installed roots and records the answer.
func (s *Service) report(ctx context.Context, sit *situation, asked func(use string) bool, limits StationLimits) error {
	seen := map[string][]SeenRoot{}
	for _, use := range RootUses() {
		if !asked(use) {
			continue
		}
		list, err := s.installed(ctx, sit.rootSession(use), use)
		if sit.sess.Version() == ocpp.V16 && !sit.wrapped && errors.Is(pointless(err), errPointless) {
			if wireUse(ocpp.V16, use) == "" {
				continue // its installation says why not
			}
			if inside, failed := s.installed(ctx, transferred{sit.sess}, use); failed == nil {
				list, err, sit.wrapped = inside, nil, true
			}
		}
		if err != nil {
			return fmt.Errorf("couldn't learn the station's %s roots: %w", use, err)
		}
		seen[use] = list
	}
	plan, err := s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		if p.Seen == nil {
			p.Seen = map[string][]SeenRoot{}
		}
		for use, list := range seen {
			p.Seen[use] = list
		}
		p.SeenAt, p.Limits, p.Look = s.clock(), limits, false
		return nil, nil
	})
	if err != nil {
		return err
	}
	sit.plan = plan
	return nil
}

// installed asks for the roots of one use (M03). NotFound is an empty list; so
// is Accepted without one, which the schema forbids and stations send.
func (s *Service) installed(ctx context.Context, sess Session, use string) ([]SeenRoot, error) {
	list := []SeenRoot{}
	name := wireUse(sess.Version(), use)
	if sess.Version() == ocpp.V16 {
		answer, err := sess.Call(ctx, ocpp.ActionGetInstalledCertificateIDs, ocpp.GetInstalledCertificateIDsRequest16{CertificateType: name})
		if err != nil {
			return nil, err
		}
		var response ocpp.GetInstalledCertificateIDsResponse16
		if err := ocpp.DecodeStrict(answer, &response); err != nil {
			return nil, fmt.Errorf("couldn't read the station's answer: %w", err)
		}
		for _, d := range response.CertificateHashData {
			list = append(list, SeenRoot{bounded(d)})
		}
		return list, rootStatus(response.Status)
	}
	answer, err := sess.Call(ctx, ocpp.ActionGetInstalledCertificateIDs, ocpp.GetInstalledCertificateIDsRequest{CertificateType: []string{name}})
	if err != nil {
		return nil, err
	}
	var response ocpp.GetInstalledCertificateIDsResponse
	if err := ocpp.DecodeStrict(answer, &response); err != nil {
		return nil, fmt.Errorf("couldn't read the station's answer: %w", err)
	}
	for _, chain := range response.CertificateHashDataChain {
		if strings.EqualFold(chain.CertificateType, name) {
			list = append(list, SeenRoot{bounded(chain.CertificateHashData)})
		}
	}
	return list, rootStatus(response.Status)
}

func rootStatus(status string) error {
	if status == ocpp.StatusAccepted || status == ocpp.StatusNotFound {
		return nil
	}
	return refusedStep{capped(status)}
}

// bounded keeps hostile lengths out of the record. What is cut matches nothing.
func bounded(d ocpp.CertificateHashData) ocpp.CertificateHashData {
	d.HashAlgorithm, d.SerialNumber = d.HashAlgorithm[:min(len(d.HashAlgorithm), 16)], d.SerialNumber[:min(len(d.SerialNumber), 64)]
	d.IssuerNameHash, d.IssuerKeyHash = d.IssuerNameHash[:min(len(d.IssuerNameHash), 128)], d.IssuerKeyHash[:min(len(d.IssuerKeyHash), 128)]
	return d
}

// install sends one root. Where the station wants a new CSMS root signed by the
// old one, the cross-signed form is what is sent (M05, AdditionalRootCertificateCheck).
func (s *Service) install(ctx context.Context, sit *situation, t *target) error {
	sess, limits := sit.rootSession(t.use), sit.plan.Limits
	v := sess.Version()
	name := wireUse(v, t.use)
	if name == "" {
		return fmt.Errorf("OCPP %s has no message for %s roots; %w", v, t.use, errPointless)
	}
	cert := t.root
	if limits.CrossSigned && t.cross != nil {
		cert = t.cross
	} else if err := ca.CheckRoot(cert, sit.now); err != nil {
		return fmt.Errorf("%w; %w", err, errPointless)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	most := maxRoot
	if v == ocpp.V21 {
		most = maxRoot21
	}
	if most = max(most, limits.Root); len(text) > most {
		return fmt.Errorf("%s root has %d characters, the station takes %d; %w", t.use, len(text), most, errPointless)
	}
	if held := heldRoots(&sit.plan); limits.Store > 0 && held >= limits.Store {
		return fmt.Errorf("station holds %d CA certificates and has room for %d: drop one; %w", held, limits.Store, errPointless)
	}
	failpoint.Hit("fleet.plan-root-install")
	_, err := call(ctx, sess, ocpp.ActionInstallCertificate, ocpp.InstallCertificateRequest{CertificateType: name, Certificate: text}, ocpp.StatusAccepted)
	failpoint.Hit("fleet.plan-root-installed")
	if err != nil {
		return fmt.Errorf("couldn't install the %s root: %w", t.use, pointless(err))
	}
	s.recordStep(ctx, sit.sess, "roots.installed", map[string]string{"use": t.use, "serial": ca.SerialOf(cert)})
	return nil
}

func heldRoots(p *Plan) int {
	n := 0
	for _, list := range p.Seen {
		n += len(list)
	}
	return n
}

// drop deletes one root by the station's own words for it (M04.FR.07).
func (s *Service) drop(ctx context.Context, sit *situation, w WantedRoot, targets []target) error {
	i := slices.IndexFunc(sit.plan.Seen[w.Use], func(r SeenRoot) bool { return r.ID() == w.Drop })
	if i >= 0 {
		seen := sit.plan.Seen[w.Use][i]
		if reason, err := s.needed(ctx, sit, w.Use, seen, targets); err != nil {
			return err
		} else if reason != "" {
			return fmt.Errorf("root %s is not deleted: %s; %w", w.Drop, reason, errPointless)
		}
		failpoint.Hit("fleet.plan-root-delete")
		_, err := call(ctx, sit.rootSession(w.Use), ocpp.ActionDeleteCertificate, ocpp.DeleteCertificateRequest{CertificateHashData: seen.CertificateHashData},
			ocpp.StatusAccepted, ocpp.StatusNotFound)
		failpoint.Hit("fleet.plan-root-deleted")
		if err != nil {
			return fmt.Errorf("couldn't delete root %s: %w", w.Drop, pointless(err))
		}
		s.recordStep(ctx, sit.sess, "roots.deleted", map[string]string{"use": w.Use, "root": w.Drop})
	}
	plan, err := s.store.UpdatePlan(ctx, sit.l.key, func(p *Plan) ([]ledger.Event, error) {
		p.Wanted = slices.DeleteFunc(p.Wanted, func(x WantedRoot) bool { return x.Use == w.Use && x.Drop == w.Drop })
		// What is gone doesn't count as a second of its kind for the next one.
		p.Seen[w.Use] = slices.DeleteFunc(slices.Clone(p.Seen[w.Use]), func(r SeenRoot) bool { return r.ID() == w.Drop })
		return nil, nil
	})
	if err == nil {
		sit.plan = plan
	}
	return err
}

// needed says why a root must stay: without it the station couldn't connect or
// take firmware any more (M04 warning).
func (s *Service) needed(ctx context.Context, sit *situation, use string, seen SeenRoot, targets []target) (string, error) {
	list := sit.plan.Seen[use]
	if len(list) < 2 {
		return "it is the last of its kind", nil
	}
	if slices.ContainsFunc(targets, func(t target) bool { return t.use == use && t.named(seen.CertificateHashData) }) {
		return "it is wanted on the station", nil
	}
	if use != RootCSMS {
		return "", nil
	}
	served, err := s.served(ctx)
	if err != nil {
		return "", err
	}
	is := func(r SeenRoot) bool {
		return slices.ContainsFunc(served, func(c *x509.Certificate) bool {
			return hashdata.Names(r.CertificateHashData, c, c) || hashdata.NamesIssuer(r.CertificateHashData, c)
		})
	}
	if is(seen) {
		return "the server certificate leads to it", nil
	}
	// A cross-signed root stands for the served one too.
	other := slices.ContainsFunc(list, func(r SeenRoot) bool {
		return r.ID() != seen.ID() && (is(r) || slices.ContainsFunc(targets, func(t target) bool {
			return t.use == RootCSMS && t.named(r.CertificateHashData) && slices.ContainsFunc(served, t.root.Equal)
		}))
	})
	if !other {
		return "no other root on the station leads to the server certificate", nil
	}
	return "", nil
}
