package exi

import "sync"

// Signature is the set of the xmldsig schema alone: the SignedInfo that is signed
// is a fragment of it ([V2G20-1449], ISO 15118-2 annex J).
var Signature = sync.OnceValue(func() *Set {
	b := newBuilder()
	b.signature()
	b.space = NamespaceSignature
	b.root("Signature", "SignatureType")
	b.root("SignedInfo", "SignedInfoType")
	return b.set("xmldsig", namesSignature, "")
})

// signature defines what a signature has in ISO 15118: no KeyInfo, no Object, no
// content of methods and transforms ([V2G2-771], [V2G20-771]).
func (b *builder) signature() {
	outer := b.space
	b.space = NamespaceSignature
	b.value("ds:string", simple{kind: kindText})
	b.value("ds:base64Binary", simple{kind: kindBytes})
	b.value("ds:integer", simple{kind: kindBig})

	b.typ("SignatureType", id, one("SignedInfo", "SignedInfoType"), one("SignatureValue", "SignatureValueType"),
		opt("KeyInfo", ""), times("Object", "", 0, unbounded))
	b.typ("SignatureValueType", id, content("ds:base64Binary"))
	b.typ("SignedInfoType", id, one("CanonicalizationMethod", "AnyMethodType"), one("SignatureMethod", "KnownMethodType"),
		many("Reference", "ReferenceType", unbounded))
	b.typ("ReferenceType", id, attr("Type", false), attr("URI", false),
		opt("Transforms", "TransformsType"), one("DigestMethod", "AnyMethodType"), one("DigestValue", "ds:base64Binary"))
	b.typ("TransformsType", many("Transform", "KnownMethodType", unbounded))
	// CanonicalizationMethod and DigestMethod allow foreign children, SignatureMethod
	// and Transform one of their own beside them.
	b.typ("AnyMethodType", attr("Algorithm", true), mixed(1))
	b.typ("KnownMethodType", attr("Algorithm", true), mixed(2))
	b.typ("X509IssuerSerialType", one("X509IssuerName", "ds:string"), one("X509SerialNumber", "ds:integer"))
	b.space = outer
}
