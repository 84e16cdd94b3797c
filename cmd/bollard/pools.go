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

// contractPools are the configured providers elsewhere; nothing is dialled yet.
func contractPools(dir string, cfg *config.File) ([]contract.Outside, error) {
	var list []contract.Outside
	for i, p := range cfg.Contracts.Pools {
		out, err := contractPool(dir, p)
		if err != nil {
			return nil, configFault(dir, fmt.Sprintf("contracts.pools[%d]", i), err)
		}
		list = append(list, out)
	}
	return list, nil
}

func contractPool(dir string, p config.ContractPool) (contract.Outside, error) {
	out := contract.Outside{Name: p.Name, Roots: p.Roots}
	for _, text := range p.Providers {
		provider, err := identifier.ParseProvider(text)
		if err != nil {
			return out, &keyedError{"providers", err}
		}
		out.Providers = append(out.Providers, provider)
	}
	secret, err := secretFile(within(dir, p.SecretFile))
	if err != nil {
		return out, &keyedError{"secret_file", err}
	}
	roots, err := trusted(dir, p.Trust)
	if err != nil {
		return out, err
	}
	client := pool.ClientConfig{URL: p.URL, TokenURL: p.TokenURL, ID: p.ClientID, Secret: secret, Audience: p.Audience, RootCAs: roots, Clock: time.Now}
	for _, n := range p.Networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			return out, &keyedError{"networks", err}
		}
		client.Networks = append(client.Networks, network.Masked())
	}
	out.Pool, err = pool.NewClient(client)
	return out, err
}
