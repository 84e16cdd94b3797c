package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics that exist before the gateway does, which registers its own.
type metrics struct {
	registry *prometheus.Registry
	refusals *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bollard_claims_refused_total",
			Help: "Connecting stations that were not let in, by class of reason.",
		}, []string{"class"}),
	}
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bollard_build_info", Help: "Always 1; the version is a label.",
		ConstLabels: prometheus.Labels{"version": version()},
	}, func() float64 { return 1 })
	m.registry.MustRegister(m.refusals, build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) refused(class string) { m.refusals.WithLabelValues(class).Inc() }
