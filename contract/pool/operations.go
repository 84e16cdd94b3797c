package pool

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/internal/curve448"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
)

// signedData answers a car's request that an operator passes on. Failures are answers
// for the car, too, with 404; alwaysReturnEXI: false has them in words alone.
func (d *Door) signedData(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	var in question
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	p, err := message.ParseProtocol(in.Namespace)
	if err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "xsdMsgDefNamespace: %v", err)
	}
	exi, err := base64.StdEncoding.Strict().DecodeString(in.Request)
	if err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "certificateInstallationReq isn't base64")
	}
	request := contract.Request{Protocol: p, EXI: exi, Actor: actorOf(t.Name), Final: true}
	if car, err := message.DecodeRequest(p, exi); err == nil {
		request.Update = car.Update // OPCP has one operation for both
	}
	a, err := d.cfg.Contracts.Provision(ctx, request)
	switch {
	case err != nil:
		return 0, nil, err
	case len(a.EXI) == 0:
		return 0, nil, refuse(http.StatusBadRequest, "EXI format is invalid")
	}
	out := answers{&ccpAnswers{[]content{{contractAnswer{Answer: base64.StdEncoding.EncodeToString(a.EXI), EMAID: string(a.EMAID)}}}}}
	if a.Reason == "" {
		return http.StatusOK, out, nil
	}
	trace := newTrace()
	d.cfg.Log.Warn("a car got no contract certificate", "token", t.Name, "reason", a.Reason, "trace", trace)
	if strings.EqualFold(r.Header.Get("alwaysReturnEXI"), "false") {
		return http.StatusNotFound, problem("there is no contract for the car, or it isn't proven", trace), nil
	}
	return http.StatusNotFound, out, nil
}

// makeContract gives an account a contract for a car (GenerateSignedContractData).
func (d *Door) makeContract(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	var in struct {
		Begins    string `json:"contractBegins"`
		Ends      string `json:"contractEnds"`
		EMAID     string `json:"emaid"`
		PCID      string `json:"pcid"`
		Namespace string `json:"xsdMsgDefNamespace"`
	}
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	emaid, err := account(t, in.EMAID)
	if err != nil {
		return 0, nil, err
	}
	pcid, err := identifier.ParsePCID(in.PCID)
	if err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	begins, err1 := time.Parse(time.RFC3339, in.Begins)
	ends, err2 := time.Parse(time.RFC3339, in.Ends)
	p, err3 := message.ParseProtocol(in.Namespace)
	switch {
	case errors.Join(err1, err2, err3) != nil:
		return 0, nil, refuse(http.StatusBadRequest, "contractBegins and contractEnds are times (RFC 3339), xsdMsgDefNamespace is an edition's")
	case begins.After(d.cfg.Clock()):
		return 0, nil, refuse(http.StatusBadRequest, "contractBegins is in the future: send it when it begins")
	}
	known, err := d.cfg.Contracts.Provisioning(ctx, pcid)
	if err != nil {
		return 0, nil, err
	}
	if !inEdition(known, p) {
		return 0, nil, refuse(http.StatusBadRequest, noCar)
	}
	_, err = d.cfg.Contracts.AddUntil(ctx, actorOf(t.Name), emaid, pcid, ends)
	switch {
	case errors.Is(err, contract.ErrTooShort):
		return 0, nil, refuse(http.StatusBadRequest, "contractEnds is too soon, or sooner than it was: deleting the contract ends it")
	case errors.Is(err, contract.ErrTooMany):
		return 0, nil, refuse(http.StatusConflict, "the car has as many contracts as one may have")
	case err != nil:
		return 0, nil, err
	}
	// A car that left the pool meanwhile may not have had the contract yet.
	if known, err = d.cfg.Contracts.Provisioning(ctx, pcid); err != nil {
		return 0, nil, err
	}
	if len(known) == 0 {
		if _, err := d.cfg.Contracts.Cancel(ctx, actorOf(t.Name), emaid, pcid); err != nil {
			return 0, nil, err
		}
		return 0, nil, refuse(http.StatusBadRequest, noCar)
	}
	return http.StatusCreated, nil, nil
}

