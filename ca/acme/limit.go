package acme

import (
	"time"

	"bollard/internal/pace"
)

// How often one address, and one account, may ask for what costs something.
var (
	// Messages of one address, good and bad: each costs a signature to verify, or takes the
	// place of somebody's nonce. A certificate takes a dozen, and a hundred stations behind one
	// address get theirs at once.
	perSource   = pace.Allowance{Burst: 3000, Every: 100 * time.Millisecond}
	perNewcomer = pace.Allowance{Burst: 30, Every: 20 * time.Second} // new accounts, good and bad
	perAccount  = pace.Allowance{Burst: 60, Every: 10 * time.Second} // signed messages that write or connect, and challenges judged again
	// What accounts ask that neither have a token nor ever got a certificate: there may be
	// any number of them. A hundred stations behind one address enrol at once.
	perStranger = pace.Allowance{Burst: 300, Every: 10 * time.Second}
	perFailure  = pace.Allowance{Burst: 10, Every: 5 * time.Minute} // failed challenges of one account and identifier
)
