package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"reflect"
	"unsafe"

	"github.com/lorenzodonini/ocpp-go/ws"
)

// tappedClient tells every message as it passes between ocpp-go's message
// layer and its socket.
type tappedClient struct {
	*ws.Client
	t *teller
}

func (c *tappedClient) SetMessageHandler(handler func(data []byte) error) {
	c.Client.SetMessageHandler(func(data []byte) error {
		c.t.tell(Event{Event: "in", Frame: string(data)})
		return handler(data)
	})
}

func (c *tappedClient) Write(data []byte) error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	_ = c.t.out.Encode(Event{Event: "out", Frame: string(data)})
	return c.Client.Write(data)
}

// dialClient makes a client for a station: TLS with the given root, and a
// client certificate or a Basic password.
func dialClient(cfg Config, t *teller) (*tappedClient, error) {
	var client *ws.Client
	if cfg.CA == "" {
		client = ws.NewClient()
	} else {
		conf, err := clientTLS(cfg)
		if err != nil {
			return nil, err
		}
		client = ws.NewTLSClient(conf)
	}
	if cfg.Password != "" {
		client.SetBasicAuth(cfg.Identity, cfg.Password)
	}
	client.SetDisconnectedHandler(func(err error) {
		t.tell(Event{Event: "closed", Detail: fmt.Sprint(err)})
	})
	return &tappedClient{Client: client, t: t}, nil
}

func clientTLS(cfg Config) (*tls.Config, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(cfg.CA)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the root: %w", err)
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in the root file")
	}
	conf := &tls.Config{RootCAs: roots, ServerName: cfg.ServerName, MinVersion: tls.VersionTLS12}
	if cfg.Cert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
		if err != nil {
			return nil, fmt.Errorf("couldn't load the client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// loopbackServer is ocpp-go's server on a loopback listener. The library binds
// every interface and offers no other way, so its Start is made to fail at the
// bind (after it has set up its handler) and the http.Server it prepared is
// served on our listener.
type loopbackServer struct {
	*ws.Server
	ln net.Listener
	t  *teller
}

func newLoopbackServer(t *teller) (*loopbackServer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("couldn't listen: %w", err)
	}
	return &loopbackServer{Server: ws.NewServer(), ln: ln, t: t}, nil
}

// Start takes the place of the library's; the port is not used.
func (s *loopbackServer) Start(_ int, path string) {
	const noSuchPort = -1 // net.Listen refuses it before any socket exists
	s.Server.Start(noSuchPort, path)
	field := reflect.ValueOf(s.Server).Elem().FieldByName("httpServer")
	server := *(**http.Server)(unsafe.Pointer(field.UnsafeAddr()))
	s.t.tell(Event{Event: "listening", Address: s.ln.Addr().String()})
	err := server.Serve(s.ln)
	if !errors.Is(err, http.ErrServerClosed) {
		s.t.tell(Event{Event: "error", Detail: err.Error()})
	}
}

func (s *loopbackServer) SetMessageHandler(handler func(ch ws.Channel, data []byte) error) {
	s.Server.SetMessageHandler(func(ch ws.Channel, data []byte) error {
		s.t.tell(Event{Event: "in", Identity: ch.ID(), Frame: string(data)})
		return handler(ch, data)
	})
}

func (s *loopbackServer) SetNewClientHandler(handler func(ch ws.Channel)) {
	s.Server.SetNewClientHandler(func(ch ws.Channel) {
		s.t.tell(Event{Event: "open", Identity: ch.ID()})
		handler(ch)
	})
}

func (s *loopbackServer) SetDisconnectedClientHandler(handler func(ch ws.Channel)) {
	s.Server.SetDisconnectedClientHandler(func(ch ws.Channel) {
		s.t.tell(Event{Event: "closed", Identity: ch.ID()})
		handler(ch)
	})
}

func (s *loopbackServer) Write(id string, data []byte) error {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	_ = s.t.out.Encode(Event{Event: "out", Identity: id, Frame: string(data)})
	return s.Server.Write(id, data)
}
