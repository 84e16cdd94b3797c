# Bollard. Everything a newcomer needs is `make demo` and `make test`.
.DEFAULT_GOAL := help
SHELL         := /bin/bash
GOLANGCI      := 2.15.0
STEP          := 0.30.2
TOOLS         := $(CURDIR)/.tools
FUZZTIME      ?= 1s
SOAK          ?= 60s
# The race detector doesn't watch the arithmetic of keys and signatures, which shares nothing between
# goroutines and would take two to three times as long.
RACE          := -race '-gcflags=crypto/internal/fips140/...=-race=false'
# What was compiled for one checkout serves the next, and the demo's build the tests.
export GOFLAGS := $(strip $(shell go env GOFLAGS) -trimpath)

.PHONY: help build demo test lint fuzz bench bench-full soak torture tools peers vault cloud step clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

build: ## build bin/bollard
	@go build -o bin/bollard ./cmd/bollard

demo: build ## the main job on embedded defaults: three stations, a CSMS and an impostor
	@bin/bollard demo --once

# -vet=off: lint has vet, with more of its checks. -count=1: the tests of e2e run a binary they build, so go doesn't see that it changed.
test: tools peers vault step lint ## the whole suite but for clouds: lint, race detector, real peers, short fuzzing, a minute of soak
	@set -o pipefail; (rc=0; \
		go test -vet=off $(RACE) -count=1 -json -p 2 -timeout 900s $$(go list ./... | grep -vE '/(cmd/bollard|e2e)$$') || rc=1; \
		go test -vet=off -count=1 -json -p 2 -timeout 900s ./cmd/bollard ./e2e || rc=1; exit $$rc) | go run ./internal/testreport
	@$(MAKE) --no-print-directory --output-sync=target --jobs=2 fuzz soak

lint: tools
	@$(TOOLS)/golangci-lint run --allow-parallel-runners ./...

fuzz: ## every fuzz target for FUZZTIME (default 1s)
	@scripts/fuzz $(FUZZTIME)

bench: tools vault build ## quick set: latency, CPU, memory, handshakes and issuance beside nginx and haproxy; rules; keys; a ledger of a million
	@scripts/need nginx:nginx-light haproxy:haproxy
	@go run ./bench quick
	@go run ./bench ca
	@go run ./bench policy
	@go run ./bench provisioning
	@go test -run '^$$' -bench '^BenchmarkVerifyMillion$$' -benchtime 1x ./store
	@go run ./bench depot
	@go run ./bench firmware
	@go run ./bench keys

bench-full: tools vault build ## hours: every measure, kept in docs/performance, and docs/performance.md
	@scripts/need nginx:nginx-light haproxy:haproxy
	@go run ./bench -out docs/performance full
	@go run ./bench -out docs/performance ca-full
	@go run ./bench -out docs/performance depot
	@go run ./bench -out docs/performance provisioning
	@go run ./bench -out docs/performance keys
	@go run ./bench -out docs/performance report

soak: ## a fleet whose lines break, for SOAK (default 60s): nothing lost, out of order or left over
	@go run ./bench -long $(SOAK) soak

torture: ## the same for half an hour; 10,000 stations moved, renewed and rolled over through kill -9; long runs of models; commands and peers under the race detector
	@$(MAKE) --no-print-directory soak SOAK=30m
	@BOLLARD_TEST_STATIONS=10000 go test -count=1 -run '^(TestFleetLife|TestFleetRenewsAtItsPace)$$' -timeout 4h ./fleet
	@BOLLARD_TEST_STATIONS=10000 go test -count=1 -v -run '^TestRolloutOfThousands$$' -timeout 1h ./firmware/campaign
	@go test -count=1 -run '^Test(PlanModel|CertificateLifeModel|RandomPlansSurviveKill)$$' -timeout 1h ./fleet -rapid.checks=300
	@go test $(RACE) -count=1 -timeout 1800s ./cmd/bollard ./e2e

tools:
	@scripts/need openssl:openssl ssh-keygen:openssh-client sslscan:sslscan softhsm2-util:softhsm2 curl:curl node:nodejs npm:npm rauc:rauc mksquashfs:squashfs-tools swtpm:swtpm lego:lego certbot:certbot
	@scripts/golangci $(TOOLS) $(GOLANGCI)

vault: ## the Vault server of the tests, a module of its own: minutes to build, once
	@scripts/vault $(TOOLS)

cloud: tools ## a bollard with the clouds, and keys in an AWS KMS, whose server is a module of its own
	@scripts/server $(TOOLS) keys/awskms/testdata/server kms-server
	@go build -tags cloudkms -o bin/bollard-cloud ./cmd/bollard
	@$(TOOLS)/golangci-lint run --allow-parallel-runners --build-tags cloudkms ./keys/... ./cmd/bollard
	@go test $(RACE) -count=1 -tags cloudkms -timeout 900s ./keys/awskms
	@go test -count=1 -tags cloudkms -run URI ./keys

step: ## smallstep's step CLI, a peer in the tests: minutes to build, once
	@scripts/step $(TOOLS) $(STEP)

peers:
	@scripts/npm-ci e2e/peers/ocpprpc

.PHONY: attacks torture
torture: attacks vault cloud step
attacks: tools peers ## brute force, shadowing, replay and slowloris at full size: minutes, on a machine of its own
	@set -o pipefail; TORTURE=1 go test -count 1 -timeout 1800s -v -run 'TestBruteForce|TestShadowing|TestReplay|TestSlowloris' ./e2e | grep -v level=

clean: ## remove what the build made
	@rm -rf bin .tools e2e/peers/ocpprpc/node_modules
