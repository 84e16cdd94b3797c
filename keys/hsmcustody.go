package keys

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ThalesGroup/crypto11"
)

// custody reads the attributes of a private key (PKCS#11 3.0, 4.9) in a session of its
// own, in which the key has the same handle: go.step.sm/crypto doesn't give them.
func (l kmsLogin) custody(name string, role Role) (string, error) {
	key, err := l.find(name, role)
	if err != nil {
		return "", err
	}
	cfg := crypto11.Config{Path: l.at.library, Pin: string(l.pin), MaxSessions: 2}
	switch l.at.selector {
	case "token":
		cfg.TokenLabel = l.at.token
	case "serial":
		cfg.TokenSerial = l.at.token
	case "slot-id":
		slot, err := strconv.Atoi(l.at.token)
		if err != nil {
			return "", err
		}
		cfg.SlotNumber = &slot
	}
	module, err := crypto11.Configure(&cfg)
	if err != nil {
		return "", err
	}
	defer func() { _ = module.Close() }() // it is always nil
	said := map[string]string{}
	for name, attribute := range map[string]crypto11.AttributeType{
		"CKA_EXTRACTABLE": crypto11.CkaExtractable, "CKA_NEVER_EXTRACTABLE": crypto11.CkaNeverExtractable,
		"CKA_SENSITIVE": crypto11.CkaSensitive, "CKA_LOCAL": crypto11.CkaLocal,
	} {
		value, err := module.GetAttribute(key, attribute)
		switch {
		case err == nil && value != nil && len(value.Value) == 1:
			said[name] = strconv.FormatBool(value.Value[0] != 0)
		case err != nil && !strings.Contains(err.Error(), "CKR_ATTRIBUTE_"): // _TYPE_INVALID, _SENSITIVE: it doesn't say
			return "", err
		default:
			said[name] = "not said"
		}
	}
	words := fmt.Sprintf("CKA_EXTRACTABLE=%s, CKA_SENSITIVE=%s, CKA_NEVER_EXTRACTABLE=%s, CKA_LOCAL=%s",
		said["CKA_EXTRACTABLE"], said["CKA_SENSITIVE"], said["CKA_NEVER_EXTRACTABLE"], said["CKA_LOCAL"])
	switch {
	case said["CKA_EXTRACTABLE"] == "true" || said["CKA_SENSITIVE"] == "false":
		return "", fmt.Errorf("%w: the token may give it out (%s)", ErrUnfit, words)
	case said["CKA_EXTRACTABLE"] == "false" && said["CKA_NEVER_EXTRACTABLE"] == "true":
		return "no: " + words, nil
	}
	// Such as a key that was restored into this token, or one whose module is terse.
	return "not known: " + words, nil
}
