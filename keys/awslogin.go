//go:build cloudkms

package keys

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"bollard/keys/awskms"
)

const cloudBuilt = true

// awsProfile is the section of a file of access keys if none is named.
const awsProfile = "default"

// dialAWS logs in to AWS.
func dialAWS(at awsLocation, of Config) (hsm, error) {
	cfg := awskms.Config{
		Region: at.region, Endpoint: at.endpoint, STSEndpoint: at.stsEndpoint, Calls: awsCalls,
		Login: awskms.Login{File: at.credentials, Profile: at.profile, AssumeRole: at.assume},
	}
	if cfg.Login.Profile == "" {
		cfg.Login.Profile = awsProfile
	}
	if at.webIdentity != "" {
		cfg.Login.WebIdentity = func() ([]byte, error) { return at.secret(nil) }
	}
	if at.roots != "" {
		pem, err := readFile("CA certificates of AWS", at.roots, maxRoots, false)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLogin, err)
		}
		cfg.Roots = x509.NewCertPool()
		if !cfg.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no certificates in PEM", ErrLogin, at.roots)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), of.HSMTimeout)
	defer cancel()
	client, err := awskms.Open(ctx, cfg)
	if err != nil {
		return nil, awsFault(err)
	}
	return &awsLogin{client: client, timeout: of.HSMTimeout, made: map[string]*awskms.Key{}}, nil
}

// awsLogin is a login to AWS.
type awsLogin struct {
	client  *awskms.Client
	timeout time.Duration

	mu sync.Mutex
	// made are keys of this login's making: AWS knows a new alias everywhere only after
	// a while.
	made map[string]*awskms.Key
}

var awsTypes = map[Algorithm]string{
	P256: awskms.TypeP256, P384: awskms.TypeP384, P521: awskms.TypeP521, RSA2048: awskms.TypeRSA2048, RSA3072: awskms.TypeRSA3072,
}

func (l *awsLogin) create(name string, role Role, alg Algorithm) (crypto.PublicKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	made, err := l.client.Create(ctx, label(name, role, "-"), string(role), awsTypes[alg])
	if err != nil {
		return nil, awsFault(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made[label(name, role, "-")] = made
	return made.Public(), nil
}

// look asks AWS for a key.
func (l *awsLogin) look(name string, role Role) (*awskms.Key, error) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	key, err := l.client.Key(ctx, label(name, role, "-"))
	if errors.Is(err, awskms.ErrNotFound) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if made := l.made[label(name, role, "-")]; made != nil {
			return made, nil
		}
	}
	if err != nil {
		return nil, awsFault(err)
	}
	return key, nil
}

func (l *awsLogin) find(name string, role Role) (crypto.Signer, error) {
	key, err := l.look(name, role)
	if err != nil {
		return nil, err
	}
	return awsSigner{key, l.timeout}, nil
}

func (l *awsLogin) custody(name string, role Role) (string, error) {
	key, err := l.look(name, role)
	if err != nil {
		return "", err
	}
	return "no: " + key.Kept(), nil
}

func (l *awsLogin) Close() error { return l.client.Close() }

type awsSigner struct {
	key     *awskms.Key
	timeout time.Duration
}

func (s awsSigner) Public() crypto.PublicKey { return s.key.Public() }

func (s awsSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	sig, err := s.key.Sign(ctx, digest, opts)
	if err != nil {
		return nil, awsFault(err)
	}
	return sig, nil
}

// awsFault says which of this package's errors one of AWS's is. A session that has ended
// is none: it takes a new login.
func awsFault(err error) error {
	for theirs, ours := range map[error]error{
		awskms.ErrNotFound: ErrNotFound, awskms.ErrExists: ErrExists, awskms.ErrDenied: ErrDenied,
		awskms.ErrLogin: ErrLogin, awskms.ErrUnfit: ErrUnfit,
	} {
		if errors.Is(err, theirs) {
			return both{ours, err}
		}
	}
	if errors.Is(err, awskms.ErrSession) {
		return err
	}
	return fmt.Errorf("%w: %w", unavailable(awsLocation{}.kind()), err)
}
