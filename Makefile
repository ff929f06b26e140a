# Targets that CI runs are the ones that people run. `make help` lists them.
GO      ?= go
FUZZTIME ?= 30s
FUZZ    ?= .
SIMTIME  ?= 120s
# The first seed of make sim.
FIRST    ?= 1
BIN     := bin/smbd-rdma
# The linter is built from source by the go command and cached by it.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
PORT    ?= 4450

# RDMA devices are served by the verbs provider, which needs the headers of
# rdma-core to build and its libraries only where it is used. VERBS=1 asks for it,
# VERBS=0 for one static binary without cgo; otherwise it depends on the headers.
VERBS ?= $(shell printf '\#include <infiniband/verbs.h>\n\#include <rdma/rdma_cma.h>\n' | $${CC:-cc} -E - >/dev/null 2>&1 && echo 1 || echo 0)
ifeq ($(VERBS),1)
BUILDENV := CGO_ENABLED=1
# Names and users are looked up as in the build without cgo.
TAGS     := -tags verbs,netgo,osusergo
else
BUILDENV := CGO_ENABLED=0
TAGS     :=
endif

.PHONY: help build run demo test race arch vet lint fmt fuzz sim mutate bench bench-peers bench-server bench-client bench-fio bench-ndk cover nocgo peers-test mount-test mount-soak torture torture-check soak vm-test interop ndk-table smbd-table force clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/smbd-rdma; VERBS=1 with RDMA devices, VERBS=0 one static binary (default: 1 with rdma-core's headers)
	$(BUILDENV) $(GO) build $(TAGS) -trimpath -o $(BIN) ./cmd/smbd-rdma

demo: build ## the main job: a real tree through RDMA on loopback, checked, with figures
	$(BIN) demo

run: build ## serve ./ as //localhost/share on unprivileged ports (PORT=4450 for TCP, 5445 for iWARP)
	$(BIN) serve --share share=. --user demo%demo --tcp 127.0.0.1:$(PORT) --rdma iwarp://127.0.0.1:5445

test: ## every test that needs no root, no package and no network
	$(GO) test ./...

race: ## the same under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

arch: ## imports point downward only
	$(GO) test -count=1 ./internal/arch

vet:
	$(GO) vet ./...
	$(if $(TAGS),$(BUILDENV) $(GO) vet $(TAGS) ./transport/ndk/verbs ./cmd/smbd-rdma)
	$(GO) vet -tags peers ./test/...

lint: vet ## gofmt, go vet and golangci-lint
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not gofmt-clean:"; echo "$$out"; exit 1; }
	CGO_ENABLED=0 $(GO) run $(GOLANGCI) run ./...
	$(if $(TAGS),$(BUILDENV) $(GO) run $(GOLANGCI) run --build-tags verbs ./transport/ndk/verbs/... ./cmd/...)

fmt: ## rewrite with gofmt
	gofmt -w $$(git ls-files '*.go')

nocgo: ## everything builds without a C compiler
	CGO_ENABLED=0 $(GO) build ./...

sim: ## the credit protocol simulated for SIMTIME (default 120s) or SEEDS=n seeds, from FIRST (1) on: engines, and whole connections
	$(GO) test -count=1 -v -timeout 0 -run '^Test(Simulation|Network)$$' ./fuzz/simulate ./fuzz/network -first=$(FIRST) $(if $(SEEDS),-seeds=$(SEEDS),-simtime=$(SIMTIME))

fuzz: ## every fuzz target for FUZZTIME each (default 30s); FUZZ=REGEXP chooses some by PACKAGE:TARGET
	@bash test/fuzz-all $(FUZZTIME) '$(FUZZ)'

mutate: ## breaks SMB Direct in dozens of ways, one at a time, and shows which test notices each
	$(GO) run ./test/mutate

bench: ## benchmarks of the layers: bandwidth, latency, allocations
	$(GO) test -run '^$$' -bench . -benchmem ./transport/... ./smbdirect/... ./internal/... ./server/... ./client/... ./bench/...

bench-server: build ## docs/server-performance.md: the server beside Samba and DittoFS ($$DITTOFS), in one run
	$(GO) run ./test/serverbench

bench-client: build ## docs/client-performance.md: the client library beside go-smb2, against Samba and this server, in one run
	$(GO) run ./test/clientbench

bench-peers: build $(if $(VM_KERNEL),bin/ksmbd.tools) ## docs/performance.md, and bin/performance.html: this project beside Samba, smbclient, go-smb2, fio, UCX and iperf3, in one run; beside cifs.ko and ksmbd where VM_KERNEL is given
	$(GO) run ./test/peerbench -html bin/performance.html $(PEERBENCH)

bench-fio: build ## the bench beside fio on one local file: bandwidth within 5 %, percentiles within 10 %
	bash test/bench-fio

bench-mount: build ## docs/mount-performance.md: the mount beside the library and the bare provider, and ls -lR (root, /dev/fuse, fio)
	SMBD_RDMA_BIN=$(CURDIR)/$(BIN) $(GO) run ./test/mount/bench

bench-ndk: ## the iwarp provider beside UCX, libfabric and a bare TCP echo, in one run
	bash test/bench-ndk

cover: ## coverage of the tests, per function in coverage.out
	$(GO) test -coverprofile=coverage.out ./...
	$(GO) tool cover -func=coverage.out | tail -1

peers-test: build ## against smbclient, Samba, go-smb2 and tshark (says what to install)
	bash test/peers/run

MOUNTRUN ?= .
mount-test: build ## the mount beside a local disk, under other people's loads, with killed servers (root, /dev/fuse; fio dbench fsmark sqlite3 git samba); MOUNTRUN chooses
	SMBD_RDMA_BIN=$(CURDIR)/$(BIN) $(GO) test -tags mount -count=1 -timeout 20m -run '$(MOUNTRUN)' ./test/mount

# SQLite's test of locking is a load of the two where it was built.
bin/mptest:
	bash test/mount/mptest-build $@

mount-soak: build bin/mptest ## the same for hours: 100,000 calls per transport, 100 GiB read, servers killed under every load
	SMBD_RDMA_BIN=$(CURDIR)/$(BIN) $(GO) test -tags mount -count=1 -timeout 12h ./test/mount -args -long

torture: ## docs/smbtorture.md: Samba's smbtorture against the server, test by test (samba-testsuite; as root)
	$(GO) run ./test/torture

torture-check: ## what has passed of smbtorture passes still (the quick ones)
	$(GO) run ./test/torture -check

SOAKTIME ?= 5m
soak: build ## 100 busy clients beside 2,000 idle sessions for SOAKTIME (5m): no error, no growth
	$(GO) run ./test/soak -time $(SOAKTIME)

vm-test: build bin/ndkpeer bin/nbdpeer bin/mountdiff bin/ksmbd.tools $(if $(TAGS),bin/verbs.test) ## cifs.ko, ksmbd, librdmacm's tools and the suite on rxe and siw, in a virtual machine (VM_KERNEL, or a kernel it builds; VM_SCRIPTS chooses)
	bash test/vm/run $(addprefix test/vm/,$(VM_SCRIPTS))

bin/verbs.test: force
	$(BUILDENV) $(GO) test $(TAGS) -c -o $@ ./transport/ndk/verbs

# In this order, of the columns of docs/interop.md: each takes a virtual machine.
INTEROP ?= server-iwarp server-siw server-rxe client-iwarp client-siw client-rxe quirks conform
interop: build bin/nbdpeer bin/quirkpeer bin/ksmbd.tools ## SMB Direct with cifs.ko and ksmbd at the other end, large loads; rewrites the tables of docs/interop.md (INTEROP="COLUMN ...")
	bash test/vm/interop $(INTEROP)

bin/nbdpeer bin/quirkpeer: force
	$(BUILDENV) $(GO) build $(TAGS) -o $@ ./test/vm/$(@F)

bin/mountdiff: force
	CGO_ENABLED=0 $(GO) build -o $@ ./test/mount/diff

bin/ksmbd.tools:
	bash test/vm/ksmbd-tools $@

bin/ndkpeer: force
	$(BUILDENV) $(GO) build $(TAGS) -o $@ ./test/vm/ndkpeer

# The columns of verbs come from the last make vm-test.
ndk-table: ## docs/ndk-coverage.md, from what the conformance suite finds on every provider and device
	rm -f docs/ndk-coverage/iwarp*.tsv docs/ndk-coverage/sim*.tsv
	NDKTEST_RESULTS=$(CURDIR)/docs/ndk-coverage $(GO) test -count=1 -run '^TestConformance$$' ./transport/ndk/iwarp ./transport/ndk/sim
	$(GO) run ./transport/ndk/ndktest/ndktable -results docs/ndk-coverage -columns 'iwarp;sim;verbs, rxe;verbs, siw' -o docs/ndk-coverage.md

smbd-table: ## docs/smbdirect-coverage.md, from the tests that are named after rows of [MS-SMBD] and [MS-SMB2]
	$(GO) test -json ./smbdirect/... ./server ./client ./internal/smb2 | $(GO) run ./smbdirect/smbdtest/smbdtable -o docs/smbdirect-coverage.md

clean:
	rm -rf bin coverage.out
