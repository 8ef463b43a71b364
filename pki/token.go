package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"math/big"
)

// BootstrapToken makes a kubeadm bootstrap token, "abcdef.0123456789abcdef":
// a public id and 16 secret characters (83 bits). The whole of it is a secret.
func BootstrapToken() string { return letters(6) + "." + letters(16) }

// letters returns n random characters of the alphabet of bootstrap tokens.
func letters(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, n)
	for i := range out {
		k, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			panic(err) // crypto/rand never fails; the runtime ends the process first
		}
		out[i] = alphabet[k.Int64()]
	}
	return string(out)
}

// CertificateKey makes a key for kubeadm's upload-certs phase: 32 random
// bytes, hex. It is a secret.
func CertificateKey() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// keyFingerprint is the SHA-256 of a PEM block's content, or of the text when
// it is no PEM.
func keyFingerprint(text []byte) string {
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	sum := sha256.Sum256(text)
	return "SHA256:" + hex.EncodeToString(sum[:])
}
