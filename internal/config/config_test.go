package config_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/internal/config"
)

const minimal = `organisation: Example CPO
country: DE
listen:
  ocpp: [{address: "127.0.0.1:8443", profiles: [2, 3]}]
backends:
  - url: ws://127.0.0.1:9000/ocpp
`

func TestParseCompletes(t *testing.T) {
	t.Parallel()
	got, err := config.Parse("bollard.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := &config.File{
		Organisation: "Example CPO", Country: "DE", Host: "localhost", UnknownIdentity: 401,
		Public:   config.Public{OCPP: "wss://localhost:8443/ocpp"},
		Listen:   config.Listen{OCPP: []config.OCPPListener{{Address: "127.0.0.1:8443", Profiles: []int{2, 3}}}},
		Backends: []config.Backend{{URL: "ws://127.0.0.1:9000/ocpp", Security: "bollard", Auth: "none"}},
		Keys:     config.Keys{URI: "softkms:"},
		Limits: config.Limits{
			MessageBytes: 1048576, CallTimeout: 30 * time.Second, Handshake: 10 * time.Second, Header: 5 * time.Second,
			HandshakesAtOnce: runtime.GOMAXPROCS(0), PerSource: 256, Write: 10 * time.Second, Ping: 45 * time.Second, QueuedCalls: 16,
			Outstanding: 64, Takeovers: 6, RetryAfter: 10 * time.Second, Drain: 10 * time.Second,
		},
		Renewal:     config.Renewal{PerMinute: 60},
		Alerts:      config.Alerts{Minimum: "warning"},
		SecurityLog: config.SecurityLog{Every: 168 * time.Hour, Keep: 2160 * time.Hour, MaxBytes: 8388608, TotalBytes: 2147483648},
		Firmware:    config.Firmware{Level: "enforce", MaxBytes: 4 << 30, TotalBytes: 64 << 30},
		Log:         config.Log{Level: "info", Format: "text"},
		Ledger:      config.Ledger{Every: time.Hour},
		ACME:        config.ACME{HTTPPort: 80, TLSPort: 443},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Each fault is named with its line and key.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	// A case appends to the minimal file, or replaces a part of it.
	for name, tc := range map[string]struct {
		add, old, new string
		line          int
		key, text     string
	}{
		"approver without a key":  {add: "approvers: [{name: alice}]\n", line: 7, key: "approvers[0]", text: "has no key"},
		"approver twice":          {add: "approvers: [{name: a, ssh: [x]}, {name: a, ssh: [y]}]\n", line: 7, key: "approvers[1].name", text: "second time"},
		"approval by nobody":      {add: "approvals: [{action: a.b, needed: 1}]\n", line: 7, key: "approvals[0]", text: "nobody can approve it"},
		"approval by a stranger":  {add: "approvers: [{name: a, ssh: [x]}]\napprovals: [{action: a.b, needed: 1, of: [b]}]\n", line: 8, key: "approvals[0].of[0]", text: "no name under approvers"},
		"approval by one twice":   {add: "approvers: [{name: a, ssh: [x]}]\napprovals: [{action: a.b, needed: 2, of: [a, a]}]\n", line: 8, key: "approvals[0].needed", text: "from 1 to 1"},
		"approval needs nobody":   {add: "approvers: [{name: a, ssh: [x]}]\napprovals: [{action: a.b, needed: 0}]\n", line: 8, key: "approvals[0].needed", text: "from 1 to 1"},
		"approval twice":          {add: "approvers: [{name: a, ssh: [x]}]\napprovals: [{action: a.b, needed: 1}, {action: a.b, needed: 1}]\n", line: 8, key: "approvals[1].action", text: "second time"},
		"log too often":           {add: "security_log: {every: 1m}\n", line: 7, key: "security_log.every", text: "from 1h"},
		"no room for a log":       {add: "security_log: {max_bytes: 10000, total_bytes: 9999}\n", line: 7, key: "security_log.total_bytes", text: "at least security_log.max_bytes"},
		"retention of an hour":    {add: "retention: {findings: 1h}\n", line: 7, key: "retention.findings", text: "at least 24h"},
		"retention of nothing":    {add: "retention: {ledger: 24h}\n", line: 7, key: "retention.ledger", text: "is no key"},
		"P-224 for everybody":     {add: "p224: [{model: \"*\"}]\n", line: 7, key: "p224[0]", text: "would fit every station"},
		"assurance of no policy":  {add: "assurance: {attested: 7}\n", line: 7, key: "assurance.attested", text: "object identifier"},
		"assurance of any policy": {add: "assurance: {other: 2.5.29.32.0}\n", line: 7, key: "assurance.other", text: "of yours"},
		"assurance of one policy": {add: "assurance: {attested: 1.2.3.4, other: 1.2.3.4}\n", line: 7, key: "assurance.other", text: "wouldn't differ"},
		"ledger interval":         {add: "ledger: {every: 5s}\n", line: 7, key: "ledger.every", text: "from 1m to 24h"},
		"ledger place twice":      {add: "ledger: {syslog: [{name: a, url: \"udp://a\"}], webhooks: [{name: a, url: \"https://a\"}]}\n", line: 7, key: "ledger.webhooks[0].name", text: "second time"},
		"ledger witness's key":    {add: "ledger: {witnesses: [{name: a, url: \"https://a\"}]}\n", line: 7, key: "ledger.witnesses[0].key", text: "is missing"},
		"ACME network":            {add: "acme: {networks: [x]}\n", line: 7, key: "acme.networks[0]", text: "10.0.0.0/8"},
		"ACME resolver":           {add: "acme: {resolver: dns.example}\n", line: 7, key: "acme.resolver", text: "IP:PORT"},
		"ACME port":               {add: "acme: {http_port: 65536}\n", line: 7, key: "acme.http_port", text: "65535"},
		"ACME without a listener": {add: "acme: {names: [a.example]}\n", line: 7, key: "acme.names", text: "listen.pki"},
		"ledger network":          {add: "ledger: {webhooks: [{name: a, url: \"https://a\", networks: [x]}]}\n", line: 7, key: "ledger.webhooks[0].networks[0]", text: "10.0.0.0/8"},
		"alert level":             {add: "alerts: {minimum: high}\n", line: 7, key: "alerts.minimum", text: "info, warning, critical"},
		"alert without secret":    {add: "alerts: {webhooks: [{name: a, url: \"https://a.example\"}]}\n", line: 7, key: "alerts.webhooks[0].secret_file", text: "is missing"},
		"alert network":           {add: "alerts: {webhooks: [{name: a, url: \"https://a.example\", secret_file: s, networks: [\"10.0.0.1\"]}]}\n", line: 7, key: "alerts.webhooks[0].networks[0]", text: "10.0.0.0/8"},
		"contract answers":        {add: "contracts: {answer: us}\n", line: 7, key: "contracts.answer", text: "own, backend"},
		"contract leaves":         {add: "contracts: {leaves: exact}\n", line: 7, key: "contracts.leaves", text: "lenient, strict"},
		"curve of -20":            {add: "contracts: {curves_20: [P-384]}\n", line: 7, key: "contracts.curves_20[0]", text: "P-256, Ed448"},
		"unknown statuses":        {add: "contracts: {revocation: never}\n", line: 7, key: "contracts.revocation", text: "soft, hard"},
		"contract answer's size":  {add: "contracts: {models: [{model: x}]}\n", line: 7, key: "contracts.models[0].max_response", text: "at least 1000"},
		"contracts otherwise":     {add: "contracts: {otherwise: own}\n", line: 7, key: "contracts.otherwise", text: "backend"},
		"pools of a back end":     {add: "contracts: {answer: backend, pools: [{name: a, url: \"https://a\", client_id: c, secret_file: s}]}\n", line: 7, key: "contracts.answer", text: "passes everything on"},
		"CPS of nobody":           {add: "contracts: {cps: a}\n", line: 7, key: "contracts.cps", text: "no name under contracts.pools"},
		"pool name":               {add: "contracts: {pools: [{name: a b}]}\n", line: 7, key: "contracts.pools[0].name", text: "letters"},
		"pool twice":              {add: "contracts: {pools: [{name: a, url: \"https://a\", client_id: c, secret_file: s}, {name: a}]}\n", line: 7, key: "contracts.pools[1].name", text: "second time"},
		"pool without client":     {add: "contracts: {pools: [{name: a, url: \"https://a\"}]}\n", line: 7, key: "contracts.pools[0].client_id", text: "is missing"},
		"pool without secret":     {add: "contracts: {pools: [{name: a, url: \"https://a\", client_id: c}]}\n", line: 7, key: "contracts.pools[0].secret_file", text: "is missing"},
		"pool's provider":         {add: "contracts: {pools: [{name: a, url: \"https://a\", client_id: c, secret_file: s, providers: [EXA]}]}\n", line: 7, key: "contracts.pools[0].providers[0]", text: "NL-EXA"},
		"pool's root":             {add: "contracts: {pools: [{name: a, url: \"https://a\", client_id: c, secret_file: s, roots: [ab]}]}\n", line: 7, key: "contracts.pools[0].roots[0]", text: "64"},
		"pool's network":          {add: "contracts: {pools: [{name: a, url: \"https://a\", client_id: c, secret_file: s, networks: [x]}]}\n", line: 7, key: "contracts.pools[0].networks[0]", text: "10.0.0.0/8"},
		"firmware level":          {add: "firmware: {level: strong}\n", line: 7, key: "firmware.level", text: "enforce, observe"},
		"firmware model":          {add: "firmware: {models: [{model: x}]}\n", line: 7, key: "firmware.models[0]", text: "says nothing"},
		"firmware signature":      {add: "firmware: {models: [{model: x, signature: ecschnorr}]}\n", line: 7, key: "firmware.models[0].signature", text: "rsa-pss-sha256"},
		"firmware location":       {add: "firmware: {models: [{model: x, location: theirs}]}\n", line: 7, key: "firmware.models[0].location", text: "origin"},
		"firmware refusal":        {add: "firmware: {models: [{model: x, refusal: No}]}\n", line: 7, key: "firmware.models[0].refusal", text: "NotSupported"},
		"firmware window":         {add: "firmware: {windows: [{site: '['}]}\n", line: 7, key: "firmware.windows[0]", text: "pattern"},
		"firmware rate":           {add: "firmware: {site_rate: 100}\n", line: 7, key: "firmware.site_rate", text: "at least 1024"},
		"no room for an image":    {add: "firmware: {max_bytes: 10000, total_bytes: 9999}\n", line: 7, key: "firmware.total_bytes", text: "at least firmware.max_bytes"},
		"firmware network":        {add: "firmware: {networks: [x]}\n", line: 7, key: "firmware.networks[0]", text: "10.0.0.0/8"},
		"plain rollover":          {old: "profiles: [2, 3]", new: "profiles: [1], rollover: true", line: 4, key: "listen.ocpp[0].rollover", text: "has no TLS"},
		"unknown key":             {add: "hosts: x\n", line: 7, key: "hosts", text: "did you mean host?"},
		"unknown nested key":      {add: "log: {colour: red}\n", line: 7, key: "log.colour", text: "known are level, format"},
		"unknown key in a list":   {old: "ws://127.0.0.1:9000/ocpp", new: "ws://h/x\n    secrity: observe", line: 7, key: "backends[0].secrity", text: "did you mean security?"},
		"case of a key":           {add: "Host: x\n", line: 7, key: "Host", text: "did you mean host?"},
		"duplicate key":           {add: "country: FR\n", line: 7, key: "country", text: "second time, after line 2"},
		"number for text":         {old: "Example CPO", new: "12", line: 1, key: "organisation", text: "put it in quotes"},
		"boolean for text":        {old: "Example CPO", new: "true", line: 1, key: "organisation", text: "put it in quotes"},
		"list for text":           {old: "Example CPO", new: "[a]", line: 1, key: "organisation", text: "not a list"},
		"text for a number":       {add: "unknown_identity: no\n", line: 7, key: "unknown_identity", text: "whole number"},
		"float for a number":      {add: "unknown_identity: 401.0\n", line: 7, key: "unknown_identity", text: "whole number"},
		"text for a boolean":      {add: "compression: maybe\n", line: 7, key: "compression", text: "true or false"},
		"yes for a boolean":       {add: "compression: yes\n", line: 7, key: "compression", text: "true or false"},
		"number for a duration":   {add: "limits: {ping: 45}\n", line: 7, key: "limits.ping", text: "unit"},
		"zero duration":           {add: "limits:\n  ping: 0s\n", line: 8, key: "limits.ping", text: "more than 0"},
		"zero of a limit":         {add: "limits:\n  takeovers: 0\n", line: 8, key: "limits.takeovers", text: "more than 0"},
		"two days":                {add: "limits:\n  drain: 48h\n", line: 8, key: "limits.drain", text: "24h"},
		"negative number":         {add: "limits:\n  queued_calls: -1\n", line: 8, key: "limits.queued_calls", text: "more than 0"},
		"tiny messages":           {add: "limits:\n  message_bytes: 100\n", line: 8, key: "limits.message_bytes", text: "at least 16384"},
		"scalar for keys":         {add: "log: info\n", line: 7, key: "log", text: "wants keys"},
		"keys for a list":         {old: "  - url: ws://127.0.0.1:9000/ocpp", new: "  url: ws://h/x", line: 6, key: "backends", text: "wants a list"},
		"no value":                {add: "log:\n", line: 7, key: "log", text: "has no value"},
		"empty text":              {old: "Example CPO", new: `""`, line: 1, key: "organisation", text: "is empty"},
		"anchor":                  {old: "Example CPO", new: "&a Example", line: 1, key: "organisation", text: "anchors"},
		"alias":                   {add: "x: *a\n", text: "unknown anchor"},
		"merge":                   {add: "<<: {host: x}\n", line: 7, text: "merges"},
		"tag":                     {old: "Example CPO", new: "!!str x", line: 1, key: "organisation", text: "tags"},
		"second document":         {add: "---\nhost: x\n", line: 7, text: "second document"},
		"tab":                     {add: "log:\n\tlevel: info\n", line: 8, text: "blanks, not tabs"},
		"line break in text":      {old: "Example CPO", new: `"a\nb"`, line: 1, key: "organisation", text: "line break"},
		"missing organisation":    {old: "organisation: Example CPO\n", new: "", key: "organisation", text: "is missing"},
		"long organisation":       {old: "Example CPO", new: strings.Repeat("x", 65), line: 1, key: "organisation", text: "64"},
		"country in words":        {old: "DE", new: "Germany", line: 2, key: "country", text: "two capital letters"},
		"country in small":        {old: "DE", new: "de", line: 2, key: "country", text: "two capital letters"},
		"host with port":          {add: "host: h:1\n", line: 7, key: "host", text: "host name"},
		"host with scheme":        {add: "host: wss://h\n", line: 7, key: "host", text: "host name"},
		"unknown_identity 403":    {add: "unknown_identity: 403\n", line: 7, key: "unknown_identity", text: "401 or 404"},
		"keys elsewhere":          {add: "keys: {uri: 'file:x'}\n", line: 7, key: "keys.uri", text: "softkms:"},
		"no listener":             {old: `  ocpp: [{address: "127.0.0.1:8443", profiles: [2, 3]}]`, new: "  admin: 127.0.0.1:1", line: 4, key: "listen.ocpp", text: "is missing"},
		"no profiles":             {old: "[2, 3]", new: "[]", line: 4, key: "listen.ocpp[0].profiles", text: "must be [2, 3]"},
		"listener without port":   {old: "127.0.0.1:8443", new: "127.0.0.1", line: 4, key: "listen.ocpp[0].address", text: "ADDRESS:PORT"},
		"listener port":           {old: "127.0.0.1:8443", new: "127.0.0.1:70000", line: 4, key: "listen.ocpp[0].address", text: "65535"},
		"listener twice":          {old: "[2, 3]}]", new: "[2, 3]}]\n  pki: 127.0.0.1:8443", line: 5, key: "listen.pki", text: "listen.ocpp[0].address"},
		"profile 0":               {old: "[2, 3]", new: "[0]", line: 4, key: "listen.ocpp[0].profiles", text: "[1] alone"},
		"profiles 1 and 2":        {old: "[2, 3]", new: "[1, 2]", line: 4, key: "listen.ocpp[0].profiles", text: "[1] alone"},
		"profile twice":           {old: "[2, 3]", new: "[3, 3]", line: 4, key: "listen.ocpp[0].profiles", text: "[1] alone"},
		"proxy without address":   {old: "[2, 3]}", new: "[2, 3], proxy_protocol: [lb.example]}", line: 4, key: "listen.ocpp[0].proxy_protocol", text: "10.0.0.5"},
		"network with host bits":  {old: "[2, 3]}", new: "[2, 3], proxy_protocol: [10.0.0.5/24]}", line: 4, key: "listen.ocpp[0].proxy_protocol", text: "networks"},
		"legacy without allow":    {old: "[2, 3]}", new: "[2, 3], legacy_tls: true}", line: 4, key: "listen.ocpp[0].allow", text: "legacy_tls"},
		"cn_only without allow":   {old: "[2, 3]}", new: "[2, 3], cn_only: true}", line: 4, key: "listen.ocpp[0].allow", text: "cn_only"},
		"legacy without TLS":      {old: "[2, 3]}", new: "[1], legacy_tls: true, allow: [a]}", line: 4, key: "listen.ocpp[0].legacy_tls", text: "no TLS"},
		"no back end":             {old: "backends:\n  - url: ws://127.0.0.1:9000/ocpp\n", new: "", key: "backends", text: "is missing"},
		"back end over http":      {old: "ws://127.0.0.1:9000/ocpp", new: "http://h/x", line: 6, key: "backends[0].url", text: "ws:// or wss://"},
		"back end with user":      {old: "ws://127.0.0.1:9000/ocpp", new: "ws://u:secret@h/x", line: 6, key: "backends[0].url", text: "user or password"},
		"back end with query":     {old: "ws://127.0.0.1:9000/ocpp", new: "ws://h/x?id=1", line: 6, key: "backends[0].url", text: "query"},
		"back end with fragment":  {old: "ws://127.0.0.1:9000/ocpp", new: "ws://h/x#a", line: 6, key: "backends[0].url", text: "fragment"},
		"back end without host":   {old: "ws://127.0.0.1:9000/ocpp", new: "ws:///x", line: 6, key: "backends[0].url", text: "host"},
		"back end with a slash":   {old: "ws://127.0.0.1:9000/ocpp", new: "ws://h/x/", line: 6, key: "backends[0].url", text: "slash"},
		"back end port":           {old: "ws://127.0.0.1:9000/ocpp", new: "ws://h:99999/x", line: 6, key: "backends[0].url", text: "port"},
		"security":                {add: "    security: both\n", line: 7, key: "backends[0].security", text: "bollard, backend, observe"},
		"auth":                    {add: "    auth: digest\n", line: 7, key: "backends[0].auth", text: "basic-shared"},
		"shared without file":     {add: "    auth: basic-shared\n", line: 6, key: "backends[0].password_file", text: "is missing"},
		"file without shared":     {add: "    password_file: x\n", line: 7, key: "backends[0].password_file", text: "only for"},
		"mtls over ws":            {add: "    auth: mtls\n    certificate: c\n    key: k\n", line: 7, key: "backends[0].auth", text: "wss"},
		"mtls without cert":       {old: "ws://127.0.0.1:9000/ocpp", new: "wss://h/x\n    auth: mtls", line: 6, key: "backends[0].certificate", text: "is missing"},
		"mtls without key":        {old: "ws://127.0.0.1:9000/ocpp", new: "wss://h/x\n    auth: mtls\n    certificate: c", line: 6, key: "backends[0].key", text: "is missing"},
		"cert without mtls":       {add: "    certificate: c\n", line: 7, key: "backends[0].certificate", text: "only for"},
		"key without mtls":        {add: "    key: c\n", line: 7, key: "backends[0].key", text: "only for"},
		"trust over ws":           {add: "    trust: c\n", line: 7, key: "backends[0].trust", text: "wss"},
		"cn_only over ws":         {add: "    cn_only: true\n", line: 7, key: "backends[0].cn_only", text: "wss"},
		"match profile":           {add: "    match: {profile: 4}\n", line: 7, key: "backends[0].match.profile", text: "1, 2 or 3"},
		"back ends of one name":   {add: "    name: a\n  - url: ws://h/x\n    name: a\n", line: 9, key: "backends[1].name", text: "second time"},
		"server key alone":        {add: "server_certificate: {rsa: {key: k}}\n", line: 7, key: "server_certificate.rsa.certificate", text: "go together"},
		"ACME alone":              {add: "server_certificate: {acme: {directory: https://ca.example/d}}\n", line: 4, key: "listen.acme", text: "is missing"},
		"ACME without directory":  {add: "server_certificate: {acme: {contact: 'mailto:a@b.example'}}\n", line: 7, key: "server_certificate.acme.directory", text: "is missing"},
		"ACME over plain HTTP":    {add: "server_certificate: {acme: {directory: http://ca.example/d}}\n", line: 7, key: "server_certificate.acme.directory", text: "https://"},
		"server cert alone":       {add: "server_certificate: {ecdsa: {certificate: k}}\n", line: 7, key: "server_certificate.ecdsa.key", text: "go together"},
		"public scheme":           {add: "public: {status: 'https://h'}\n", line: 7, key: "public.status", text: "http://"},
		"public firmware scheme":  {add: "public: {firmware: 'http://h'}\n", line: 7, key: "public.firmware", text: "https://"},
		"public ocpp scheme":      {add: "public: {ocpp: 'https://h'}\n", line: 7, key: "public.ocpp", text: "wss://"},
		"station version":         {add: "stations: [{identity: a, version: 2.0}]\n", line: 7, key: "stations[0].version", text: "2.0.1"},
		"station without name":    {add: "stations: [{version: 1.6}]\n", line: 7, key: "stations[0].identity", text: "is missing"},
		"station twice":           {add: "stations: [{identity: a, version: 1.6}, {identity: A, version: 1.6}]\n", line: 7, key: "stations[1].identity", text: "second time"},
		"log level":               {add: "log: {level: loud}\n", line: 7, key: "log.level", text: "debug"},
		"log format":              {add: "log: {format: xml}\n", line: 7, key: "log.format", text: "json"},
		"file of more than 1 MiB": {add: strings.Repeat("# comment\n", 110_000), text: "1 MiB"},
		"invalid UTF-8":           {add: "host: \"\xff\"\n", text: "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(minimal, tc.old) {
				t.Fatalf("the minimal file has no %q", tc.old)
			}
			text := strings.Replace(minimal, tc.old, tc.new, 1) + tc.add
			_, err := config.Parse("bollard.yaml", []byte(text))
			var e *config.Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %v", err)
			}
			if e.Line != tc.line || e.Key != tc.key || !strings.Contains(e.Text, tc.text) {
				t.Errorf("got %v, want line %d, key %q, text %q", e, tc.line, tc.key, tc.text)
			}
			if strings.Contains(err.Error(), "secret@") {
				t.Errorf("the error repeats a password: %v", err)
			}
		})
	}
}

