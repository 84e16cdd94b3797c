package tariff

// Write is the profile with digests and a signature as it is given.
func (p *Profile) Write(signed string) ([]byte, error) { return p.write(signed) }
