# muster: `make run` shows one machine's whole life, `make test` tests everything. See README.md.
FIRMWARE ?= bios
KEEP     ?=
CACHE    ?= .cache
GO       ?= go
VERSION  ?= 0.1.0

# What Debian has and a fresh machine lacks: emulation, firmware, loaders, and the tools that make a disk image.
PACKAGES = qemu-system-x86 seabios ipxe-qemu ovmf iproute2 ipxe shim-signed grub-efi-amd64-signed grub-pc-bin \
	grub-common mmdebstrap gdisk e2fsprogs mtools xz-utils dnsmasq-base \
	fdisk dosfstools xfsprogs btrfs-progs swtpm lldpd pxelinux syslinux-common postgresql libxml2-utils \
	genisoimage xorriso libarchive-tools p7zip-full udftools curl wimtools

export CGO_ENABLED = 0

.PHONY: all build run deps test test-short test-lab test-boot test-ramdisk test-install test-openapi bench-facts bench-ramdisk bench-boot bench-broker bench-image race fuzz lint clean

all: build

# muster carries the ramdisk's userland for ARCHES, so that operators need no Go (ARCHES="amd64 arm64" for both).
ARCHES  ?= amd64
GOBUILD  = $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
build:
	@$(GOBUILD) -o bin/muster ./tools/muster
	@for a in $(ARCHES); do u=$$a.cpio.zst; \
		bin/muster ramdisk build --source . --arch $$a -o bin/userland/$$u >/dev/null || exit 1; \
		cmp -s bin/userland/$$u tools/muster/userland/$$u || cp bin/userland/$$u tools/muster/userland/$$u; done
	$(GOBUILD) -o bin/muster ./tools/muster

# Installs only what is missing; says what it does when it is not root. A mirror may be away for a moment, and a fresh
# machine's own updates may hold dpkg's lock.
APT = apt-get -q -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600
# Where PostgreSQL was never installed, its package is told to start none: tests start their own.
NOCLUSTER = /etc/postgresql-common/createcluster.conf
deps:
	@missing=; for p in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" != 0 ]; then echo "muster: as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
		echo "installing$$missing"; \
		[ -e $(NOCLUSTER) ] || { mkdir -p $(dir $(NOCLUSTER)) && echo 'create_main_cluster = false' > $(NOCLUSTER); }; \
		for again in 1 2 3; do $(APT) update >/dev/null && break; sleep 10; done; \
		DEBIAN_FRONTEND=noninteractive $(APT) install -y --no-install-recommends $$missing >/dev/null; \
	fi

run: deps build
	bin/muster lab run --firmware $(FIRMWARE) --cache $(CACHE) $(if $(KEEP),--keep)

# Real peers, kernels and firmware on a shared machine: a test that fails is run once more, and the end names it either
# way. More than six (subtests count) that fail are a fault, and no chance.
GOTEST = $(GO) tool gotestsum --rerun-fails=1 --rerun-fails-max-failures=6 --rerun-fails-run-root-test

# Everything: what any machine can test, then machines on real firmware. At most 25 minutes on 2 cores.
test: deps build lint
	$(GOTEST) --format standard-quiet --packages="$$($(GO) list ./... | grep -v /tools/lab$$ | xargs)" -- -count=1 -timeout 40m
	$(MAKE) test-lab

# No root, no QEMU, no network.
test-short:
	$(GO) test -short ./...

# Whole lives on BIOS, UEFI and Secure Boot, and what goes wrong in them; RUN chooses.
RUN ?= .
test-lab: deps build
	bin/muster lab build --cache $(CACHE)
	MUSTER_LAB=1 MUSTER_CACHE=$(abspath $(CACHE)) $(GOTEST) --format standard-verbose --packages=./tools/lab -- -count=1 -timeout 60m -run '$(RUN)' -v

