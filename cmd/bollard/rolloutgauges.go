package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"bollard/internal/rollout"
)

// rolloutGauges shows the rollouts that aren't over to Prometheus.
type rolloutGauges struct {
	watch              func() rollout.Watch
	rollouts, stations *prometheus.Desc
}

func newRolloutGauges(prefix, what string, watch func() rollout.Watch) *rolloutGauges {
	return &rolloutGauges{watch,
		prometheus.NewDesc(prefix+"rollouts", what+" that aren't over, by phase.", []string{"phase"}, nil),
		prometheus.NewDesc(prefix+"rollout_stations", "Stations of rollouts that aren't over, by state.", []string{"state"}, nil)}
}

// Describe and Collect make it a prometheus.Collector.
func (g *rolloutGauges) Describe(to chan<- *prometheus.Desc) {
	to <- g.rollouts
	to <- g.stations
}

// Collect tells zeros too: an alert on a gauge that isn't there never fires.
func (g *rolloutGauges) Collect(to chan<- prometheus.Metric) {
	w := g.watch()
	for _, phase := range []rollout.Phase{rollout.Running, rollout.Paused, rollout.Halted} {
		to <- prometheus.MustNewConstMetric(g.rollouts, prometheus.GaugeValue, float64(w.Rollouts[phase]), string(phase))
	}
	for _, state := range []rollout.State{rollout.Waiting, rollout.Begun, rollout.Done, rollout.Failed} {
		to <- prometheus.MustNewConstMetric(g.stations, prometheus.GaugeValue, float64(w.Stations[state]), string(state))
	}
}
