package ca

// ParseCSR reads a PKCS#10 request as DER, PEM or (white paper edition 1)
// hex of DER, verifies its signature and refuses keys no profile allows.
func ParseCSR(raw []byte) (CSR, error) { panic("internal error: contract only") }
