package policy

import (
	"math"
	"strconv"
	"strings"

	"bollard/ocpp"
)

// transactionPath is where a message names its transaction: one place, so that
// another field can't say something else.
func transactionPath(action string, v ocpp.Version) []string {
	switch {
	case action == "TransactionEvent":
		return []string{"transactionInfo", "transactionId"}
	case action == "SetChargingProfile" && v == ocpp.V16:
		return []string{"csChargingProfiles", "transactionId"}
	case action == "SetChargingProfile":
		return []string{"chargingProfile", "transactionId"}
	}
	return []string{"transactionId"}
}

// transactionFields are all names in such paths.
func transactionFields() []string {
	return []string{"transactionId", "transactionInfo", "csChargingProfiles", "chargingProfile"}
}

// transactionOf is the transaction a message names, or "".
func transactionOf(tree map[string]any, action string, v ocpp.Version) string {
	path := transactionPath(action, v)
	for _, name := range path[:len(path)-1] {
		tree, _ = tree[name].(map[string]any)
	}
	return transactionID(tree[path[len(path)-1]], v)
}

// transactionID spells an id in one way. Those of 1.6 are integers: lenient peers
// take 7.0 and "7" for 7.
func transactionID(value any, v ocpp.Version) string {
	switch id := value.(type) {
	case int64:
		return strconv.FormatInt(id, 10)
	case float64:
		if id == math.Trunc(id) && math.Abs(id) <= 1<<53 {
			return strconv.FormatInt(int64(id), 10)
		}
	case string:
		if v != ocpp.V16 {
			return id
		}
		id = strings.TrimSpace(id)
		if n, err := strconv.ParseInt(id, 10, 64); err == nil {
			return strconv.FormatInt(n, 10)
		}
		if f, err := strconv.ParseFloat(id, 64); err == nil {
			return transactionID(f, v)
		}
	}
	return ""
}
