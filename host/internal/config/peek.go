package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// At says where a host works: what commands beside it need to find it.
type At struct {
	Store  string // path of the data file
	Listen string // host:port
	// OperatorToken is a reference, or empty.
	OperatorToken string
}

// Peek reads no more of a config file than where its host works, so that a mistake elsewhere in it does not keep people
// from looking at their runs.
func Peek(path string) (At, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return At{}, fmt.Errorf("the config file cannot be read: %w", err)
	}
	var f struct {
		Store struct {
			Path string `yaml:"path"`
		} `yaml:"store"`
		HTTP struct {
			Listen        string `yaml:"listen"`
			OperatorToken string `yaml:"operator_token"`
		} `yaml:"http"`
	}
	if err := yaml.Unmarshal(b, &f); err != nil {
		return At{}, fmt.Errorf("%s: %w", path, err)
	}
	at := At{Store: cmp.Or(f.Store.Path, DefaultStore), Listen: cmp.Or(f.HTTP.Listen, DefaultListen), OperatorToken: f.HTTP.OperatorToken}
	if !filepath.IsAbs(at.Store) {
		at.Store = filepath.Join(filepath.Dir(path), at.Store)
	}
	return at, nil
}
