package config

import (
	"fmt"
	"net/netip"
	"regexp"
)

// ContractPool is a provider elsewhere that answers cars.
type ContractPool struct {
	Name       string   `yaml:"name" number:"ok" show:"always" doc:"for the log and the ledger: letters, digits, dot, dash and _"`
	URL        string   `yaml:"url" show:"always" doc:"https://…; http:// only on this machine; /v1/ccp/signedContractData is appended"`
	ClientID   string   `yaml:"client_id" number:"ok" show:"always" doc:"as the pool's operator gave it"`
	SecretFile string   `yaml:"secret_file" show:"always" doc:"file with the client's secret, one line, mode 0600"`
	TokenURL   string   `yaml:"token_url" doc:"where access tokens come from (OAuth, client credentials); none: url with /oauth/token"`
	Audience   string   `yaml:"audience" doc:"told with the client's ID; none: url"`
	Providers  []string `yaml:"providers" number:"ok" doc:"whose accounts it has, by country and provider, such as NL-EXA; none: anybody's"`
	Roots      []string `yaml:"roots" number:"ok" doc:"SHA-256 of the V2G roots its answers are signed under, as bollard ca trust list shows them; none: not known"`
	Trust      string   `yaml:"trust" doc:"PEM file of roots for https; none: the system's"`
	Networks   []string `yaml:"networks" doc:"private networks the pool may be in, such as 10.0.0.0/8"`
}

var (
	poolName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)
	providerForm = regexp.MustCompile(`^[A-Za-z]{2}-?[A-Za-z0-9]{3}$`)
)

func (c *checker) pools(list []ContractPool) {
	// A car waits a few seconds: each pool more is a shorter share for each.
	c.want(len(list) <= 8, "contracts.pools", "has more than 8 pools: none would have the time to answer")
	names := map[string]bool{}
	for i, p := range list {
		key := fmt.Sprintf("contracts.pools[%d]", i)
		c.want(poolName.MatchString(p.Name), key+".name", "must be up to 32 letters, digits, dots, dashes and _")
		c.want(!names[p.Name], key+".name", "stands here a second time; give another")
		names[p.Name] = true
		c.want(p.URL != "", key+".url", "is missing")
		c.want(p.ClientID != "", key+".client_id", "is missing")
		c.want(p.SecretFile != "", key+".secret_file", "is missing")
		for n, provider := range p.Providers {
			c.want(providerForm.MatchString(provider), fmt.Sprintf("%s.providers[%d]", key, n), "must be a country and a provider, such as NL-EXA")
		}
		for n, root := range p.Roots {
			c.want(rootForm.MatchString(root), fmt.Sprintf("%s.roots[%d]", key, n), "isn't 64 lower-case hex digits")
		}
		for n, network := range p.Networks {
			_, err := netip.ParsePrefix(network)
			c.want(err == nil, fmt.Sprintf("%s.networks[%d]", key, n), "must be a network, such as 10.0.0.0/8")
		}
	}
}
