package azure

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/casewire/casewire/sdk"
)

// maxCredentialFile bounds what is read of a file that the credential names.
const maxCredentialFile = 256 << 10

// appKey is a certificate, its chain behind it, and the private key.
type appKey struct {
	chain []*x509.Certificate
	key   *rsa.PrivateKey
}

// appKey reads the certificate of a credential: PEM, or PKCS#12 as it is or in base64.
func (c *Credential) appKey(field string) (appKey, error) {
	at, data := field+"/certificate", []byte(c.Certificate.Reveal())
	if c.CertificateFile != "" {
		at = field + "/certificate_file"
		var err error
		if data, err = readSmall(c.CertificateFile); err != nil {
			return appKey{}, sdk.BadConfig(at, "cannot be read: %v", err)
		}
	}
	bad := func(format string, args ...any) (appKey, error) { return appKey{}, sdk.BadConfig(at, format, args...) }
	var certs []*x509.Certificate
	var key crypto.PrivateKey
	var err error
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		if encrypted(data) {
			return bad("has an encrypted private key; decrypt it (openssl pkcs8 -topk8 -nocrypt) and keep the result where secrets are kept, or give a PKCS#12 file with certificate_password")
		}
		if certs, key, err = confidential.CertFromPEM(data, ""); err != nil {
			return bad("must be PEM with a certificate and its RSA private key: %v", err)
		}
	case looksPKCS12(data) != nil:
		var leaf *x509.Certificate
		key, leaf, certs, err = pkcs12.DecodeChain(looksPKCS12(data), c.CertificatePassword.Reveal())
		switch {
		case errors.Is(err, pkcs12.ErrIncorrectPassword) && c.CertificatePassword.IsZero():
			return bad("is a PKCS#12 file with a password: give it as certificate_password")
		case errors.Is(err, pkcs12.ErrIncorrectPassword):
			return appKey{}, sdk.BadConfig(field+"/certificate_password", "is not the password of the PKCS#12 file")
		case err != nil:
			return bad("is a PKCS#12 file that cannot be read: %v", err)
		}
		certs = append([]*x509.Certificate{leaf}, certs...)
	default:
		return bad("must be PEM with a certificate and its RSA private key, or PKCS#12 (in base64, unless it is a file)")
	}
	private, why := matching(certs, key)
	if why != "" {
		return bad("%s", why)
	}
	return appKey{certs, private}, nil
}

// encrypted says whether a private key in PEM is, in the modern form or the old one.
func encrypted(data []byte) bool {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return bytes.Contains(data, []byte("BEGIN ENCRYPTED"))
		}
		if strings.Contains(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return true
		}
	}
}

// looksPKCS12 returns the DER of what may be a PKCS#12 file.
func looksPKCS12(data []byte) []byte {
	const sequence = 0x30
	if len(data) > 32 && data[0] == sequence && data[1] >= 0x80 {
		return data
	}
	text := strings.Join(strings.Fields(string(data)), "")
	der, err := base64.StdEncoding.DecodeString(text)
	if err == nil && len(der) > 32 && der[0] == sequence && der[1] >= 0x80 {
		return der
	}
	return nil
}

// matching puts the certificate that belongs to the key first.
func matching(certs []*x509.Certificate, key crypto.PrivateKey) (*rsa.PrivateKey, string) {
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, "has a private key that is not RSA; Entra ID takes RSA keys only"
	}
	for i, cert := range certs {
		if public, ok := cert.PublicKey.(*rsa.PublicKey); ok && public.Equal(&private.PublicKey) {
			certs[0], certs[i] = certs[i], certs[0]
			return private, ""
		}
	}
	return nil, "has a private key that belongs to none of its certificates"
}

// readSmall reads a file that must not be large.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	b, err := io.ReadAll(io.LimitReader(f, maxCredentialFile+1))
	if err == nil && len(b) > maxCredentialFile {
		err = errors.New("it is too large to be what it should be")
	}
	return b, err
}
