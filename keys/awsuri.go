package keys

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"bollard/internal/endpoint"
)

// awsLocation is where an awskms: URI points: the KMS of one region, a login, and, if name
// isn't empty, one key.
type awsLocation struct {
	region      string
	endpoint    string // "": AWS's own of the region
	stsEndpoint string // likewise, where roles of AWS's are assumed
	name        string // the key's alias is "alias/bollard-ROLE-NAME"
	profile     string // section of the file with access keys
	assume      string // ARN of a role of AWS's
	// Files. Which are given says how to log in; without one, whom this machine or
	// container is for AWS.
	credentials, webIdentity string
	roots                    string // "": the system's
}

const awsForm = "write awskms:region=REGION?credentials-source=/path/of/a/file"

// Names of AWS: of regions, of roles, and of keys (aliases).
var (
	awsName   = regexp.MustCompile(`^[A-Za-z0-9_-]{0,200}$`)
	awsRegion = regexp.MustCompile(`^[a-z]{2,8}(-[a-z0-9]{1,16}){1,4}$`)
	awsRole   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/{}-]{1,576}$`)
)

// fields are the attributes of an awskms: URI in their order.
func (at *awsLocation) fields() (path, query []uriField) {
	return []uriField{
			{"region", &at.region}, {"endpoint", &at.endpoint}, {"sts-endpoint", &at.stsEndpoint}, {"object", &at.name},
		}, []uriField{
			{"profile", &at.profile}, {"assume-role", &at.assume}, {"ca-source", &at.roots},
			{"credentials-source", &at.credentials}, {"web-identity-source", &at.webIdentity},
		}
}

// parseAWS reads an awskms: URI.
func parseAWS(uri string) (awsLocation, error) {
	var at awsLocation
	path, query := at.fields()
	if err := readFields(uri, SchemeAWS, awsForm, append(path, query...), query[2:]); err != nil {
		return awsLocation{}, err
	}
	var err error
	wrong := func(format string, args ...any) {
		err = errors.Join(err, fmt.Errorf("key URI awskms: "+format, args...))
	}
	if !awsRegion.MatchString(at.region) {
		wrong("region must be one of AWS's, such as eu-central-1; %s", awsForm)
	}
	for what, address := range map[string]string{"endpoint": at.endpoint, "sts-endpoint": at.stsEndpoint} {
		if address == "" {
			continue
		}
		if failed := endpoint.Check(what, address); failed != nil {
			wrong("%w", failed)
		}
	}
	switch {
	case at.credentials != "" && at.webIdentity != "":
		wrong("say how to log in, by credentials-source or web-identity-source; without either it is whom AWS takes this machine for")
	case at.webIdentity != "" && at.assume == "":
		wrong("web-identity-source needs assume-role, the ARN of the role that the token is good for")
	case at.profile != "" && at.credentials == "":
		wrong("profile is a section of the file that credentials-source names")
	case at.assume != "" && !awsRole.MatchString(at.assume):
		wrong("assume-role must be arn:aws:iam::ACCOUNT:role/NAME")
	}
	if !awsName.MatchString(at.name) {
		wrong("object must be of letters, digits, - and _, as AWS's aliases are")
	}
	if err != nil {
		return awsLocation{}, err
	}
	return at, nil
}

func (at awsLocation) scheme() string { return SchemeAWS }
func (at awsLocation) key() string    { return at.name }

func (at awsLocation) named(key string) place {
	at.name = key
	return at
}

func (at awsLocation) of(role Role) place {
	_, query := at.fields()
	fillRole(query, role)
	return at
}

func (at awsLocation) String() string {
	path, query := at.fields()
	return uriText(SchemeAWS, pairs(path), pairs(query))
}

func (at awsLocation) kind() string { return "AWS KMS" }

func (at awsLocation) where() string {
	if at.endpoint != "" {
		return at.endpoint
	}
	return at.region
}

// module: a login that fails has nothing to do with another one.
func (at awsLocation) module() string { return at.String() }
func (at awsLocation) calls() int64   { return awsCalls }

// awsCalls is how many requests of one login run at a time.
const awsCalls = 64

// again is soon: AWS locks nobody, and takes a new access key only after some seconds.
func (at awsLocation) again() time.Duration { return time.Minute }

// secret is what the file of the login holds; nothing without one.
func (at awsLocation) secret(func() ([]byte, error)) ([]byte, error) {
	var held []byte
	var err error
	switch {
	case at.credentials != "":
		held, err = readFile("access keys of AWS", at.credentials, maxCredential, true)
	case at.webIdentity != "":
		held, err = readSecret("token for AWS", at.webIdentity, maxCredential, false) // kubelet writes it for the pod's user
	default:
		return nil, nil
	}
	if err == nil && len(held) == 0 {
		err = errors.New("the file with the login to AWS is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	return held, nil
}

func (at awsLocation) dial(_ []byte, cfg Config) (hsm, error) { return dialAWS(at, cfg) }

// built says whether this program has what the keys of a place are reached by.
func built(at place) bool { return cloudBuilt || at.scheme() != SchemeAWS }

func errNotBuilt(at place) error {
	return fmt.Errorf("%s: this bollard is built without the clouds; build one that has them: go build -tags cloudkms ./cmd/bollard (docs/keys.md)", at.scheme())
}
