package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bollard/ocpp"
)

// grantType is the one of machines (RFC 6749 §4.4.2).
const grantType = "client_credentials"

// tokenQuestion asks for an access token: OPCP has it as JSON.
type tokenQuestion struct {
	ID       string `json:"client_id"`
	Secret   string `json:"client_secret"`
	Audience string `json:"audience"`
	Grant    string `json:"grant_type"`
}

// tokenAnswer is RFC 6749 §5.1's.
type tokenAnswer struct {
	Token   string  `json:"access_token"`
	Type    string  `json:"token_type"`
	Seconds float64 `json:"expires_in"`
	Scope   string  `json:"scope,omitempty"`
}

const (
	maxToken = 8 << 10
	// An access token is used for so long, whatever its answer says.
	longestToken = 24 * time.Hour
	defaultToken = 5 * time.Minute
)

// bearer is an access token in force, fetched if there is none.
func (c *Client) bearer(ctx context.Context) (string, error) {
	if token, ok := c.kept(); ok {
		return token, nil
	}
	select { // one fetches, the others find what it got
	case c.fetch <- struct{}{}:
		defer func() { <-c.fetch }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if token, ok := c.kept(); ok {
		return token, nil
	}
	body, err := json.Marshal(tokenQuestion{c.cfg.ID, string(c.cfg.Secret), c.cfg.Audience, grantType})
	if err != nil {
		return "", fmt.Errorf("couldn't encode the request for an access token: %w", err)
	}
	asked := c.cfg.Clock()
	answer, err := c.tokens.Post(ctx, c.cfg.TokenURL, jsonType, body)
	if err != nil {
		return "", err
	}
	if answer.Status != http.StatusOK {
		return "", fmt.Errorf("it gave no access token: HTTP status %d", answer.Status)
	}
	token, lasts, err := readToken(answer.Body)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.until = token, asked.Add(lasts)
	return token, nil
}

func (c *Client) kept() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token, c.token != "" && c.cfg.Clock().Before(c.until)
}

// drop forgets an access token, unless there is another by now.
func (c *Client) drop(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

// readToken reads an answer with an access token and for how long to use it: a tenth
// less than it says, so that none ends on its way.
func readToken(body []byte) (string, time.Duration, error) {
	var a tokenAnswer
	if err := ocpp.DecodeStrict(body, &a); err != nil {
		return "", 0, errors.New("its answer with an access token can't be read")
	}
	switch {
	case !strings.EqualFold(a.Type, "Bearer"):
		return "", 0, errors.New("its access token isn't a bearer token")
	case a.Token == "" || len(a.Token) > maxToken || strings.ContainsFunc(a.Token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", 0, errors.New("its access token isn't one (RFC 6750 §2.1)")
	case a.Seconds < 1: // none, or none that a request would outlast
		return a.Token, defaultToken, nil
	case a.Seconds > longestToken.Seconds():
		return a.Token, longestToken, nil
	}
	return a.Token, time.Duration(a.Seconds * 0.9 * float64(time.Second)), nil
}
