package main

import (
	"crypto/rand"
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sessionOf is how long what STS gives out is good: as asked, in seconds.
func sessionOf(asked string) time.Duration {
	n, err := strconv.Atoi(asked)
	if err != nil {
		n = 900
	}
	return time.Duration(n) * time.Second
}

type stsCredentials struct {
	AccessKeyId, SecretAccessKey, SessionToken, Expiration string
}

// sts gives out credentials of a role for a while, to who signs the request or shows a
// token of another's.
func (d *door) sts(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	action, arn := form.Get("Action"), form.Get("RoleArn")
	var who login
	var refused *refusal
	switch {
	case err != nil:
		refused = &refusal{"MalformedQueryString", "the form isn't one"}
	case action == "AssumeRole":
		who, refused = d.who(r, body, "sts")
	case action == "AssumeRoleWithWebIdentity":
		refused = &refusal{"InvalidIdentityToken", "No OpenIDConnect provider found in your account"}
		for _, l := range d.everybody() {
			if l.Token != "" && l.Token == form.Get("WebIdentityToken") {
				who, refused = l, nil
			}
		}
	default:
		refused = &refusal{"InvalidAction", "there is no " + action}
	}
	if refused == nil && !slices.Contains(who.Assumes, arn) {
		refused = &refusal{"AccessDenied", "not authorized to perform: sts:" + action + " on resource: " + arn}
	}
	w.Header().Set("Content-Type", "text/xml")
	if refused != nil {
		w.WriteHeader(http.StatusForbidden)
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName struct{} `xml:"ErrorResponse"`
			Code    string   `xml:"Error>Code"`
			Message string   `xml:"Error>Message"`
		}{Code: refused.code, Message: refused.message})
		return
	}
	_, role, _ := strings.Cut(arn, "/bollard-")
	given := login{ID: "ASIA" + rand.Text()[:16], Secret: rand.Text(), Session: rand.Text(), Role: role, until: time.Now().Add(sessionOf(form.Get("DurationSeconds")))}
	d.mu.Lock()
	d.issued = append(d.issued, given)
	d.mu.Unlock()
	type result struct {
		XMLName     xml.Name
		Credentials stsCredentials
	}
	_ = xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name
		Result  result
	}{
		xml.Name{Local: action + "Response"},
		result{xml.Name{Local: action + "Result"}, stsCredentials{given.ID, given.Secret, given.Session, given.until.UTC().Format(time.RFC3339)}},
	})
}