func TestEmptyFile(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if _, err := config.Parse("b", []byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func full() *config.File {
	return &config.File{
		Organisation: "Ex: ample #1, \"CPO\"", Country: "DE", Host: "csms.example",
		Public: config.Public{OCPP: "wss://lb.example/ocpp", Status: "http://lb.example", Firmware: "https://lb.example:1", SFTP: "sftp://lb.example:2"},
		Listen: config.Listen{
			OCPP: []config.OCPPListener{
				{Address: "[::1]:8443", Profiles: []int{3}, Trust: []string{"own", "ab"}, RefuseOrigin: true, ProxyProtocol: []string{"10.0.0.5", "2001:db8::/48"}},
				{Address: "127.0.0.1:8442", Profiles: []int{2}, Allow: []string{"a,b", "007", "x: y"}, LegacyTLS: true, CNOnly: true},
				{Address: "127.0.0.1:8440", Profiles: []int{1}},
			},
			PKI: "127.0.0.1:0", Status: "127.0.0.1:0", Firmware: "127.0.0.1:8445", SFTP: "127.0.0.1:2022", Admin: "localhost:8446",
		},
		Backends: []config.Backend{
			{URL: "wss://a.example/ocpp", Name: "yes", Security: "observe", Auth: "mtls", Trust: "t.pem", Certificate: "c.pem", Key: "k.pem", CNOnly: true, Match: config.Match{Identity: "*-1", Vendor: "true", Model: "1.6", Profile: 3}},
			{URL: "ws://b.example", Security: "backend", Auth: "basic-shared", PasswordFile: "p"},
			{URL: "ws://c.example", Security: "bollard", Auth: "basic-per-station", Adopt: config.Adopt{Until: "2027-01-31"}},
		},
		Renewal:     config.Renewal{PerMinute: 7, RevokeSuperseded: true},
		SecurityLog: config.SecurityLog{Off: true, Every: time.Hour, Keep: 2 * time.Hour, MaxBytes: 5000, TotalBytes: 6000, BackEnds: true, HandOn: true},
		Alerts: config.Alerts{Minimum: "critical",
			Webhooks: []config.Webhook{{Name: "w", URL: "https://w.example:1/x?y", SecretFile: "s", Trust: "t", Networks: []string{"10.0.0.0/8", "fd00::/8"}}},
			Syslog:   []config.Syslog{{Name: "l", URL: "tls://l.example", Trust: "t", Certificate: "c", Key: "k"}, {Name: "m", URL: "udp://m.example"}}},
		Policy:    config.Policy{TimeZone: "Europe/Amsterdam", RecordMB: 3},
		Retention: config.Retention{SecurityEvents: 24 * time.Hour, Findings: 25 * time.Hour, Orders: 26 * time.Hour, Rollouts: 27 * time.Hour, Approvals: 28 * time.Hour, Checkpoints: 29 * time.Hour},
		Contracts: config.Contracts{Answer: "backend", Revocation: "hard", Leaves: "strict", Curves20: []string{"P-256"}, Models: []config.ContractModel{{Vendor: "V", Model: "1*", MaxResponse: 7500}}},
		Firmware: config.Firmware{Level: "observe", Models: []config.FirmwareModel{{Vendor: "V", Model: "1*", Level: "enforce", Signature: "rsa-pss-sha256", SignFill: true, Upgrade: true, Location: "sftp", Chain: true, Refusal: "NotSupported"}},
			Revoked: []string{strings.Repeat("0a", 32)},
			Rate:    100000, SiteRate: 50000, StationRate: 20000, MaxBytes: 5000, TotalBytes: 6000, Networks: []string{"10.0.0.0/8"}, Trust: "t",
			Windows: []config.FirmwareWindow{{Site: "n*", Group: "7", Open: []string{"daily 22:00-05:00 Europe/Amsterdam"}}}, TellBackends: true},
		Ledger: config.Ledger{Every: 2 * time.Hour, File: "/mnt/x/kept", Syslog: []config.Syslog{{Name: "l", URL: "tls://l.example"}},
			Webhooks:  []config.Place{{Name: "w", URL: "https://w.example", Trust: "t", Networks: []string{"10.0.0.0/8"}}},
			Witnesses: []config.Witness{{Name: "o", URL: "https://o.example/w", Key: "o.example+01234567+AAAA", Trust: "t", Networks: []string{"fd00::/8"}}}},
		UnknownIdentity: 404,
		Keys:            config.Keys{URI: "softkms:elsewhere", PassphraseFile: "x"},
		Server:          config.ServerCert{ECDSA: config.CertFiles{Certificate: "a", Key: "b"}, RSA: config.CertFiles{Certificate: "c", Key: "d"}},
		Compression:     true,
		ACME: config.ACME{Names: []string{"a.example", "*.b.example"}, Open: true, Networks: []string{"10.0.0.0/8"}, Resolver: "[::1]:53",
			HTTPPort: 8000, TLSPort: 8001},
		Assurance: config.Assurance{Attested: "1.2.3.4.1", Other: "1.2.3.4.2"},
		OCSPHosts: []string{"ocsp.example", "*.v2g.example"},
		Guard:     []config.Guard{{Vendor: "V*", Model: "1", Keys: []string{"X*"}, Transfers: []string{"v/m"}, Allow: []string{"y"}}},
		P224:      []config.Model{{Vendor: "V", Model: "2*"}},
		Limits: config.Limits{
			MessageBytes: 20000, CallTimeout: 1, Handshake: 2, Header: 3, HandshakesAtOnce: 4, PerSource: 5, Write: 6,
			Ping: 90 * time.Second, QueuedCalls: 7, Outstanding: 8, Takeovers: 9, RetryAfter: 10, Drain: time.Hour,
		},
		Stations: []config.StationHint{{Identity: "0x1", Version: "1.6"}, {Identity: "null", Version: "2.0.1"}},
		Log:      config.Log{Level: "debug", Format: "json"},
	}
}

func TestRenderIsParsedBack(t *testing.T) {
	t.Parallel()
	small, err := config.Parse("b", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*config.File{"minimal": small, "full": full()} {
		text, err := config.Render(f)
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Parse("b", text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if diff := cmp.Diff(f, back); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, text)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "#") {
				t.Errorf("%s: a line has no comment: %s", name, line)
			}
		}
	}
}

// What stands behind a "#" is the default: taking the mark away changes nothing.
func TestRenderShowsTheDefaults(t *testing.T) {
	t.Parallel()
	f, err := config.Parse("b", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Render(f)
	if err != nil {
		t.Fatal(err)
	}
	all, in := "", false
	for line := range strings.Lines(string(text)) {
		bare := strings.TrimPrefix(line, "# ")
		if section := !strings.HasPrefix(bare, " "); section {
			in = strings.HasPrefix(bare, "limits:") || strings.HasPrefix(bare, "log:") || strings.HasPrefix(bare, "unknown_identity:")
		}
		if in {
			line = bare
		}
		all += line
	}
	if strings.Contains(all, "#   ping") || !strings.Contains(all, "  ping: 45s") {
		t.Fatalf("the limits are still comments:\n%s", all)
	}
	back, err := config.Parse("b", []byte(all))
	if err != nil {
		t.Fatalf("%v\n%s", err, all)
	}
	if diff := cmp.Diff(f, back); diff != "" {
		t.Error(diff)
	}
}

func TestLoadChecksNamedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "bollard.yaml")
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := config.Load(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
	write("bollard.yaml", minimal+"    auth: basic-shared\n    password_file: secret\n", 0o600)
	var e *config.Error
	if _, _, err := config.Load(path); !errors.As(err, &e) || e.Key != "backends[0].password_file" || e.Line != 8 || !strings.Contains(e.Text, "couldn't find") {
		t.Errorf("a missing password file gave %v", err)
	}
	write("secret", "x", 0o640)
	if _, _, err := config.Load(path); !errors.As(err, &e) || !strings.Contains(e.Text, "chmod 600") {
		t.Errorf("an open password file gave %v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Load(path); err != nil {
		t.Error(err)
	}
	write("bollard.yaml", minimal+"keys: {passphrase_file: .}\n", 0o600)
	if _, _, err := config.Load(path); !errors.As(err, &e) || !strings.Contains(e.Text, "is no file") {
		t.Errorf("a folder as passphrase file gave %v", err)
	}
	for _, key := range []string{"ecdsa", "rsa"} {
		write("chain.pem", "x", 0o644)
		write("key.pem", "x", 0o600)
		if err := os.Chmod(filepath.Join(dir, "key.pem"), 0o644); err != nil {
			t.Fatal(err)
		}
		write("bollard.yaml", minimal+"server_certificate: {"+key+": {certificate: chain.pem, key: key.pem}}\n", 0o600)
		if _, _, err := config.Load(path); !errors.As(err, &e) || !strings.Contains(e.Text, "chmod 600") {
			t.Errorf("an open %s key gave %v", key, err)
		}
	}
}

// What only the use of a value shows has its line, too; of a file that is gone it has none.
func TestFaultsHaveTheKeysLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bollard.yaml")
	if e := config.Fault(path, "acme.names[1]", "is no name"); e.Line != 0 || e.Error() != path+": acme.names[1]: is no name" {
		t.Errorf("of a file that is gone: %v", e)
	}
	if err := os.WriteFile(path, []byte(minimal+"acme:\n  names:\n    - a.example\n    - b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"acme.names[1]": 10, "acme.names[0]": 9, "acme.names[7].x": 9, "approvers": 0} {
		if e := config.Fault(path, key, "is wrong"); e.Line != want {
			t.Errorf("%s: line %d, want %d", key, e.Line, want)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	f := &config.File{Host: "h.example", Listen: config.Listen{
		OCPP:   []config.OCPPListener{{Address: ":1", Profiles: []int{1}}, {Address: ":2", Profiles: []int{2}}},
		Status: "127.0.0.1:3", Firmware: "[::1]:4",
	}}
	if got := []string{f.OCPPURL(), f.StatusURL(), f.FirmwareURL()}; !cmp.Equal(got, []string{"wss://h.example:2/ocpp", "http://h.example:3", "https://h.example:4"}) {
		t.Error(got)
	}
	f.Listen.OCPP = append([]config.OCPPListener{{Address: ":5", Profiles: []int{2, 3}, Rollover: true}}, f.Listen.OCPP...)
	if got := []string{f.OCPPURL(), f.RolloverURL()}; !cmp.Equal(got, []string{"wss://h.example:2/ocpp", "wss://h.example:5/ocpp"}) {
		t.Error(got)
	}
	f.Listen.OCPP = f.Listen.OCPP[1:2]
	f.Host = "::1"
	if got := f.OCPPURL(); got != "ws://[::1]:1/ocpp" {
		t.Error(got)
	}
	f.Public = config.Public{OCPP: "a", Status: "b", Firmware: "c", Rollover: "d"}
	if got := f.OCPPURL() + f.StatusURL() + f.FirmwareURL() + f.RolloverURL(); got != "abcd" {
		t.Error(got)
	}
}

// FuzzParse wants no panic, and that what is accepted can be written and read
// again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	text, err := config.Render(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, seed := range []string{"", "a: &a [*a]", "<<: {}", "? [a]\n: b", "- a", "{", "a: !!binary x", "%YAML 9\n---\n", "limits: {ping: 1h, ping: 2h}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := config.Parse("b", data)
		if err != nil {
			var e *config.Error
			if !errors.As(err, &e) {
				t.Fatalf("error is a %T", err)
			}
			return
		}
		text, err := config.Render(file)
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Parse("b", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(file, back); diff != "" {
			t.Fatal(diff)
		}
	})
}
