package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"bollard/approval"
	"bollard/approval/docket"
)

// Approver is a person who approves, with the names of their keys.
type Approver struct {
	Name    string           `json:"name"`
	Keys    []ApproverKey    `json:"keys"`
	Actions []ApproverQuorum `json:"actions"` // that they can approve
}

// ApproverKey is a public key by its name.
type ApproverKey struct {
	Kind approval.Kind `json:"kind"`
	ID   string        `json:"id"`
}

// ApproverQuorum is how many people an action takes.
type ApproverQuorum struct {
	Action string `json:"action"`
	Needed int    `json:"needed"`
}

// Approvers lists them.
type Approvers struct {
	Approvers []Approver `json:"approvers"`
}

// AskApproval asks people to approve something.
type AskApproval struct {
	Action string        `json:"action"`
	Name   string        `json:"name"`             // such as the station's identity
	Person string        `json:"person,omitempty"` // who asks, where several share an account
	Reason string        `json:"reason"`
	Valid  time.Duration `json:"valid,omitempty"`
}

// ApprovalRef names one by its nonce or the beginning of it.
type ApprovalRef struct {
	ID string `json:"id"`
}

// SignApproval adds a signature.
type SignApproval struct {
	ID        string `json:"id"`
	Signature []byte `json:"signature"`
}

// WithdrawApproval closes one.
type WithdrawApproval struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Approval is a request for approval and where it stands.
type Approval struct {
	docket.Standing
	Statement string `json:"statement"` // what is signed, byte for byte
}

// Approvals lists them, newest first.
type Approvals struct {
	Approvals []Approval `json:"approvals"`
}

func (o *operations) registerApprovals(r *Registry) {
	d := o.cfg.Docket
	one := func(ctx context.Context, m docket.Matter, err error) (Approval, error) {
		if err != nil {
			return Approval{}, err
		}
		return approvalOf(d.Standing(ctx, m))
	}
	Register(r, "approver.list", func(context.Context, None) (Approvers, error) { return approvers(d), nil })
	Register(r, "approval.request", func(ctx context.Context, in AskApproval) (Approval, error) {
		m, err := d.Open(ctx, Actor(ctx), docket.Ask{Action: in.Action, Name: in.Name, Person: in.Person, Reason: in.Reason, Valid: in.Valid})
		return one(ctx, m, err)
	})
	Register(r, "approval.show", func(ctx context.Context, in ApprovalRef) (Approval, error) {
		m, err := d.Find(ctx, in.ID)
		return one(ctx, m, err)
	})
	Register(r, "approval.sign", func(ctx context.Context, in SignApproval) (Approval, error) {
		m, _, err := d.Sign(ctx, Actor(ctx), in.ID, in.Signature)
		return one(ctx, m, err)
	})
	Register(r, "approval.withdraw", func(ctx context.Context, in WithdrawApproval) (Approval, error) {
		m, err := d.Withdraw(ctx, Actor(ctx), in.ID, in.Reason)
		return one(ctx, m, err)
	})
	Register(r, "approval.list", func(ctx context.Context, _ None) (Approvals, error) {
		list, err := d.List(ctx)
		out := Approvals{Approvals: []Approval{}}
		for _, s := range list {
			a, failed := approvalOf(s)
			if failed != nil {
				return Approvals{}, failed
			}
			out.Approvals = append(out.Approvals, a)
		}
		return out, err
	})
}

func approvalOf(s docket.Standing) (Approval, error) {
	statement, err := s.Statement()
	return Approval{s, string(statement)}, err
}

func approvers(d *docket.Docket) Approvers {
	rules := d.Rules()
	out := Approvers{Approvers: []Approver{}}
	for _, p := range rules.People {
		a := Approver{Name: p.Name, Keys: []ApproverKey{}, Actions: []ApproverQuorum{}}
		for _, k := range p.Keys {
			a.Keys = append(a.Keys, ApproverKey{k.Kind, k.ID})
		}
		for _, action := range slices.Sorted(maps.Keys(rules.Quorums)) {
			if q := rules.Quorums[action]; len(q.Of) == 0 || slices.Contains(q.Of, p.Name) {
				a.Actions = append(a.Actions, ApproverQuorum{action, q.Needed})
			}
		}
		out.Approvers = append(out.Approvers, a)
	}
	return out
}