// keep takes contract data that a provider made, sealed and had signed, for a car.
func (d *Door) keep(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	var in given
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	emaid, err := account(t, in.EMAID)
	if err != nil {
		return 0, nil, err
	}
	pcid, err1 := identifier.ParsePCID(in.PCID)
	p, err2 := message.ParseProtocol(in.Namespace)
	if err := errors.Join(err1, err2); err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	data, err := exiOf(p, "signedContractDataXML", in.Data)
	if err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	_, err = d.cfg.Contracts.Keep(ctx, actorOf(t.Name), emaid, pcid, p, data)
	fault, faulty := errors.AsType[*contract.Fault](err)
	switch {
	case faulty:
		return 0, nil, refuse(http.StatusBadRequest, "the contract data isn't kept: %s", fault.Reason)
	case errors.Is(err, contract.ErrTooMany):
		return 0, nil, refuse(http.StatusConflict, "the car has as many contracts as one may have")
	case err != nil:
		return 0, nil, err
	}
	// A car that left the pool meanwhile may not have had the data yet.
	known, err := d.cfg.Contracts.Provisioning(ctx, pcid)
	if err != nil {
		return 0, nil, err
	}
	if len(known) == 0 {
		if _, err := d.cfg.Contracts.Cancel(ctx, actorOf(t.Name), emaid, pcid); err != nil && !errors.Is(err, contract.ErrUnknown) {
			return 0, nil, err
		}
		return 0, nil, refuse(http.StatusBadRequest, noCar)
	}
	return http.StatusCreated, nil, nil
}

const noCar = "the provisioning certificate of the car isn't in the pool"

func inEdition(list []contract.Provisioning, p message.Protocol) bool {
	for _, known := range list {
		if known.Protocol == p {
			return true
		}
	}
	return false
}

// sign has the own CPS sign contract data that a provider made and sealed itself. It is
// given back, and kept nowhere.
func (d *Door) sign(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	var in unsigned
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	emaid, err := account(t, in.EMAID)
	if err != nil {
		return 0, nil, err
	}
	if in.Namespace != message.Namespace2 || in.PCID != "" {
		return 0, nil, refuse(http.StatusBadRequest, "contract data of ISO 15118-2 alone is signed, and kept for no car: leave pcid out")
	}
	a, err := in.response()
	if err != nil {
		return 0, nil, refuse(http.StatusBadRequest, "%v", err)
	}
	err = d.cfg.Contracts.SignFor(ctx, actorOf(t.Name), emaid, a)
	if fault, ok := errors.AsType[*contract.Fault](err); ok {
		return 0, nil, refuse(http.StatusBadRequest, "the contract data isn't signed: %s", fault.Reason)
	}
	if err != nil {
		return 0, nil, err
	}
	out, err := signedOf(a)
	return http.StatusCreated, out, err
}

// account reads an eMAID that a token may touch.
func account(t *Token, text string) (identifier.EMAID, error) {
	emaid, err := identifier.ParseEMAID(text)
	switch {
	case err != nil:
		return "", refuse(http.StatusBadRequest, "%v", err)
	case !t.may(string(emaid)):
		return "", refuse(http.StatusForbidden, "the account is another provider's")
	}
	return emaid, nil
}

// endContract cancels an account's contracts, revokes their certificates and forgets
// what is kept of it.
func (d *Door) endContract(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	emaid, err := account(t, r.PathValue("emaid"))
	if err != nil {
		return 0, nil, err
	}
	_, err = d.cfg.Contracts.Cancel(ctx, actorOf(t.Name), emaid, "")
	if errors.Is(err, contract.ErrUnknown) {
		return 0, nil, refuse(http.StatusNotFound, "no contract for the account")
	}
	return http.StatusOK, nil, err
}

// shown is a contract in LookupContractResponse.
type shown struct {
	PCID        string    `json:"pcid"`
	EMAID       string    `json:"emaid"`
	Namespace   string    `json:"xsdMsgDefNamespace,omitempty"`
	Certificate string    `json:"contractCertificate,omitempty"` // none before the car asked
	From        time.Time `json:"certValidFrom,omitzero"`
	To          time.Time `json:"certValidTo,omitzero"`
}

