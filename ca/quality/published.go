package quality

// published are keys whose private halves are printed where everybody looks,
// and copied into devices from there, by SHA-256 of the SubjectPublicKeyInfo.
// TestPublishedKeys derives each anew from what its source prints.
var published = map[string]string{
	"8fb6bad671cfe698393c453357da61b56d757ab8c0f3fb9c87f2849e63131878": "RFC 9500 §2.1 (RSA test key)",
	"b2b04340cfaee616ec9c2c62d261b208e54bb197498df52e8cadede23ac0ba5e": "RFC 9500 §2.3 (P-256 test key)",
	"929ba087f0858de349b50e39b1dd123a7eaafa249bfdfc1b4a4121603c7984f9": "RFC 6979 A.2.4 (P-224 example)",
	"5a7a78cca4a0f420d9bc62bb669c3c2759e39f723d3ae10dcbe0f0815a07ecd4": "RFC 6979 A.2.5 (P-256 example)",
	"2f95601fa82060b909bfc6b979dbd303d34d34e0afb27ea496beac362f242a4b": "RFC 6979 A.2.6 (P-384 example)",
	"2fb6d46385242ea4ad431f7175e7014eb74a5fc60f65b50ca54cc23c5b08de38": "RFC 6979 A.2.7 (P-521 example)",
	"389f9ede520dbc33d2aebc489246ad89e221d1ec15f693c348c58b08219367aa": "Go's net/http/internal/testcert",
}
