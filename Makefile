# `make check` is the only command a change needs. Tools are pinned here and run
# from their modules, so that go.mod stays the broker's own.
GOLANGCI    := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: help build format lint vet test race rego docs fuzz vuln tidy check

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST)

build: ## build ./cordon
	go build -o cordon .

format: ## format Go with gofumpt and gci
	$(GOLANGCI) fmt

lint: ## run every linter of .golangci.yml
	$(GOLANGCI) run

vet:
	go vet ./...

test: ## run the tests as the README does
	go test ./...

race: ## run the tests under the race detector, in random order
	go test -race -shuffle=on ./...

rego: ## check and test the built-in policies and the examples
	go test ./rego/...

docs: ## run the documents
	go test -count=1 -run '^TestReadme$$' .

fuzz: ## run each fuzz target for FUZZTIME (10s)
	@set -e; grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's|/[^/]*_test.go:func | |' | sort -u | \
	while read -r package target; do \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	done

vuln: ## look for known vulnerabilities, where the database can be reached
	@found=$$($(GOVULNCHECK) ./... 2>&1) && exit 0; \
	case $$found in \
	*"fetching vulnerabilities"*) echo "govulncheck skipped: its database is out of reach" ;; \
	*) printf '%s\n' "$$found"; exit 1 ;; \
	esac

tidy: ## check that go.mod and go.sum are exact
	go mod tidy -diff
	go mod verify

check: ## everything; fails if it changed the tree
	@before=$$(mktemp); after=$$(mktemp); trap 'rm -f "$$before" "$$after"' EXIT; \
	{ git status --porcelain; git diff; } >"$$before"; \
	$(MAKE) --no-print-directory format lint vet race rego docs vuln tidy && \
	{ git status --porcelain; git diff; } >"$$after" && \
	{ diff "$$before" "$$after" || { echo "make check changed the tree: look at it and commit"; exit 1; }; }
