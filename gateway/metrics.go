package gateway

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ocpp"
)

// metrics of the gateway. No label ever holds an identity or a byte from the
// wire: every value comes from a fixed set.
type metrics struct {
	sessions     *prometheus.GaugeVec   // version, profile
	ends         *prometheus.CounterVec // cause
	refusals     *prometheus.CounterVec // reason
	handshakes   *prometheus.CounterVec // listener, class
	accepted     prometheus.Counter
	dropped      *prometheus.CounterVec // direction, reason
	guarded      *prometheus.CounterVec // direction, verdict
	takeovers    prometheus.Counter
	flapping     prometheus.Counter
	callTimeouts prometheus.Counter
	dialFailures *prometheus.CounterVec // backend
	panics       prometheus.Counter
	own          prometheus.Histogram

	// Resolved once, because every frame counts. Index: direction, then type.
	messages [3][7]prometheus.Counter
	bytes    [3]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "bollard_gateway_" + name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "bollard_gateway_" + name, Help: help})
	}
	m := &metrics{
		sessions: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "bollard_gateway_sessions",
			Help: "Live sessions."}, []string{"version", "profile"}),
		ends:         counters("session_ends_total", "Sessions that ended, by cause.", "cause"),
		refusals:     counters("refusals_total", "Connections refused after the transport was up, by reason.", "reason"),
		handshakes:   counters("handshake_failures_total", "TLS handshakes that failed, and connections turned away before one, by class.", "listener", "class"),
		accepted:     counter("connections_total", "Connections accepted."),
		dropped:      counters("frames_dropped_total", "Frames not handed on and not answered by a service, by reason.", "direction", "reason"),
		guarded:      counters("frames_guarded_total", "Frames a service decided about, by verdict.", "direction", "verdict"),
		takeovers:    counter("takeovers_total", "Sessions replaced by a newer proven connection of their identity."),
		flapping:     counter("flapping_total", "Connections refused because their identity replaced its session too often."),
		callTimeouts: counter("call_timeouts_total", "CALLs toward stations that were not answered in time."),
		dialFailures: counters("dial_failures_total", "Back-end connections that could not be opened.", "backend"),
		panics:       counter("panics_total", "Panics recovered; each ended one session at most."),
		own: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "bollard_gateway_pass_seconds",
			Help:    "Time from a whole frame read to the frame written to the other side; one frame in 16 is measured.",
			Buckets: []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3, 100e-3, 1}}),
	}
	messages := counters("messages_total", "OCPP frames handed on, by direction and type.", "direction", "type")
	bytes := counters("bytes_total", "Bytes of the frames handed on.", "direction")
	types := [...]string{ocpp.Call: "call", ocpp.CallResult: "callresult", ocpp.CallError: "callerror",
		ocpp.CallResultError: "callresulterror", ocpp.Send: "send"}
	for _, d := range []ocpp.Direction{ocpp.FromStation, ocpp.FromCSMS} {
		m.bytes[d] = bytes.WithLabelValues(d.String())
		for t, name := range types {
			if name != "" {
				m.messages[d][t] = messages.WithLabelValues(d.String(), name)
			}
		}
	}
	for _, c := range []prometheus.Collector{m.sessions, m.ends, m.refusals, m.handshakes, m.accepted, m.dropped,
		m.guarded, m.takeovers, m.flapping, m.callTimeouts, m.dialFailures, m.panics, m.own, messages, bytes} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("couldn't register a gateway metric: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) passed(d ocpp.Direction, t ocpp.MessageType, size int) {
	m.messages[d][t].Inc()
	m.bytes[d].Add(float64(size))
}

func (m *metrics) took(d time.Duration) { m.own.Observe(d.Seconds()) }

func (m *metrics) live(v ocpp.Version, profile int) prometheus.Gauge {
	return m.sessions.WithLabelValues(v.String(), strconv.Itoa(profile))
}
