GO ?= go
TOOLS = .ci/tools
LINT = $(GO) tool -modfile=$(TOOLS)/golangci-lint.mod golangci-lint
BUF = $(GO) tool -modfile=$(TOOLS)/buf.mod buf
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS = -s -w -X main.version=$(VERSION)
FUZZTIME ?= 20s

.PHONY: help
help: ## Say what the targets are
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build ./casewire
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o casewire ./host/cmd/casewire

.PHONY: demo
demo: build ## The main job against bundled fakes, with a kill -9 in the middle
	./casewire demo

.PHONY: test
test: ## All tests, with the race detector
	$(GO) test -race -timeout 30m ./...

.PHONY: check
check: fmt-check vet tidy-check lint proto-check test demo ## Everything that must pass before a change lands

.PHONY: fmt-check
fmt-check: ## Formatting
	$(LINT) fmt --diff

.PHONY: cross
cross: ## Does it build for the other systems?
	@for p in linux/arm64 darwin/arm64 windows/amd64; do \
	  echo "cross $$p"; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./host/cmd/casewire || exit 1; done

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: tidy-check
tidy-check: ## go.mod and go.sum say what is used
	$(GO) mod tidy -diff

.PHONY: lint
lint: ## golangci-lint
	$(LINT) run ./...

.PHONY: proto-check
proto-check: ## The protocol: lint, compatibility with the released one, generated code up to date
	$(BUF) lint plugin
	$(BUF) breaking plugin --against plugin/testdata/connector.v1.binpb
	@tmp=$$(mktemp -d) && $(BUF) generate plugin --template plugin/buf.gen.yaml -o $$tmp && \
	  diff -r $$tmp/plugin/connectorv1 plugin/connectorv1 && rm -rf $$tmp

.PHONY: generate
generate: ## Generated code from the protocol
	$(BUF) generate plugin --template plugin/buf.gen.yaml
	CASEWIRE_GENERATE=1 $(GO) test -count 1 -run TestDescriptorsAreUpToDate ./examples/connector-python

.PHONY: bench
bench: build ## Speed and size: a table, then one JSON object a line
	./casewire bench

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME each
	@for t in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$t/*_test.go | cut -c6-); do \
	    echo "$$t $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$t || exit 1; done; done

.PHONY: dist
dist: ## Release binaries with checksums in dist/
	@rm -rf dist && mkdir -p dist
	@for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64; do \
	  echo "dist $$p"; CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -trimpath -ldflags '$(LDFLAGS)' \
	    -o dist/casewire-$${p%/*}-$${p#*/} ./host/cmd/casewire || exit 1; done
	@cd dist && sha256sum casewire-* > SHA256SUMS
