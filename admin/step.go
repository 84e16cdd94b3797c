package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"bollard/ca"
	"bollard/ca/step"
)

// StepProvisioner asks for one: a JWK, or the roots of X5C in PEM.
type StepProvisioner struct {
	Name  string   `json:"name"`
	JWK   []byte   `json:"jwk,omitempty"`
	Roots []byte   `json:"roots,omitempty"`
	Names []string `json:"names"`
}

// StepProvisionerRef names one.
type StepProvisionerRef struct {
	Name string `json:"name"`
}

// ShownStepProvisioner is what an operator sees of one.
type ShownStepProvisioner struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"`
	Names     []string  `json:"names"`
	Requester string    `json:"requester"` // as its certificates have it
	CreatedAt time.Time `json:"created_at"`
}

// StepProvisioners is a list.
type StepProvisioners struct {
	Provisioners []ShownStepProvisioner `json:"provisioners"`
}

func (o *operations) registerStep(r *Registry) {
	Register(r, "step.add", o.stepAdd)
	Register(r, "step.list", o.stepList)
	Register(r, "step.remove", o.stepRemove)
}

func (o *operations) stepAdd(ctx context.Context, in StepProvisioner) (ShownStepProvisioner, error) {
	if err := o.notOwn(in.Names); err != nil {
		return ShownStepProvisioner{}, err
	}
	var own []*x509.Certificate
	for _, kind := range ca.Kinds() {
		own = slices.Concat(own, o.cfg.Authority.Roots(kind), o.cfg.Authority.Intermediates(kind))
	}
	p, err := step.Add(ctx, o.cfg.Step, o.cfg.Blocked, own, o.cfg.Clock(), Actor(ctx), step.Draft{Name: in.Name, JWK: in.JWK, Roots: in.Roots, Names: in.Names})
	var invalid *step.InvalidError
	switch {
	case errors.As(err, &invalid):
		return ShownStepProvisioner{}, Usagef("`bollard step add --help` shows how", "%w", err)
	case errors.Is(err, step.ErrProvisionerExists):
		return ShownStepProvisioner{}, Refusedf("`bollard step list` shows it; remove it first, or take another name", "%w", err)
	}
	return shownStep(&p), err
}

func (o *operations) stepList(ctx context.Context, _ None) (StepProvisioners, error) {
	list, err := o.cfg.Step.StepProvisioners(ctx)
	out := StepProvisioners{Provisioners: make([]ShownStepProvisioner, len(list))}
	for i := range list {
		out.Provisioners[i] = shownStep(&list[i])
	}
	return out, err
}

func (o *operations) stepRemove(ctx context.Context, in StepProvisionerRef) (ShownStepProvisioner, error) {
	p, err := step.Remove(ctx, o.cfg.Step, Actor(ctx), in.Name)
	if errors.Is(err, step.ErrUnknownProvisioner) {
		return ShownStepProvisioner{}, Refusedf("`bollard step list` lists them", "%w: %q", err, in.Name)
	}
	return shownStep(&p), err
}

func shownStep(p *step.Provisioner) ShownStepProvisioner {
	return ShownStepProvisioner{Name: p.Name, Type: string(p.Type), Names: p.Names, Requester: p.Requester(), CreatedAt: p.CreatedAt}
}
