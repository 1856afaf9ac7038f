package sentinel

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // Microsoft Graph encrypts with OAEP over SHA-1
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/casewire/casewire/sdk"
)

// Encryption is what encrypted notifications need. https://learn.microsoft.com/graph/change-notifications-with-resource-data.
type Encryption struct {
	Certificate   sdk.Secret `json:"certificate,omitzero" doc:"Certificate and unencrypted RSA private key (2048 to 4096 bits), both as PEM; self-signed will do"`
	CertificateID string     `json:"certificate_id,omitempty" cw:"maxlen=128" doc:"Name of the certificate; give a new one its own" example:"2026-11"`
	Previous      sdk.Secret `json:"previous,omitzero" doc:"The certificate before this one, as long as notifications for it may come"`
	PreviousID    string     `json:"previous_id,omitempty" cw:"maxlen=128" doc:"Its name"`
}

// rich opens encrypted notifications. Nil opens none.
type rich struct {
	id, certificate string // of the certificate that subscriptions name, in base64
	keys            map[string]*rsa.PrivateKey
	audience        string
}

func openRich(e Encryption, clientID string) (*rich, error) {
	if e.Certificate.IsZero() {
		if e.CertificateID != "" || !e.Previous.IsZero() {
			return nil, sdk.BadConfig("encryption.certificate", "is required with certificate_id")
		}
		return nil, nil //nolint:nilnil // nil is no encryption
	}
	if clientID == "" {
		return nil, sdk.BadConfig("credential.client_id", "is required with encryption: what Microsoft Graph sends is vouched for to this app")
	}
	r := &rich{id: e.CertificateID, keys: map[string]*rsa.PrivateKey{}, audience: clientID}
	for _, k := range []struct {
		field, id string
		secret    sdk.Secret
	}{{"certificate", e.CertificateID, e.Certificate}, {"previous", e.PreviousID, e.Previous}} {
		if k.secret.IsZero() {
			continue
		}
		if k.id == "" {
			return nil, sdk.BadConfig("encryption."+k.field+"_id", "is required: notifications name the certificate by it")
		}
		if r.keys[k.id] != nil {
			return nil, sdk.BadConfig("encryption.previous_id", "is the name of the present certificate, too")
		}
		key, der, why := readPair([]byte(k.secret.Reveal()))
		if why != "" {
			return nil, sdk.BadConfig("encryption."+k.field, "%s", why)
		}
		r.keys[k.id] = key
		if k.id == r.id {
			r.certificate = base64.StdEncoding.EncodeToString(der)
		}
	}
	return r, nil
}

// readPair reads an RSA key and the certificate that belongs to it.
func readPair(text []byte) (key *rsa.PrivateKey, der []byte, why string) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, "has a certificate that cannot be read"
			}
			certs = append(certs, cert)
		case "RSA PRIVATE KEY", "PRIVATE KEY":
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			}
			rsaKey, ok := parsed.(*rsa.PrivateKey)
			if err != nil || !ok {
				return nil, nil, "has a private key that is not RSA, or cannot be read"
			}
			key = rsaKey
		case "ENCRYPTED PRIVATE KEY":
			return nil, nil, "has an encrypted private key; decrypt it (openssl pkcs8 -topk8 -nocrypt) and keep the result where secrets are kept"
		}
	}
	switch {
	case key == nil:
		return nil, nil, "has no private key; want PEM with a certificate and its RSA private key"
	case key.N.BitLen() < 2048 || key.N.BitLen() > 4096:
		return nil, nil, "has a key that Microsoft Graph does not take; it must have 2048 to 4096 bits"
	}
	for _, c := range certs {
		if public, ok := c.PublicKey.(*rsa.PublicKey); ok && public.Equal(&key.PublicKey) {
			return key, c.Raw, ""
		}
	}
	return nil, nil, "has no certificate that belongs to its private key"
}

// encryptedContent is the encrypted resource of a notification; its members are base64.
type encryptedContent struct {
	Data          string `json:"data"`
	DataKey       string `json:"dataKey"`
	DataSignature string `json:"dataSignature"`
	CertificateID string `json:"encryptionCertificateId"`
}

// open decrypts the resource and returns its id, or the reason why it is refused: the symmetric key is RSA-OAEP (SHA-1),
// the signature HMAC-SHA256 over the ciphertext, which is AES-256-CBC with the key's first half as its IV.
func (r *rich) open(c *encryptedContent) (id, refused string) {
	if r == nil {
		return "", "encrypted"
	}
	key := r.keys[c.CertificateID]
	if key == nil {
		return "", "unknown_certificate"
	}
	wrapped, err1 := base64.StdEncoding.DecodeString(c.DataKey)
	signature, err2 := base64.StdEncoding.DecodeString(c.DataSignature)
	data, err3 := base64.StdEncoding.DecodeString(c.Data)
	if err1 != nil || err2 != nil || err3 != nil || len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return "", "bad_encryption"
	}
	symmetric, err := rsa.DecryptOAEP(sha1.New(), nil, key, wrapped, nil) //nolint:gosec // as Microsoft Graph encrypts
	if err != nil || len(symmetric) != 32 {
		return "", "bad_encryption"
	}
	mac := hmac.New(sha256.New, symmetric)
	mac.Write(data)
	if !hmac.Equal(mac.Sum(nil), signature) {
		return "", "bad_signature"
	}
	block, err := aes.NewCipher(symmetric)
	if err != nil {
		return "", "bad_encryption"
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, symmetric[:aes.BlockSize]).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > aes.BlockSize || pad > len(plain) || strings.Trim(string(plain[len(plain)-pad:]), string(plain[len(plain)-1:])) != "" {
		return "", "bad_encryption"
	}
	var resource struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(plain[:len(plain)-pad], &resource); err != nil {
		return "", "bad_encryption"
	}
	return resource.ID, ""
}
