//go:build !cloudkms

package keys

// cloudBuilt: the SDKs of clouds are larger than all of Bollard's other modules.
const cloudBuilt = false

func dialAWS(at awsLocation, _ Config) (hsm, error) { return nil, errNotBuilt(at) }
