//go:build cloudkms

// Package awskms signs with keys of the Key Management Service of Amazon's cloud.
//
// It promises: what a key signed was signed by the one that was asked for, verified before
// it is given out; a key that it takes was made there and can't leave; no call takes longer
// than its context; and no credential is ever in an error.
package awskms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"bollard/internal/endpoint"
)

// Errors callers branch on. What is none of them comes from an AWS that is away, slow or
// has too much to do: it is worth trying again.
var (
	ErrNotFound = errors.New("no such key in AWS KMS")
	ErrExists   = errors.New("the alias in AWS KMS is taken")
	// ErrDenied: the login is good, and its policies refuse this.
	ErrDenied = errors.New("the policies in AWS refuse this to the login")
	// ErrLogin: the credentials are wrong or forbidden, or there are none.
	ErrLogin = errors.New("the login is refused by AWS")
	// ErrSession: it was good and has ended; a new login is needed.
	ErrSession = errors.New("the session with AWS has ended")
	// ErrUnfit: this key is never to be used, or can't sign what is asked.
	ErrUnfit = errors.New("the key in AWS KMS isn't fit")
)

// Config of a Client.
type Config struct {
	Region      string
	Endpoint    string // "": AWS's own of the region
	STSEndpoint string // likewise
	Roots       *x509.CertPool
	Login       Login
	Calls       int // at the same time
}

// Client is one login. It is safe for concurrent use.
type Client struct {
	kms *kms.Client
	web *http.Client
}

const (
	// tries of one call: what was throttled, or lost on the way, is asked for again
	// within the caller's deadline.
	tries      = 3
	maxBackoff = 250 * time.Millisecond
)

func retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = tries, maxBackoff })
}

// Open logs in. A wrong access key is found out by the first call only: KMS knows no
// login of its own.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	web := endpoint.New(endpoint.Config{Roots: cfg.Roots, Calls: cfg.Calls})
	who, err := cfg.credentials(ctx, web)
	if err != nil {
		web.CloseIdleConnections()
		return nil, err
	}
	// Nothing of the environment's, such as AWS_ENDPOINT_URL, is read: that is somebody else's.
	o := kms.Options{Region: cfg.Region, Credentials: who, HTTPClient: web, Retryer: retryer()}
	if cfg.Endpoint != "" {
		o.BaseEndpoint = aws.String(cfg.Endpoint)
	}
	return &Client{kms.New(o), web}, nil
}

// Close gives the connections up. A session is left to its end.
func (c *Client) Close() error {
	c.web.CloseIdleConnections()
	return nil
}

// The codes of errors that say something for good (API references of AWS KMS and of AWS
// STS, "Common Errors" and those of each action). All others, above all ThrottlingException,
// KMSInternalException, DependencyTimeoutException, KeyUnavailableException and, of keys that
// are disabled or to be deleted, DisabledException and KMSInvalidStateException, may pass.
var codes = map[string]error{
	"NotFoundException":      ErrNotFound,
	"AlreadyExistsException": ErrExists,

	"AccessDeniedException":          ErrDenied,
	"AccessDenied":                   ErrDenied,
	"NotAuthorized":                  ErrDenied,
	"OptInRequired":                  ErrDenied,
	"UnrecognizedClientException":    ErrLogin,
	"InvalidClientTokenId":           ErrLogin,
	"InvalidSignatureException":      ErrLogin,
	"SignatureDoesNotMatch":          ErrLogin,
	"IncompleteSignature":            ErrLogin,
	"MissingAuthenticationToken":     ErrLogin,
	"InvalidIdentityToken":           ErrLogin,
	"IDPRejectedClaim":               ErrLogin,
	"RegionDisabledException":        ErrLogin,
	"ExpiredToken":                   ErrSession,
	"ExpiredTokenException":          ErrSession,
	"ValidationException":            ErrUnfit,
	"ValidationError":                ErrUnfit,
	"InvalidKeyUsageException":       ErrUnfit,
	"UnsupportedOperationException":  ErrUnfit,
	"InvalidAliasNameException":      ErrUnfit,
	"InvalidArnException":            ErrUnfit,
	"TagException":                   ErrUnfit,
	"InvalidParameterValueException": ErrUnfit,
}

// fault makes one of this package's errors of the SDK's.
func fault(err error) error {
	for _, known := range []error{ErrLogin, ErrSession, ErrDenied} {
		if errors.Is(err, known) {
			return err // of the credentials, by login.go
		}
	}
	var said smithy.APIError
	if !errors.As(err, &said) {
		return err
	}
	if known := codes[said.ErrorCode()]; known != nil {
		return fmt.Errorf("%w (%w)", known, words(said))
	}
	return words(said)
}

// words are AWS's for an error, bounded and in one line: what follows may be the request as
// it was read, with the session's token in it.
func words(said smithy.APIError) error {
	line, _, _ := strings.Cut(said.ErrorMessage(), "\n")
	return fmt.Errorf("%.100s: %.300s", said.ErrorCode(), line)
}
