# make help lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help

GO       ?= go
BIN      := bin
GOFLAGS  += -trimpath
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM     := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
# What the lab, the bundle and the checkers need beyond Go, as Debian names it.
PACKAGES := bc busybox-static ca-certificates conntrack curl debootstrap dpkg gcc hostname iproute2 iptables jq keepalived kmod \
            libc6-dev mount nftables openssh-client openssl procps shellcheck systemd util-linux
# Hosts as they are: what belongs to others, networks that lose something, logins and surroundings, names, settings, hints.
FIELD := TestWhatBelongsToOthersIsNotTouched TestWhatIsPermittedIsTakenOver TestNetworkOfAHostHeals TestStatusNamesTheHostWhosePodsReachNothing \
         TestFlannelConnectsPodsOfTwoHosts TestPreflightNamesHostsAsTheyAre TestPreflightHearsVRRP TestBringUpOnHostsAsTheyAre TestTrixie \
         TestRefusedFlagIsKnownBefore TestApiserverThatRefusesAFlagIsPutBack TestKubeletThatRefusesItsSettingsIsPutBack

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 20

build: ## build bin/hactl and the programs that it puts on hosts
	CGO_ENABLED=0 $(GO) build $(GOFLAGS) -o $(BIN)/ ./cmd/hactl ./cmd/hactl-prober ./cmd/hactl-network

deps: ## install the Debian packages that the targets below need (root)
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	[ -z "$$missing" ] || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; }

test: deps ## hermetic tests with the race detector, go vet, shellcheck
	$(GO) vet ./...
	$(GO) vet -tags e2e,sweep ./...
	$(GO) test ./inventory # whole, which takes too long with the race detector
	HACTL_TEST_REQUIRE=1 $(GO) test -run Cut ./internal/ops # every cut of every operation
	find . -name '*.sh' -o -path ./.ci/run | xargs shellcheck --shell=sh --severity=warning
	HACTL_TEST_REQUIRE=1 $(GO) test -race ./...

lint: ## golangci-lint, built from source: minutes the first time, so make test goes without
	$(GO) run $(LINT) run
	$(GO) run $(LINT) run --build-tags e2e ./e2e/...

fuzz: ## every fuzz target for a short while
	@for f in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for t in $$(grep -hoE '^func Fuzz[A-Za-z0-9]*' $$f/*_test.go | sed 's/func //'); do \
	    echo "fuzz $$f $$t"; $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $${FUZZTIME:-2000x} $$f || exit 1; done; done

bundle: build ## build every binary and image that hosts need (cached by version)
	$(BIN)/hactl bundle

e2e: deps bundle ## the core scenarios on real local hosts; RUN=TestName/part is one, KEEP=1 keeps its lab (root)
	sh e2e/run.sh core '$(RUN)'

e2e-all: deps bundle ## every scenario on real local hosts, run before a release (root)
	sh e2e/run.sh all '$(RUN)'

e2e-field: deps bundle ## of these the scenarios of hosts as they are (root)
	sh e2e/run.sh all "^($$(echo $(FIELD) | tr ' ' '|'))$$"

e2e-vm: PACKAGES += e2fsprogs qemu-system-x86 qemu-utils
e2e-vm: deps bundle ## one master on a virtual machine, which boots, reboots and loses its power; 15 to 25 minutes without KVM (root)
	sh e2e/run.sh vm '$(RUN)'

sweep: deps bundle ## hactl cut at every call it makes, and killed at 100 random instants; hours (root)
	HACTL_SWEEP=1 $(GO) test -count=1 -timeout 1h -v -run '^TestRunCutAtAnyCommand' ./internal/ops
	$(GO) test -tags sweep -run '^TestSweep' ./internal/ops
	HACTL_SWEEP=1 HACTL_SWEEP_RANDOM=100 $(GO) test -tags e2e -count=1 -timeout 24h -v -run '^TestSweep' ./e2e/...

demo: deps bundle ## three masters and a worker on this machine, then power one off (root)
	sh e2e/demo.sh

bench: deps bundle ## by hand, up, second up; the VIP's outages, ours and the procedure's; on the same hosts (root)
	sh e2e/bench.sh
	sh e2e/bench-vip.sh

bench-vip: deps bundle ## of these the VIP's outages alone (root)
	sh e2e/bench-vip.sh

drill-sensitivity: deps bundle ## does the drill find seeded defects on local hosts; N=5 runs each, N=1 for a quick try (root)
	N=$(or $(N),5) sh e2e/drill-sensitivity.sh

packages: build ## deb and rpm of hactl with man pages and completion, in out/packages
	GO='$(GO)' sh internal/release/packages.sh $(NFPM)

golden: ## write the golden files anew; look at the difference before committing
	$(GO) test $$(grep -rlE '"hactl/internal/goldentest"|flag.Bool\("update"' --include='*_test.go' . | xargs -n1 dirname | sort -u) -update

clean: ## remove what make build made
	rm -rf $(BIN)

.PHONY: help build deps test lint fuzz bundle e2e e2e-all e2e-field e2e-vm sweep demo bench bench-vip drill-sensitivity packages golden clean
