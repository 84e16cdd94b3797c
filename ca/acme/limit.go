package acme

import (
	"time"

	"bollard/internal/pace"
)

// How often one account, and one address for what needs no account, may ask for
// what costs something.
var (
	perAccount = pace.Allowance{Burst: 60, Every: 10 * time.Second} // signed messages that write or connect
	perSource  = pace.Allowance{Burst: 30, Every: 20 * time.Second} // new accounts, good and bad
	// What accounts ask that neither have a token nor ever got a certificate: there may be
	// any number of them. A hundred stations behind one address enrol at once.
	perStranger = pace.Allowance{Burst: 300, Every: 10 * time.Second}
	perFailure  = pace.Allowance{Burst: 10, Every: 5 * time.Minute} // failed challenges of one account and identifier
)
