package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/nsmithuk/local-kms/src/cmk"
	"github.com/nsmithuk/local-kms/src/config"
)

// roleTag is what the policy of docs/keys.md goes by.
const roleTag = "bollard-role"

// question is what of a request the policy looks at.
type question struct {
	KeyId            string
	AliasName        string
	TargetKeyId      string
	SigningAlgorithm string
	Message          []byte
	Tags             []struct{ TagKey, TagValue string }
}

// allows is the policy of docs/keys.md for a role: keys with its tag alone, none without.
func (d *door) allows(who login, target string, body []byte) *refusal {
	if who.Role == "*" {
		return nil
	}
	var q question
	_ = json.Unmarshal(body, &q) // who is behind the door refuses what isn't JSON
	_, action, _ := strings.Cut(target, ".")
	denied := &refusal{"AccessDeniedException", "User " + who.ID + " is not authorized to perform: kms:" + action}
	if who.Role == "" {
		return denied
	}
	switch action {
	case "CreateKey":
		for _, t := range q.Tags {
			if t.TagKey == roleTag && t.TagValue == who.Role {
				return nil
			}
		}
	case "CreateAlias":
		if strings.HasPrefix(q.AliasName, "alias/bollard-"+who.Role+"-") && d.tagged(q.TargetKeyId, who.Role) {
			return nil
		}
	case "DescribeKey", "GetPublicKey", "Sign", "ScheduleKeyDeletion":
		if d.find(q.KeyId) == nil || d.tagged(q.KeyId, who.Role) {
			return nil
		}
	}
	return denied
}

// find returns a key by its id, ARN or alias, nil if there is none.
func (d *door) find(id string) cmk.Key {
	if strings.HasPrefix(id, "alias/") {
		alias, err := d.database.LoadAlias(config.EnsureArn("", id))
		if err != nil {
			return nil
		}
		id = alias.TargetKeyId
	}
	key, err := d.database.LoadKey(config.EnsureArn("key/", id))
	if err != nil {
		return nil
	}
	return key
}

func (d *door) tagged(id, role string) bool {
	key := d.find(id)
	if key == nil {
		return false
	}
	tags, err := d.database.ListTags(key.GetArn(), 50, "")
	if err != nil {
		return false
	}
	for _, t := range tags {
		if t.TagKey == roleTag && t.TagValue == role {
			return true
		}
	}
	return false
}

// signedAsAWS answers where local-kms differs: the salt of a PSS of AWS's is as long as
// the hash.
func (d *door) signedAsAWS(w http.ResponseWriter, r *http.Request, body []byte) bool {
	var q question
	if r.Header.Get("X-Amz-Target") != "TrentService.Sign" || json.Unmarshal(body, &q) != nil {
		return false
	}
	hash, pss := map[string]crypto.Hash{
		"RSASSA_PSS_SHA_256": crypto.SHA256, "RSASSA_PSS_SHA_384": crypto.SHA384, "RSASSA_PSS_SHA_512": crypto.SHA512,
	}[q.SigningAlgorithm]
	key, ok := d.find(q.KeyId).(*cmk.RsaKey)
	if !pss || !ok || !key.Metadata.Enabled || len(q.Message) != hash.Size() {
		return false
	}
	private := rsa.PrivateKey(key.PrivateKey)
	sig, err := rsa.SignPSS(rand.Reader, &private, hash, q.Message, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		return false
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(map[string]any{"KeyId": key.GetArn(), "Signature": sig, "SigningAlgorithm": q.SigningAlgorithm})
	return true
}
