package keys_test

import (
	"strings"
	"testing"

	"bollard/keys"
)

// What an awskms: URI may say is judged whatever the program is built with; one that is
// built without the clouds then says how to build one.
func TestAWSURI(t *testing.T) {
	t.Parallel()
	const (
		region  = "awskms:region=eu-central-1"
		role    = "arn:aws:iam::111122223333:role/bollard-{role}"
		without = "go build -tags cloudkms ./cmd/bollard"
	)
	for name, tt := range map[string]struct{ base, want, wantErr string }{
		"the machine's own":     {region, region + ";object=x", ""},
		"access key":            {region + "?credentials-source=/c&profile=p", region + ";object=x?profile=p&credentials-source=/c", ""},
		"each role its own":     {region + "?credentials-source=/v/{role}", region + ";object=x?credentials-source=/v/{role}", ""},
		"a role of AWS's":       {region + "?assume-role=" + role, region + ";object=x?assume-role=" + role, ""},
		"Kubernetes":            {region + "?web-identity-source=/t&assume-role=" + role, "", ""},
		"private endpoints":     {region + ";endpoint=https://vpce-1.kms.example.com;sts-endpoint=https://vpce-2.example.com?ca-source=/ca", "", ""},
		"on this machine":       {region + ";endpoint=http://127.0.0.1:8080", "", ""},
		"in clear":              {region + ";endpoint=http://kms.example.com", "", "must be https"},
		"STS in clear":          {region + ";sts-endpoint=http://sts.example.com", "", "must be https"},
		"credentials in it":     {region + ";endpoint=https://u:canary@h", "", "https://HOST:PORT"},
		"no region":             {"awskms:", "", "region must be"},
		"a region that isn't":   {"awskms:region=evil.example.com/", "", "region must be"},
		"two logins":            {region + "?credentials-source=/c&web-identity-source=/t&assume-role=" + role, "", "how to log in"},
		"a token for no role":   {region + "?web-identity-source=/t", "", "assume-role"},
		"a role that isn't":     {region + "?assume-role=bollard", "", "arn:aws:iam::ACCOUNT"},
		"a profile of no file":  {region + "?profile=p", "", "credentials-source"},
		"a secret in it":        {region + "?secret-access-key=canary", "", "credentials-source"},
		"a secret, as AWS says": {region + ";AWS_SECRET_ACCESS_KEY=canary", "", "credentials-source"},
		"a session in it":       {region + "?session-token=canary", "", "credentials-source"},
		"relative":              {region + "?credentials-source=c", "", "absolute path"},
		"named already":         {region + ";object=o", "", "leave object out"},
		"a name AWS hasn't":     {region + ";object=a.b", "", "letters"},
		"unknown":               {region + ";colour=red", "", "unknown attribute"},
		"twice":                 {region + ";region=eu-west-1", "", "twice"},
	} {
		got, err := keys.Join(tt.base, "x.key")
		switch {
		case tt.wantErr != "":
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%s: got %v, want %q", name, err, tt.wantErr)
			}
		case !keys.CloudBuilt:
			if err == nil || !strings.Contains(err.Error(), without) {
				t.Errorf("%s: got %v, want %q", name, err, without)
			}
		case err != nil || tt.want != "" && got != tt.want:
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the secret is in the error: %v", name, err)
		}
	}
	// A recorded key is still one that is in AWS, whoever reads the record.
	const key = region + ";object=csms-root"
	if !keys.Held(key) || keys.Holder(key) != "AWS KMS" || !keys.Below(region, key) || keys.Below("softkms:", key) {
		t.Error("a key in AWS counts as something else")
	}
	if keys.CloudBuilt {
		return
	}
	k, err := keys.New(keys.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	_, opens := k.Open(t.Context(), key, keys.RoleCA)
	_, makes := k.Create(t.Context(), key, keys.RoleCA, keys.P256)
	_, later := k.OpenLater(key, keys.RoleCA, nil)
	_, asks := k.Custody(t.Context(), key, keys.RoleCA)
	for what, err := range map[string]error{"Open": opens, "Create": makes, "OpenLater": later, "Custody": asks} {
		if err == nil || !strings.Contains(err.Error(), without) {
			t.Errorf("%s: got %v, want %q", what, err, without)
		}
	}
}
