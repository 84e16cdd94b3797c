package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	"bollard/contract"
	"bollard/internal/curve448"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
)

// AddContract gives an account a contract for a car.
type AddContract struct {
	EMAID string `json:"emaid"`
	PCID  string `json:"pcid"`
	// Car is the car's provisioning certificate with the maker's sub-CAs, PEM, leaf
	// first; empty: the car brings it.
	Car []byte `json:"car,omitempty"`
}

// ContractRef names an account's contracts, or the one for one car.
type ContractRef struct {
	EMAID string `json:"emaid"`
	PCID  string `json:"pcid,omitempty"`
}

// ContractFilter selects contracts; the zero value all of them.
type ContractFilter struct {
	// Expiring: those in force whose certificates end within, and whose cars didn't
	// come for others.
	Expiring time.Duration `json:"expiring,omitempty"`
}

// Contract is what an operator sees of one.
type Contract struct {
	ID           string     `json:"id"`
	EMAID        string     `json:"emaid"`
	PCID         string     `json:"pcid"`
	State        string     `json:"state"` // active, over (past its end), cancelled, kept (another provider's)
	CreatedAt    time.Time  `json:"created_at"`
	CancelledAt  *time.Time `json:"cancelled_at,omitempty"`
	EndsAt       *time.Time `json:"ends_at,omitempty"`
	Certificates []string   `json:"certificates"` // serials, oldest first
}

// stateOver is shown of a contract that is past its end. It is over by the clock, which
// nobody has to tell it.
const stateOver = "over"

// stateKept is shown of contract data of another provider that is kept for its car.
const stateKept = "kept"

// Contracts is a list.
type Contracts struct {
	Contracts []Contract `json:"contracts"`
}

// Provision answers a car's request that an operator has as a file.
type Provision struct {
	Schema string `json:"schema"` // namespace, as in OCPP's iso15118SchemaVersion
	EXI    []byte `json:"exi"`
	Update bool   `json:"update,omitempty"`
}

// Provisioned is the answer.
type Provisioned struct {
	EXI       []byte `json:"exi,omitempty"`
	Code      string `json:"code,omitempty"`
	Reason    string `json:"reason,omitempty"` // why not; empty on success
	Serial    string `json:"serial,omitempty"`
	Remaining int    `json:"remaining"`
}

func (o *operations) registerContracts(r *Registry) {
	Register(r, "contract.add", o.contractAdd)
	Register(r, "contract.list", o.contractList)
	Register(r, "contract.revoke", o.contractRevoke)
	Register(r, "contract.provision", o.contractProvision)
	Register(r, "tariff.sign", o.tariffSign)
}

func (o *operations) contractAdd(ctx context.Context, in AddContract) (Contract, error) {
	emaid, pcid, err := accountAndCar(in.EMAID, in.PCID)
	if err != nil {
		return Contract{}, err
	}
	if pcid == "" {
		return Contract{}, Usagef("--pcid names the car", "the PCID is missing")
	}
	if len(in.Car) > 0 {
		chain, err := readChain(in.Car)
		if err != nil {
			return Contract{}, Usagef("give PEM certificates, the car's first", "couldn't read the provisioning certificate: %w", err)
		}
		if named, err := identifier.ParsePCID(chain[0].Subject.CommonName); err != nil || named != pcid {
			return Contract{}, Refusedf("its common name has to be the PCID", "the provisioning certificate is another car's")
		}
		if _, err := o.cfg.Contracts.AddProvisioning(ctx, Actor(ctx), chain); err != nil {
			return Contract{}, Refusedf("`bollard ca trust add --use oem` trusts the maker's root", "the provisioning certificate isn't taken: %w", err)
		}
	}
	c, err := o.cfg.Contracts.Add(ctx, Actor(ctx), emaid, pcid)
	if err != nil {
		return Contract{}, err
	}
	return shownContract(&c, o.cfg.Clock()), nil
}

func (o *operations) contractList(ctx context.Context, in ContractFilter) (Contracts, error) {
	list, err := []contract.Contract(nil), error(nil)
	switch {
	case in.Expiring < 0:
		return Contracts{}, Usagef("such as 21d", "--expiring is negative")
	case in.Expiring > 0:
		list, err = o.cfg.Contracts.Expiring(ctx, o.cfg.Clock().Add(in.Expiring))
	default:
		list, err = o.cfg.Contracts.List(ctx)
	}
	if err != nil {
		return Contracts{}, err
	}
	out := shownContracts(list, o.cfg.Clock())
	if in.Expiring > 0 {
		return out, nil
	}
	kept, err := o.cfg.Contracts.AllKept(ctx)
	for i := range kept {
		out.Contracts = append(out.Contracts, Contract{
			ID: kept[i].ID, EMAID: string(kept[i].EMAID), PCID: string(kept[i].PCID), State: stateKept, CreatedAt: kept[i].KeptAt, EndsAt: instant(kept[i].Until), Certificates: []string{kept[i].Serial},
		})
	}
	return out, err
}

func (o *operations) contractRevoke(ctx context.Context, in ContractRef) (Contracts, error) {
	emaid, pcid, err := accountAndCar(in.EMAID, in.PCID)
	if err != nil {
		return Contracts{}, err
	}
	list, err := o.cfg.Contracts.Cancel(ctx, Actor(ctx), emaid, pcid)
	if err != nil {
		return Contracts{}, err
	}
	return shownContracts(list, o.cfg.Clock()), nil
}

func (o *operations) contractProvision(ctx context.Context, in Provision) (Provisioned, error) {
	p, err := message.ParseProtocol(in.Schema)
	if err != nil {
		return Provisioned{}, Usagef("", "%w", err)
	}
	a, err := o.cfg.Contracts.Provision(ctx, contract.Request{Protocol: p, EXI: in.EXI, Update: in.Update, Actor: Actor(ctx)})
	return Provisioned{EXI: a.EXI, Code: a.Code, Reason: a.Reason, Serial: a.Serial, Remaining: a.Remaining}, err
}

// accountAndCar reads both; the car may be left out.
func accountAndCar(account, car string) (identifier.EMAID, identifier.PCID, error) {
	emaid, err := identifier.ParseEMAID(account)
	if err != nil {
		return "", "", Usagef("such as NL-EXA-123456789", "%w", err)
	}
	if car == "" {
		return emaid, "", nil
	}
	pcid, err := identifier.ParsePCID(car)
	if err != nil {
		return "", "", Usagef("such as WP0TESTA00000001A3", "%w", err)
	}
	return emaid, pcid, nil
}

func readChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			break
		}
		cert, err := curve448.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		chain, data = append(chain, cert), rest
	}
	if len(chain) == 0 {
		return nil, Usagef("", "there is no PEM certificate")
	}
	return chain, nil
}

func shownContract(c *contract.Contract, now time.Time) Contract {
	out := Contract{
		ID: c.ID, EMAID: string(c.EMAID), PCID: string(c.PCID), State: string(c.State), CreatedAt: c.CreatedAt,
		CancelledAt: instant(c.CancelledAt), EndsAt: instant(c.EndsAt), Certificates: c.Serials,
	}
	if c.State == contract.StateActive && !c.InForce(now) {
		out.State = stateOver
	}
	if out.Certificates == nil {
		out.Certificates = []string{}
	}
	return out
}

func shownContracts(list []contract.Contract, now time.Time) Contracts {
	out := Contracts{Contracts: make([]Contract, len(list))}
	for i := range list {
		out.Contracts[i] = shownContract(&list[i], now)
	}
	return out
}
