package ca

import (
	"context"

	"bollard/keys"
)

// custody asks what holds a key of the authority's own what it says of it, for the ledger.
// A key that may leave what keeps it isn't certified.
func (a *Authority) custody(ctx context.Context, uri string, role keys.Role) (keys.Custody, error) {
	if a.cfg.Keeper == nil || uri == "" || keys.IsMount(uri) { // a key of Config.Keys, or one nobody can ask for
		return keys.Custody{}, nil
	}
	return a.cfg.Keeper.Custody(ctx, uri, role)
}

// custodyInto puts what is known of a key into an entry about it.
func custodyInto(data map[string]string, c keys.Custody) {
	if c != (keys.Custody{}) {
		data["holder"], data["exportable"] = c.Holder, c.Exportable
	}
}
