package main

import (
	"fmt"
	"net/netip"
	"time"

	"bollard/contract"
	"bollard/contract/pool"
	"bollard/internal/config"
	"bollard/iso15118/identifier"
)

// contractPools are the configured providers elsewhere, and the one whose CPS signs for
// us, if any; nothing is dialled yet.
func contractPools(dir string, cfg *config.File) (list []contract.Outside, cps contract.CPS, err error) {
	for i, p := range cfg.Contracts.Pools {
		out, client, err := contractPool(dir, p)
		if err != nil {
			return nil, nil, configFault(dir, fmt.Sprintf("contracts.pools[%d]", i), err)
		}
		if p.Name == cfg.Contracts.CPS {
			cps = client
		}
		list = append(list, out)
	}
	return list, cps, nil
}

func contractPool(dir string, p config.ContractPool) (contract.Outside, *pool.Client, error) {
	out := contract.Outside{Name: p.Name, Roots: p.Roots}
	for _, text := range p.Providers {
		provider, err := identifier.ParseProvider(text)
		if err != nil {
			return out, nil, &keyedError{"providers", err}
		}
		out.Providers = append(out.Providers, provider)
	}
	secret, err := secretFile(within(dir, p.SecretFile))
	if err != nil {
		return out, nil, &keyedError{"secret_file", err}
	}
	roots, err := trusted(dir, p.Trust)
	if err != nil {
		return out, nil, err
	}
	cfg := pool.ClientConfig{URL: p.URL, TokenURL: p.TokenURL, ID: p.ClientID, Secret: secret, Audience: p.Audience, RootCAs: roots, Clock: time.Now}
	for _, n := range p.Networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			return out, nil, &keyedError{"networks", err}
		}
		cfg.Networks = append(cfg.Networks, network.Masked())
	}
	client, err := pool.NewClient(cfg)
	out.Pool = client
	return out, client, err
}
