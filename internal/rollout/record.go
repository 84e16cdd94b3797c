package rollout

import (
	"encoding/json"
	"time"
)

// Record is a rollout as it is stored, beside its members.
type Record struct {
	ID     string
	Kind   string          // whose it is, such as "fleet"
	At     time.Time       // of its beginning
	Detail json.RawMessage // what it is about; its owner's
	Header Header
	AtWork bool // it has members at work: as it was read
}

// Step is a rollout as it is to be stored, new or known, with those of its members that
// changed.
type Step struct {
	Record  Record
	Changed []Member
}
