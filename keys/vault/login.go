package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// leastRenewal is how soon a token is renewed at the earliest, and tried again.
const leastRenewal = time.Second

// logIn gets a token, or takes the one given, and says how long it is good for.
func (c *Client) logIn(ctx context.Context) (lease time.Duration, renewable bool, err error) {
	l := c.cfg.Login
	body := map[string]any{}
	switch l.Method {
	case MethodToken:
		return c.takeToken(ctx)
	case MethodAppRole:
		body["role_id"], body["secret_id"] = l.ID, l.Secret
	case MethodKubernetes:
		body["role"], body["jwt"] = l.Role, l.Secret
	case MethodCert:
		if l.Role != "" {
			body["name"] = l.Role
		}
	default:
		return 0, false, fmt.Errorf("unknown way to log in to Vault %q", l.Method)
	}
	mount := l.Mount
	if mount == "" {
		mount = string(l.Method)
	}
	answer, err := c.api.Logical().WriteWithContext(ctx, "auth/"+segments(mount)+"/login", body)
	if err != nil {
		return 0, false, c.refused(err)
	}
	if answer == nil || answer.Auth == nil || answer.Auth.ClientToken == "" {
		return 0, false, errors.New("the answer to the login has no token")
	}
	c.api.SetToken(answer.Auth.ClientToken)
	return time.Duration(answer.Auth.LeaseDuration) * time.Second, answer.Auth.Renewable, nil
}

func (c *Client) takeToken(ctx context.Context) (time.Duration, bool, error) {
	c.api.SetToken(c.cfg.Login.Secret)
	answer, err := c.api.Auth().Token().LookupSelfWithContext(ctx)
	if err != nil {
		return 0, false, c.refused(err)
	}
	if answer == nil {
		return 0, false, errors.New("the answer doesn't say whose the token is")
	}
	renewable, _ := answer.Data["renewable"].(bool)
	// The first renewal is at once: what is left of the token may be little.
	left, _ := number(answer.Data, "ttl")
	return time.Duration(left) * time.Second, renewable, nil
}

// refused says why there is no login, without the credentials: Vault repeats parts of
// them in some of its answers.
func (c *Client) refused(err error) error {
	var said *api.ResponseError
	if !errors.As(err, &said) {
		return err
	}
	words := strings.Join(said.Errors, "; ")
	for _, secret := range []string{c.cfg.Login.Secret, c.cfg.Login.ID} {
		if secret != "" {
			words = strings.ReplaceAll(words, secret, "…")
		}
	}
	// Some versions (1.13.1) answer 500 to an AppRole's wrong secret id.
	wrong := said.StatusCode == http.StatusInternalServerError && strings.HasPrefix(words, "invalid ")
	if !wrong && (said.StatusCode >= http.StatusInternalServerError || said.StatusCode == http.StatusTooManyRequests) {
		return fmt.Errorf("status %d: %s", said.StatusCode, words)
	}
	return fmt.Errorf("%w by %s (status %d: %s)", ErrLogin, c.cfg.Login.Method, said.StatusCode, words)
}

// keep renews the token at two thirds of its life. If Vault can't or won't, the token
// ends, and whoever uses it next logs in anew.
func (c *Client) keep(ctx context.Context, lease time.Duration) {
	end := time.Now().Add(lease)
	for wait := lease * 2 / 3; ; {
		timer := time.NewTimer(max(wait, leastRenewal))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		next, err := c.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && next > 0:
			end, wait = time.Now().Add(next), next*2/3
		case time.Now().After(end):
			return
		default:
			c.cfg.Log.Warn("the token of Vault isn't renewed", "address", c.cfg.Address, "until", end, "err", err)
			wait = time.Until(end) / 3
		}
	}
}

func (c *Client) renew(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Limit)
	defer cancel()
	answer, err := c.api.Auth().Token().RenewSelfWithContext(ctx, 0)
	if err != nil {
		return 0, c.refused(err)
	}
	if answer == nil || answer.Auth == nil {
		return 0, errors.New("the answer to the renewal has no token")
	}
	return time.Duration(answer.Auth.LeaseDuration) * time.Second, nil
}

// segments escapes a path whose slashes are meant.
func segments(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return strings.Join(parts, "/")
}