func (d *Door) lookupContract(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	emaid, err := account(t, r.PathValue("emaid"))
	if err != nil {
		return 0, nil, err
	}
	list, err := d.cfg.Contracts.By(ctx, emaid)
	if err != nil {
		return 0, nil, err
	}
	kept, err := d.cfg.Contracts.KeptBy(ctx, emaid)
	if err != nil {
		return 0, nil, err
	}
	return d.show(ctx, t, r, list, kept, map[string]string{"emaid": string(emaid.Bare())})
}

func (d *Door) contractsOf(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	pcid, err := car(t, r)
	if err != nil {
		return 0, nil, err
	}
	list, err := d.cfg.Contracts.Of(ctx, pcid)
	if err != nil {
		return 0, nil, err
	}
	kept, err := d.cfg.Contracts.KeptOf(ctx, pcid)
	if err != nil {
		return 0, nil, err
	}
	return d.show(ctx, t, r, list, kept, map[string]string{"pcid": string(pcid)})
}

// namespaceOf is the edition of a contract certificate: each but the first profile is one
// of ISO 15118-20.
func namespaceOf(profile string) string {
	if profile == ca.ProfileContract {
		return message.Namespace2
	}
	return message.Namespace20
}

// show lists what of contracts is in force, and what is kept.
func (d *Door) show(ctx context.Context, t *Token, r *http.Request, list []contract.Contract, kept []contract.Kept, of map[string]string) (int, any, error) {
	out := []shown{}
	for i := range list {
		if !list[i].InForce(d.cfg.Clock()) {
			continue
		}
		one := shown{PCID: string(list[i].PCID), EMAID: string(list[i].EMAID)}
		issued, ok, err := d.cfg.Contracts.Certificate(ctx, &list[i])
		if err != nil {
			return 0, nil, err
		}
		if ok {
			one.Certificate, one.From, one.To = base64.StdEncoding.EncodeToString(issued.Certificate.Raw), issued.NotBefore, issued.NotAfter
			one.Namespace = namespaceOf(issued.Profile)
		}
		out = append(out, one)
	}
	for i := range kept {
		leaf, err := kept[i].Leaf()
		if err != nil {
			return 0, nil, err
		}
		out = append(out, shown{PCID: string(kept[i].PCID), EMAID: string(kept[i].EMAID), Namespace: kept[i].Protocol.Namespace(),
			Certificate: base64.StdEncoding.EncodeToString(leaf.Raw), From: leaf.NotBefore, To: leaf.NotAfter})
	}
	if len(out) == 0 {
		return 0, nil, refuse(http.StatusNotFound, "no contract in force")
	}
	return http.StatusOK, map[string]any{"XMLContracts": out}, d.noted(ctx, t, r, of)
}

// noted records that something of a person was handed out.
func (d *Door) noted(ctx context.Context, t *Token, r *http.Request, of map[string]string) error {
	e := ledger.Event{Kind: "pool.read", Subject: t.Name, Actor: actorOf(t.Name), Data: map[string]string{"operation": r.Pattern}}
	for key, value := range of {
		e.Data[key], e.People = value, append(e.People, key)
	}
	return d.cfg.Tokens.Store.Record(ctx, e)
}

// car reads the PCID of a path that a token may touch. A provider may look at any car.
func car(t *Token, r *http.Request) (identifier.PCID, error) {
	pcid, err := identifier.ParsePCID(r.PathValue("pcid"))
	switch {
	case err != nil:
		return "", refuse(http.StatusBadRequest, "%v", err)
	case t.Role == RoleOEM && !t.may(string(pcid)):
		return "", refuse(http.StatusForbidden, "the car is another manufacturer's")
	}
	return pcid, nil
}

// carCertificates is a car in OPCP (ProvisioningCertificate), each in base64 of DER.
type carCertificates struct {
	Leaf      string `json:"vehicleCertificate"`
	Sub1      string `json:"subCA1Certificate"`
	Sub2      string `json:"subCA2Certificate,omitempty"`
	Namespace string `json:"xsdMsgDefNamespace,omitempty"`
}

