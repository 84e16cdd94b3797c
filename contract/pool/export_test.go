package pool

import (
	"time"

	"bollard/iso15118/message"
)

// ReadAnswers and ReadToken read what a pool says.
func ReadAnswers(body []byte) ([][]byte, error) { return readAnswers(body) }

// ReadSigned reads what a CPS says.
func ReadSigned(body []byte) ([]byte, error) { return readSigned(body) }

// ReadToken reads an answer with an access token.
func ReadToken(body []byte) (string, time.Duration, error) { return readToken(body) }

// SetAsked bounds the questions under way.
func (c *Client) SetAsked(n int) { c.asked = make(chan struct{}, n) }

// InXML writes an answer as XML.
func InXML(a *message.Response) ([]byte, error) { return inXML(a) }

// NamespaceOf tells the edition of a contract certificate's profile.
func NamespaceOf(profile string) string { return namespaceOf(profile) }

// Enrolled takes certificates from what a token may have today.
func (d *Door) Enrolled(token string, n int) {
	for range n {
		d.enrols(token)
	}
}
