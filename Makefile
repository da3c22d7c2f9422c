# coldseal: make run plays the main job; make test shows that it holds.
.DEFAULT_GOAL := build
SHELL := /bin/bash
GO       ?= go
BIN      := bin
PROGRAMS := coldseal coldseal-appliance coldseal-lint coldseal-agent
# Programs that speak to HSMs and cards: in C, where its compiler and PC/SC are there; otherwise they say what they lack.
DEVICES  := $(wildcard cmd/coldseal-signer cmd/coldseal-station)
WITH_C    = $(shell command -v gcc >/dev/null && [ -e /usr/include/PCSC/winscard.h ] && echo 1 || echo 0)
BUILT    := $(shell git log -1 --format=%ct 2>/dev/null || echo 1763683200)
LDFLAGS  := -s -w -X main.built=$(BUILT)
FUZZTIME ?= 60s
DEBS     := gcc libc6-dev openssl gnutls-bin libnss3-tools strace iproute2 python3-cbor2 python3-cryptography softhsm2 opensc swtpm \
            pcscd libpcsclite-dev vsmartcard-vpcd yubico-piv-tool ykcs11

.PHONY: build run test soak sabotage deps check fuzz bench man clean

build: ## all programs; static but for those that speak to devices
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ $(addprefix ./cmd/,$(PROGRAMS))
	@CGO_ENABLED=$(WITH_C) $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ $(addprefix ./,$(DEVICES))

run: build ## the main job, with the real programs, in demo/
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash testdata/demo.sh demo

deps: ## what the tests need from Debian
	@missing=$$(for p in $(DEBS); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	[ -z "$$missing" ] && exit 0; \
	echo "make deps: installing from Debian:" $$missing; \
	line="apt-get install -y --no-install-recommends $$(echo $$missing)"; \
	[ "$$(id -u)" = 0 ] || line="sudo -n $$line"; \
	{ $${line%%apt-get*}apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$line >/dev/null; } \
	|| { echo "could not install; run this yourself, then make test again:"; echo "  $$line"; exit 1; }

test: deps build check ## everything that is promised, with real parts
	@CGO_ENABLED=1 $(GO) test -timeout 25m ./...
	@CGO_ENABLED=1 $(GO) test -race -timeout 15m ./appliance/... ./agent/... ./protocol

soak: deps ## the worst days, nothing sampled: an hour
	@set -o pipefail; export FIRE_ALL=1 FIRE_KILLS=5000 CGO_ENABLED=1; { \
	  $(GO) test -count=1 -timeout 30m -v -run 'TestForge|TestQuorum|TestDeviceFaults|TestDecodersAreBounded|TestPulled' . ./appliance ./agent ./protocol/policy && \
	  $(GO) test -count=1 -timeout 60m -v ./fire ./appliance/piv; } | grep -Ev '^ *(=== |--- PASS: [^ ]*/)'

check: deps ## form: gofmt, vet, staticcheck
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "not gofmt-clean:" $$bad; exit 1; }
	@$(GO) vet ./...
	@cd tools && $(GO) build -o ../$(BIN)/staticcheck honnef.co/go/tools/cmd/staticcheck
	@$(BIN)/staticcheck ./...

sabotage: deps ## break the product on purpose, and see that the tests notice
	@$(GO) run ./sabotage

fuzz: ## each decoder for FUZZTIME
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz || true); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; done

bench: build ## one JSON object a line
	@$(GO) run ./bench

man: build ## man pages, in bin/man
	@mkdir -p $(BIN)/man
	@for p in coldseal coldseal-appliance coldseal-agent coldseal-station; do $(BIN)/$$p man --dir $(BIN)/man; done

clean:
	@rm -rf $(BIN) demo