// putCar takes a car's provisioning certificate into the pool.
func (d *Door) putCar(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	var in carCertificates
	if err := read(r, &in); err != nil {
		return 0, nil, err
	}
	var chain []*x509.Certificate
	for _, text := range []string{in.Leaf, in.Sub2, in.Sub1} {
		if text == "" && len(chain) > 0 {
			continue // there may be one sub-CA alone, or none
		}
		der, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return 0, nil, refuse(http.StatusBadRequest, "a certificate isn't base64 of DER")
		}
		cert, err := curve448.ParseCertificate(der)
		if err != nil {
			return 0, nil, refuse(http.StatusBadRequest, "a certificate can't be read")
		}
		chain = append(chain, cert)
	}
	pcid, err := identifier.ParsePCID(chain[0].Subject.CommonName)
	switch {
	case err != nil:
		return 0, nil, refuse(http.StatusBadRequest, "the common name of vehicleCertificate: %v", err)
	case !t.may(string(pcid)):
		return 0, nil, refuse(http.StatusForbidden, "the car is another manufacturer's")
	}
	if _, err := d.cfg.Contracts.AddProvisioning(ctx, actorOf(t.Name), chain); err != nil {
		if fault, ok := errors.AsType[*contract.Fault](err); ok {
			return 0, nil, refuse(http.StatusBadRequest, "the certificate isn't taken: %s", fault.Reason)
		}
		return 0, nil, err
	}
	return http.StatusOK, in, nil
}

// car hands out the certificates of a car; the edition is that of the query, or -2.
func (d *Door) car(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	list, of, err := d.carOf(ctx, t, r)
	if err != nil {
		return 0, nil, err
	}
	wanted := message.ISO2
	if text := r.URL.Query().Get("xsdMsgDefNamespace"); text != "" {
		if wanted, err = message.ParseProtocol(text); err != nil {
			return 0, nil, refuse(http.StatusBadRequest, "xsdMsgDefNamespace: %v", err)
		}
	}
	for _, known := range list {
		if known.Protocol != wanted {
			continue
		}
		out := carCertificates{Leaf: base64.StdEncoding.EncodeToString(known.Certificate), Namespace: wanted.Namespace()}
		for i, sub := range known.SubCertificates {
			text := base64.StdEncoding.EncodeToString(sub)
			if i == len(known.SubCertificates)-1 {
				out.Sub1 = text
			} else {
				out.Sub2 = text
			}
		}
		return http.StatusOK, map[string]any{"OEMMessage": out}, d.noted(ctx, t, r, of)
	}
	return 0, nil, refuse(http.StatusNotFound, "no provisioning certificate of the car in that edition")
}

// lookupCar says which editions there are certificates of.
func (d *Door) lookupCar(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	list, of, err := d.carOf(ctx, t, r)
	if err != nil {
		return 0, nil, err
	}
	spaces := []string{}
	for _, known := range list {
		spaces = append(spaces, known.Protocol.Namespace())
	}
	return http.StatusOK, map[string]any{"pcid": r.PathValue("pcid"), "xsdMsgDefNamespaces": spaces}, d.noted(ctx, t, r, of)
}

func (d *Door) carOf(ctx context.Context, t *Token, r *http.Request) ([]contract.Provisioning, map[string]string, error) {
	pcid, err := car(t, r)
	if err != nil {
		return nil, nil, err
	}
	list, err := d.cfg.Contracts.Provisioning(ctx, pcid)
	if err == nil && len(list) == 0 {
		err = refuse(http.StatusNotFound, "no provisioning certificate of the car")
	}
	return list, map[string]string{"pcid": string(pcid)}, err
}

// removeCar takes a car's certificates out of the pool and ends its contracts.
func (d *Door) removeCar(ctx context.Context, t *Token, r *http.Request) (int, any, error) {
	pcid, err := car(t, r)
	if err != nil {
		return 0, nil, err
	}
	err = d.cfg.Contracts.RemoveProvisioning(ctx, actorOf(t.Name), pcid)
	if errors.Is(err, contract.ErrUnknown) {
		return 0, nil, refuse(http.StatusNotFound, "no provisioning certificate of the car")
	}
	return http.StatusOK, nil, err
}
