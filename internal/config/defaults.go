package config

import (
	"net"
	"runtime"
	"time"
)

// defaultLimits are what DESIGN decided for a fleet of thousands.
func defaultLimits() Limits {
	return Limits{
		MessageBytes: 1 << 20, CallTimeout: 30 * time.Second, Handshake: 10 * time.Second,
		Header: 5 * time.Second, HandshakesAtOnce: runtime.GOMAXPROCS(0), PerSource: 256, Write: 10 * time.Second,
		Ping: 45 * time.Second, QueuedCalls: 16, Outstanding: 64, Takeovers: 6,
		RetryAfter: 10 * time.Second, Drain: 10 * time.Second,
	}
}

// complete fills what the file leaves out.
func (f *File) complete() {
	fill(&f.Host, "localhost")
	fill(&f.UnknownIdentity, 401)
	fill(&f.Keys.URI, "softkms:")
	fill(&f.Log.Level, "info")
	fill(&f.Log.Format, "text")
	l, d := &f.Limits, defaultLimits()
	fill(&l.MessageBytes, d.MessageBytes)
	fill(&l.CallTimeout, d.CallTimeout)
	fill(&l.Handshake, d.Handshake)
	fill(&l.Header, d.Header)
	fill(&l.HandshakesAtOnce, d.HandshakesAtOnce)
	fill(&l.PerSource, d.PerSource)
	fill(&l.Write, d.Write)
	fill(&l.Ping, d.Ping)
	fill(&l.QueuedCalls, d.QueuedCalls)
	fill(&l.Outstanding, d.Outstanding)
	fill(&l.Takeovers, d.Takeovers)
	fill(&l.RetryAfter, d.RetryAfter)
	fill(&l.Drain, d.Drain)
	fill(&f.Renewal.PerMinute, 60)
	fill(&f.Alerts.Minimum, "warning")
	fill(&f.SecurityLog.Every, 7*24*time.Hour)
	fill(&f.SecurityLog.Keep, 90*24*time.Hour)
	fill(&f.SecurityLog.MaxBytes, 8<<20)
	fill(&f.SecurityLog.TotalBytes, 2<<30)
	fill(&f.Firmware.Level, "enforce")
	fill(&f.Firmware.MaxBytes, 4<<30)
	fill(&f.Firmware.TotalBytes, 64<<30)
	fill(&f.Ledger.Every, time.Hour)
	fill(&f.ACME.HTTPPort, 80)
	fill(&f.ACME.TLSPort, 443)
	for i := range f.Backends {
		fill(&f.Backends[i].Security, "bollard")
		fill(&f.Backends[i].Auth, "none")
	}
	for i := range f.Listen.OCPP {
		if f.Listen.OCPP[i].Profiles == nil {
			f.Listen.OCPP[i].Profiles = []int{2, 3}
		}
	}
	f.Public = Public{OCPP: f.OCPPURL(), Status: f.StatusURL(), Firmware: f.FirmwareURL(), SFTP: f.SFTPURL(), Rollover: f.RolloverURL()}
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// OCPPURL is where stations connect, without the identity: public.ocpp, or
// host with the port of the first listener for profiles 2 and 3, else of the
// first at all.
func (f *File) OCPPURL() string {
	if f.Public.OCPP != "" {
		return f.Public.OCPP
	}
	for _, l := range f.Listen.OCPP {
		if !l.Rollover && (len(l.Profiles) == 0 || l.Profiles[0] != 1) {
			return f.url("wss", l.Address, "/ocpp")
		}
	}
	for _, l := range f.Listen.OCPP {
		return f.url("ws", l.Address, "/ocpp")
	}
	return ""
}

// RolloverURL is where stations connect to prove that they have the next CSMS
// root: public.rollover, or host with the port of that listener; "" without one.
func (f *File) RolloverURL() string {
	if f.Public.Rollover != "" {
		return f.Public.Rollover
	}
	for _, l := range f.Listen.OCPP {
		if l.Rollover {
			return f.url("wss", l.Address, "/ocpp")
		}
	}
	return ""
}

// StatusURL is the base of OCSP and CRL URLs in certificates, or "".
func (f *File) StatusURL() string {
	if f.Public.Status != "" {
		return f.Public.Status
	}
	return f.url("http", f.Listen.Status, "")
}

// FirmwareURL is the base of firmware downloads, or "".
func (f *File) FirmwareURL() string {
	if f.Public.Firmware != "" {
		return f.Public.Firmware
	}
	return f.url("https", f.Listen.Firmware, "")
}

// SFTPURL is the base of what is fetched and brought over SFTP, or "".
func (f *File) SFTPURL() string {
	if f.Public.SFTP != "" {
		return f.Public.SFTP
	}
	return f.url("sftp", f.Listen.SFTP, "")
}

func (f *File) url(scheme, address, path string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return scheme + "://" + net.JoinHostPort(f.Host, port) + path
}
