package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/casewire/casewire/connectors/azurefake"
)

func init() {
	commands["credential"] = credential // credential KIND: the Microsoft connections have tokens that way from now on; see the kinds
	commands["rotate"] = rotate         // rotate: the federated token is replaced as Kubernetes does it
}

// keyPairFiles makes a certificate with its key, and registers it.
func keyPairFiles(ts *testscript.TestScript, fake *azurefake.Server, life time.Duration) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	ts.Check(err)
	cert, err := x509.ParseCertificate(der)
	ts.Check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	pfx, err := pkcs12.Modern.Encode(key, cert, nil, "pfx-password")
	ts.Check(err)
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	write(ts, "app.secret", both)
	write(ts, "app.pfx", pfx)
	write(ts, "password.secret", []byte("pfx-password"))
	fake.Register(fake.ClientID(), der, azurefake.Federation{})
}

func write(ts *testscript.TestScript, name string, b []byte) {
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(name)), 0o700))
	ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
}

const tokenDir = "var/run/secrets/azure/tokens"

// federated writes a token the way Kubernetes projects it: a link through ..data, which is replaced as a whole.
func federated(ts *testscript.TestScript, subject string) {
	claims, err := json.Marshal(map[string]any{"iss": "https://cluster.example", "sub": subject, "aud": "api://AzureADTokenExchange", "exp": time.Now().Add(time.Hour).Unix()})
	ts.Check(err)
	token := "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
	dir := fmt.Sprintf("..%d", time.Now().UnixNano())
	write(ts, tokenDir+"/"+dir+"/token", []byte(token))
	at := ts.MkAbs(tokenDir)
	ts.Check(os.Symlink(dir, filepath.Join(at, "..data_tmp")))
	ts.Check(os.Rename(filepath.Join(at, "..data_tmp"), filepath.Join(at, "..data")))
	if err := os.Symlink("..data/token", filepath.Join(at, "token")); err != nil && !os.IsExist(err) {
		ts.Check(err)
	}
}

const subject = "system:serviceaccount:soc:casewire"

func rotate(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, 0, "rotate")
	federated(ts, subject)
}

func credential(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, 1, "credential KIND")
	w := of(ts).vendors(ts)
	fake := w.Azure
	text := ts.ReadFile("casewire.yaml")
	from := strings.Index(text, "credentials:")
	to := from + strings.Index(text[from:], "\nconnections:")
	var authority string
	for line := range strings.SplitSeq(text, "\n") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "authority_url:"); ok {
			authority = strings.Trim(strings.TrimSpace(v), `"`)
		}
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "graph_url:"); ok && authority == "" {
			authority = strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	app := fmt.Sprintf("    tenant_id: %s\n    client_id: %s\n    authority_url: %s\n", fake.Tenant(), fake.ClientID(), authority)
	var way string
	switch args[0] {
	case "certificate", "certificate_file", "pkcs12", "certificate_soon":
		life := 90 * 24 * time.Hour
		if args[0] == "certificate_soon" {
			life = 20 * 24 * time.Hour
		}
		keyPairFiles(ts, fake, life)
		way = app + map[string]string{
			"certificate": "    certificate: file:app.secret\n", "certificate_soon": "    certificate: file:app.secret\n",
			"certificate_file": "    certificate_file: " + ts.MkAbs("app.secret") + "\n",
			"pkcs12":           "    certificate_file: " + ts.MkAbs("app.pfx") + "\n    certificate_password: file:password.secret\n",
		}[args[0]]
	case "federated":
		fake.Register(fake.ClientID(), nil, azurefake.Federation{Issuer: "https://cluster.example", Subject: subject, Audience: "api://AzureADTokenExchange"})
		federated(ts, "somebody else")
		way = app + "    federated_token_file: " + ts.MkAbs(tokenDir+"/token") + "\n"
	case "imds", "imds_unknown":
		fake.SetIdentities("", azurefake.MachineIdentity{ClientID: "machine", System: true})
		write(ts, "endpoint.secret", []byte(authority))
		way = "    managed_identity: { endpoint: file:endpoint.secret }\n"
		if args[0] == "imds_unknown" {
			way = "    managed_identity: { client_id: nobody, endpoint: file:endpoint.secret }\n"
		}
	case "app_service":
		fake.SetIdentities("identity-header", azurefake.MachineIdentity{ClientID: "function", ObjectID: "object"})
		write(ts, "endpoint.secret", []byte(authority+"/msi/token"))
		write(ts, "header.secret", []byte("identity-header"))
		way = "    managed_identity: { object_id: object, endpoint: file:endpoint.secret, header: file:header.secret }\n"
	case "exec", "token":
		resp, err := http.PostForm(authority+"/"+fake.Tenant()+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {fake.ClientID()}, "client_secret": {fake.ClientSecret()}, "scope": {"https://graph.microsoft.com/.default"},
		})
		ts.Check(err)
		b, err := io.ReadAll(resp.Body)
		ts.Check(err)
		_ = resp.Body.Close()
		var granted struct {
			Token string `json:"access_token"`
		}
		ts.Check(json.Unmarshal(b, &granted))
		write(ts, "token.secret", []byte(granted.Token))
		way = map[string]string{"exec": "    exec: [/bin/cat, " + ts.MkAbs("token.secret") + "]\n", "token": "    token: file:token.secret\n"}[args[0]]
	default:
		ts.Fatalf("there is no kind %s", args[0])
	}
	write(ts, "casewire.yaml", []byte(text[:from]+"credentials:\n  entra:\n"+way+text[to:]))
}
