package step

import "errors"

// Parse reads everything a stranger may send: a body of /sign or /revoke, and a token.
func Parse(data []byte) []error {
	_, sign := parseSign(data)
	_, revoke := parseRevoke(data)
	_, token := parseToken(string(data))
	var faults []error
	for _, err := range []error{sign, revoke, token} {
		var refused *Refusal
		if err != nil && !errors.As(err, &refused) {
			faults = append(faults, err)
		}
	}
	return faults
}

// Bursts of a provisioner and of an address.
var (
	PerProvisioner = perProvisioner.Burst
	PerSource      = perSource.Burst
)