# Every way to the agent: firmware, DHCP mode and first loader, as a table with times; and what each loader makes of each
# step, as another (as root). RUN chooses, as in RUN=uefi-http or RUN=wait.
test-boot: PACKAGES += isc-dhcp-server kea-dhcp4-server qemu-system-arm qemu-efi-aarch64 grub-efi-amd64-bin
test-boot: deps build
	bin/muster lab build --cache $(CACHE)
	MUSTER_LAB=1 MUSTER_BOOT=1 MUSTER_CACHE=$(abspath $(CACHE)) $(GO) test -count=1 -timeout 60m -parallel 2 -run 'LabBoot(Matrix|Steps)/($(RUN))' -v ./tools/lab

# Ramdisks at kernels: ours in each form on little memory, one of arm64, one that is logged in to; and those of Debian, its
# installer and dracut, as they came and packed again (as root).
test-ramdisk: PACKAGES += initramfs-tools-core dracut-core debian-installer-12-netboot-amd64 qemu-system-arm qemu-efi-aarch64 openssh-client
test-ramdisk: deps build
	MUSTER_LAB=all MUSTER_CACHE=$(abspath $(CACHE)) $(GO) test -count=1 -timeout 60m -run 'Ramdisk(Boots|SSH)' -v ./tools/lab
	MUSTER_RAMDISKS=$(abspath $(CACHE))/foreign $(GO) test -count=1 -run ForeignRamdisks -v ./initramfs

# What tasks do to a whole machine: task, firmware, result and time as a table (as root). RUN chooses, as in RUN=Wipe.
test-install: PACKAGES += debian-installer-12-netboot-amd64
test-install: deps build
	bin/muster lab build --cache $(CACHE)
	MUSTER_LAB=1 MUSTER_INSTALL=1 MUSTER_CACHE=$(abspath $(CACHE)) $(GO) test -count=1 -timeout 90m -run 'LabInstall.*($(RUN))' -v ./tools/lab

# A client made of the OpenAPI document by a generator of others, compiled and asked; downloads the generator.
test-openapi:
	MUSTER_GENERATE=1 $(GO) test -count=1 -timeout 10m -run Generator -v ./broker/api

# What each inventory tool of the field finds of a planted machine, and how long it takes, beside muster-agent facts.
bench-facts: deps build
	bin/muster lab bench-facts --cache $(CACHE) $(BENCHFLAGS)

# Sizes, build times, least memory and start of ramdisks beside initramfs-tools, dracut and a bare init (as root).
bench-ramdisk: PACKAGES += initramfs-tools-core dracut-core busybox-static cpio zstd
bench-ramdisk: deps build
	MUSTER_BENCH=1 MUSTER_CACHE=$(abspath $(CACHE)) $(GO) test -count=1 -timeout 120m -run BenchRamdisk -v ./tools/lab

# DHCP, TFTP and HTTP beside the servers of the field, interleaved (as root).
bench-boot: deps build
	MUSTER_BENCH=1 MUSTER_CACHE=$(abspath $(CACHE)) $(GO) test -count=1 -timeout 120m -run 'BenchTFTP|BenchDHCP|BenchPerfdhcp|BenchHTTP' -v ./tools/lab

# Decisions, durable check-ins, tags and plans with 10,000 nodes, beside SQLite alone and the same question in Go. RUN
# chooses parts, as in RUN='known|commits'.
bench-broker: build
	MUSTER_BENCH=1 $(GO) test -count=1 -timeout 120m -run 'BenchBroker/($(RUN))' -v ./tools/lab

# Images onto a loop device beside dd and qemu-img, in turn (as root).
bench-image: PACKAGES += qemu-utils
bench-image: deps
	MUSTER_BENCH=1 $(GO) test -count=1 -timeout 60m -run BenchImage -v ./agent

race:
	CGO_ENABLED=1 $(GO) test -race -short ./...

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

lint:
	@unformatted=$$(gofmt -l agent initramfs broker boot tools); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

clean:
	rm -rf bin $(CACHE) tools/muster/userland/*.cpio.zst
