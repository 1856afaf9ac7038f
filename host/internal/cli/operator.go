package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/casewire/casewire/host/internal/config"
	"github.com/casewire/casewire/host/store"
)

// operator speaks to the host that works on a data file.
type operator struct {
	listen, token string
	client        *http.Client
}

// newOperator finds the host by its configuration.
func newOperator(ctx context.Context, configPath, storePath string) (*operator, error) {
	at, err := config.Peek(configPath)
	if err != nil {
		return nil, Environment(fmt.Errorf("a host works on %s, and where it listens is not known: %w; name its configuration with -c", storePath, err))
	}
	token, err := hostToken(ctx, at, configPath, storePath)
	if err != nil {
		return nil, Environment(fmt.Errorf("a host works on %s; set CASEWIRE_TOKEN to its operator token: %w", storePath, err))
	}
	return &operator{listen: at.Listen, token: token, client: &http.Client{Timeout: 60 * time.Second}}, nil
}

func (o *operator) close() { o.client.CloseIdleConnections() }

// ask makes one request and reads the answer into out, unless that is nil. What the host does not know is
// store.ErrNotFound, what it refuses an Invalid error.
func (o *operator) ask(ctx context.Context, method, path string, body io.Reader, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+o.listen+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+o.token)
	resp, err := o.client.Do(req)
	if err != nil {
		return Environment(fmt.Errorf("ask the host: %w", err))
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return Environment(fmt.Errorf("ask the host: %w", err))
	}
	var problem struct {
		Detail string `json:"detail"`
	}
	if resp.StatusCode >= 300 {
		_ = json.Unmarshal(answer, &problem) // what is no JSON has no detail
	}
	switch {
	case resp.StatusCode < 300 && out == nil:
		return nil
	case resp.StatusCode < 300:
		return json.Unmarshal(answer, out)
	case resp.StatusCode == http.StatusNotFound && problem.Detail != "":
		return fmt.Errorf("%w: %s", store.ErrNotFound, problem.Detail)
	case resp.StatusCode == http.StatusUnauthorized:
		return Environment(errors.New("the host refuses the operator token; set CASEWIRE_TOKEN to the one that it was started with"))
	case (resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusConflict) && problem.Detail != "":
		return Invalid(errors.New(problem.Detail))
	}
	return fmt.Errorf("the host at %s answered %s: %s", o.listen, resp.Status, cmp.Or(problem.Detail, "no reason given"))
}
