package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"bollard/detect"
)

// metrics that exist before the gateway does, which registers its own.
type metrics struct {
	registry *prometheus.Registry
	refusals *prometheus.CounterVec

	findings  *prometheus.CounterVec
	delivered *prometheus.CounterVec
	missed    prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bollard_claims_refused_total",
			Help: "Connecting stations that were not let in, by class of reason.",
		}, []string{"class"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bollard_findings_total", Help: "Findings told, first or anew, by name.",
		}, []string{"finding", "criticality"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bollard_alert_deliveries_total", Help: "Attempts to deliver an alert, by receiver and outcome.",
		}, []string{"receiver", "outcome"}),
		missed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bollard_signs_missed_total", Help: "Signs of attacks nobody looked at, because too many came at once.",
		}),
	}
	for name, criticality := range detect.Names() {
		m.findings.WithLabelValues(name, string(criticality)) // from the start, so that a first one is a change
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bollard_build_info", Help: "Always 1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.refusals, m.findings, m.delivered, m.missed, build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) refused(class string) { m.refusals.WithLabelValues(class).Inc() }

// Found, Delivered and Missed make it an alert.Observer.
func (m *metrics) Found(f detect.Finding) {
	m.findings.WithLabelValues(f.Name, string(f.Criticality)).Inc()
}

func (m *metrics) Delivered(receiver string, err error) {
	outcome := "delivered"
	if err != nil {
		outcome = "failed"
	}
	m.delivered.WithLabelValues(receiver, outcome).Inc()
}

func (m *metrics) Missed(signs int) { m.missed.Add(float64(signs)) }
