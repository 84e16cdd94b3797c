package policy_test

import (
	"testing"

	"bollard/ocpp"
	"bollard/policy"
)

// However a message spells the transaction it names, a rule sees the one that the
// most lenient of peers would, or refuses the message.
func TestSpellingsOfATransaction(t *testing.T) {
	t.Parallel()
	set := promotedAll(t)
	for _, tt := range []struct {
		version         ocpp.Version
		action, payload string
		asked           string // the id whose owner was asked for; "": refused without
	}{
		{ocpp.V16, "StopTransaction", `{"transactionId":7}`, "7"},
		{ocpp.V16, "StopTransaction", `{"transactionId":7.0}`, "7"},
		{ocpp.V16, "StopTransaction", `{"transactionId":0.7e1}`, "7"},
		{ocpp.V16, "StopTransaction", `{"transactionId":"7"}`, "7"},
		{ocpp.V16, "StopTransaction", `{"transactionId":" 07 "}`, "7"},
		{ocpp.V16, "StopTransaction", `{"transactionId":"7.0"}`, "7"},
		{ocpp.V16, "StopTransaction", `{"TransactionID":7}`, ""},
		{ocpp.V16, "StopTransaction", `{"transactionId":1,"transactionid":7}`, ""},
		{ocpp.V201, "TransactionEvent", `{"eventType":"Ended","transactionInfo":{"transactionId":"a-7"}}`, "a-7"},
		{ocpp.V201, "TransactionEvent", `{"eventType":"Ended","transactionId":"mine","transactionInfo":{"transactionId":"a-7"}}`, "a-7"},
		{ocpp.V21, "TransactionEvent", `{"eventType":"Ended","transactioninfo":{"transactionId":"a-7"}}`, ""},
		{ocpp.V21, "TransactionEvent", `{"eventType":"Ended","transactionInfo":{"TransactionId":"a-7"}}`, ""},
	} {
		in := input(tt.version, tt.action, tt.payload)
		in.Direction = ocpp.FromStation
		asked := ""
		in.Owner = func(id string) policy.Owner {
			asked = id
			return policy.OwnerOther
		}
		if d := set.Decide(in); d.Act != policy.Refuse || asked != tt.asked {
			t.Errorf("%s: %s by %q, asked for %q, want %q", tt.payload, d.Act, d.Rule, asked, tt.asked)
		}
	}
}
