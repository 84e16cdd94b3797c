package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/alert"
	"bollard/internal/config"
	"bollard/internal/syslog"
)

// alertReceivers makes the configured receivers; nothing is dialled yet.
func alertReceivers(dir string, cfg *config.File) ([]alert.Receiver, error) {
	var list []alert.Receiver
	for i, w := range cfg.Alerts.Webhooks {
		r, err := webhook(dir, w)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("alerts.webhooks[%d]", i), err)
		}
		list = append(list, r)
	}
	for i, s := range cfg.Alerts.Syslog {
		r, err := syslogReceiver(dir, s)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("alerts.syslog[%d]", i), err)
		}
		list = append(list, r)
	}
	return list, nil
}

func webhook(dir string, w config.Webhook) (alert.Receiver, error) {
	secret, err := secretFile(within(dir, w.SecretFile))
	if err != nil {
		return nil, &keyedError{"secret_file", err}
	}
	roots, err := trusted(dir, w.Trust)
	if err != nil {
		return nil, err
	}
	out := alert.WebhookConfig{Name: w.Name, URL: w.URL, Secret: secret, RootCAs: roots, Clock: time.Now}
	for _, n := range w.Networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			return nil, &keyedError{"networks", err}
		}
		out.Networks = append(out.Networks, network.Masked())
	}
	return alert.NewWebhook(out)
}

func syslogReceiver(dir string, s config.Syslog) (alert.Receiver, error) {
	sender, err := syslogSender(dir, s, syslog.Auth)
	if err != nil {
		return nil, err
	}
	return alert.NewSyslog(s.Name, sender), nil
}

func syslogSender(dir string, s config.Syslog, facility syslog.Facility) (*syslog.Sender, error) {
	roots, err := trusted(dir, s.Trust)
	if err != nil {
		return nil, err
	}
	out := syslog.Config{URL: s.URL, Facility: facility, RootCAs: roots, Clock: time.Now}
	if s.Certificate != "" {
		pair, err := readKeyPair(within(dir, s.Certificate), within(dir, s.Key))
		if err != nil {
			return nil, &keyedError{"certificate", err}
		}
		out.Certificate = &pair
	}
	sender, err := syslog.New(out)
	if err != nil {
		return nil, &keyedError{"url", err}
	}
	return sender, nil
}

// trusted reads a file of roots; nil, the system's, without one.
func trusted(dir, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // no pool is the system's
	}
	pool, err := readRoots(within(dir, file))
	if err != nil {
		return nil, &keyedError{"trust", err}
	}
	return pool, nil
}

// alertQueues shows the queues to Prometheus.
type alertQueues struct {
	alerts        *alert.Service
	waiting, lost *prometheus.Desc
}

func newAlertQueues(alerts *alert.Service) *alertQueues {
	return &alertQueues{alerts,
		prometheus.NewDesc("bollard_alerts_waiting", "Alerts that still have to be delivered, by receiver.", []string{"receiver"}, nil),
		prometheus.NewDesc("bollard_alerts_lost_total", "Alerts given up, for want of room or because the receiver refused them.", []string{"receiver"}, nil)}
}

// Describe and Collect make it a prometheus.Collector.
func (q *alertQueues) Describe(to chan<- *prometheus.Desc) {
	to <- q.waiting
	to <- q.lost
}

// Collect looks at the queues.
func (q *alertQueues) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), probePatience)
	defer cancel()
	list, err := q.alerts.Queues(ctx)
	if err != nil {
		return // the store's trouble shows in /readyz
	}
	for _, r := range list {
		to <- prometheus.MustNewConstMetric(q.waiting, prometheus.GaugeValue, float64(r.Waiting), r.Receiver)
		to <- prometheus.MustNewConstMetric(q.lost, prometheus.CounterValue, float64(r.Lost), r.Receiver)
	}
}
