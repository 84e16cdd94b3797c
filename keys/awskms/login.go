//go:build cloudkms

package awskms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// Login is who one is. Without a file and without WebIdentity it is whom AWS takes this
// machine or container for.
type Login struct {
	File    string // with access keys, as the tools of AWS keep them
	Profile string // its section
	// WebIdentity returns a token of another's, such as Kubernetes', for AssumeRole. It
	// is asked for anew at each use.
	WebIdentity func() ([]byte, error)
	AssumeRole  string // ARN of a role of AWS's; "": none
}

const (
	// sessionName is what AWS's own log calls a session of ours.
	sessionName = "bollard"
	// early is how long before its end a session is replaced.
	early = time.Minute
)

// credentials returns who one is for AWS, and asks for a session if it takes one.
func (cfg Config) credentials(ctx context.Context, web *http.Client) (aws.CredentialsProvider, error) {
	var own aws.CredentialsProvider
	var err error
	switch l := cfg.Login; {
	case l.WebIdentity != nil:
		own = aws.AnonymousCredentials{}
	case l.File != "":
		own, err = accessKeys(ctx, l.File, l.Profile)
	default:
		var found aws.Config
		found, err = config.LoadDefaultConfig(ctx, config.WithRegion(cfg.Region), config.WithLogger(logging.Nop{}),
			// Files of a person's, which the SDK would look for, aren't the machine.
			config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
			// A pod's token goes to our STS, not to where the environment has one.
			config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) { o.Client = cfg.sts(aws.AnonymousCredentials{}, web) }))
		if err == nil {
			own = found.Credentials
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	if cfg.Login.AssumeRole != "" {
		own = aws.NewCredentialsCache(cfg.session(own, web), func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = early })
	}
	who := refusals{own}
	_, err = who.Retrieve(ctx)
	return who, err
}

// accessKeys reads a file of access keys. Nothing else that such a file may tell the SDK,
// such as to run a program, is done.
func accessKeys(ctx context.Context, file, profile string) (aws.CredentialsProvider, error) {
	found, err := config.LoadSharedConfigProfile(ctx, profile, func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{file}, []string{}
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the access keys in %s: %w", file, err)
	}
	if !found.Credentials.HasKeys() {
		return nil, fmt.Errorf("%s has no aws_access_key_id and aws_secret_access_key in section [%s]", file, profile)
	}
	return credentials.StaticCredentialsProvider{Value: found.Credentials}, nil
}

// sts is a client of where roles of AWS's are assumed.
func (cfg Config) sts(own aws.CredentialsProvider, web *http.Client) *sts.Client {
	o := sts.Options{Region: cfg.Region, Credentials: own, HTTPClient: web, Retryer: retryer()}
	if cfg.STSEndpoint != "" {
		o.BaseEndpoint = aws.String(cfg.STSEndpoint)
	}
	return sts.New(o)
}

// session assumes a role of AWS's.
func (cfg Config) session(own aws.CredentialsProvider, web *http.Client) aws.CredentialsProvider {
	client, l := cfg.sts(own, web), cfg.Login
	if l.WebIdentity != nil {
		return stscreds.NewWebIdentityRoleProvider(client, l.AssumeRole, token(l.WebIdentity), func(o *stscreds.WebIdentityRoleOptions) {
			o.RoleSessionName = sessionName
		})
	}
	return stscreds.NewAssumeRoleProvider(client, l.AssumeRole, func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = sessionName })
}

// token is stscreds.IdentityTokenRetriever.
type token func() ([]byte, error)

// GetIdentityToken is stscreds.IdentityTokenRetriever's.
func (t token) GetIdentityToken() ([]byte, error) {
	text, err := t()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLogin, err)
	}
	return text, nil
}

// refusals says of what STS refused that the login is: whoever asked KMS would else take
// it for a refusal of what it asked.
type refusals struct{ aws.CredentialsProvider }

// Retrieve is aws.CredentialsProvider's.
func (r refusals) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := r.CredentialsProvider.Retrieve(ctx)
	var said smithy.APIError
	if err == nil || errors.Is(err, ErrLogin) || !errors.As(err, &said) {
		return found, err
	}
	known := codes[said.ErrorCode()]
	switch {
	case known == nil:
		return found, words(said)
	case errors.Is(known, ErrSession): // access keys of a session, or a token, that have ended
		return found, fmt.Errorf("%w (%w)", ErrSession, words(said))
	}
	return found, fmt.Errorf("%w (%w)", ErrLogin, words(said))
}
