# The commands people type; `make help` lists them. Everything ends up under target/dist, laid out as an installation.
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := $(TARGET)/dist
PREFIX ?= /usr/local
DESTDIR ?=
PLUGINS := network logging cgroups
# A program that needs no library of the machine: for `sampan`, and for what runs in a root file system of its own. Asked for once,
# and only by what builds one.
TRIPLE = $(eval TRIPLE := $$(shell .ci/static-target))$(TRIPLE)
STATIC = --target $(TRIPLE) --config "target.$(TRIPLE).rustflags=['-Ctarget-feature=+crt-static']"

.PHONY: help build images app run test test-all root-test root-test-static attack simulate sabotage chaos fuzz test-vm bench picture fence man fmt lint doc smoke install clean deps

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t12

build: has-cargo ## an installation under target/dist: bin, lib/sampan/plugins, share
	$(CARGO) build --release -p sampan-supervisor -p sampan-ctl
	@# By itself: what it needs of the libraries that they share is in no other program.
	$(CARGO) build --release -p sampan-image
	@# Each by itself and as a cdylib alone: beside the rlib that its tests link there is no whole-program optimization, and built
	@# with the others it gets their features of the libraries they share. A third less to keep in memory.
	set -e; for p in $(PLUGINS); do $(CARGO) rustc --release -p sampan-plugin-$$p --lib --crate-type cdylib; done
	@$(MAKE) -s static >/dev/null
	$(CARGO) build --profile sampan -p sampan-example-web $(STATIC)
	@install -d $(DIST)/bin $(DIST)/lib/sampan/plugins $(DIST)/share/sampan/examples
	@install -m 0755 $(TARGET)/$(TRIPLE)/sampan/sampan $(TARGET)/release/sampand $(TARGET)/release/sampanctl \
	  $(TARGET)/release/sampan-image $(DIST)/bin/
	@for p in $(PLUGINS); do install -m 0755 $(TARGET)/release/lib$$p.so $(DIST)/lib/sampan/plugins/; done
	@.ci/examples $(TARGET)/$(TRIPLE)/sampan/web $(DIST)/share/sampan/examples
	@$(DIST)/bin/sampand --schema > $(DIST)/share/sampan/config.schema.json
	@$(MAKE) -s man

.PHONY: static
static: # `sampan` as it is shipped; says where it is
	@$(CARGO) build --profile sampan -p sampan-runtime --bin sampan $(STATIC)
	@echo $(abspath $(TARGET))/$(TRIPLE)/sampan/sampan

# Before minutes of building are spent.
.PHONY: as-root has-cargo
as-root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root, for namespaces, cgroups and a bridge: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)"; exit 1; }
has-cargo:
	@command -v $(CARGO) >/dev/null || { echo "no $(CARGO) in PATH (sudo has a PATH of its own: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)); Rust is at https://rustup.rs"; exit 1; }

run: as-root build ## the main job: sampand in the foreground with config.toml (as root)
	@SAMPAN_EXAMPLES=$(abspath $(DIST)/share/sampan/examples) exec $(DIST)/bin/sampand --config config.toml

images: as-root build ## the images of examples/app, from Debian's packages, into sampand's store (as root; mmdebstrap)
	@PATH="$(abspath $(DIST)/bin):$$PATH" examples/app/images $(TARGET)/images $(or $(SAMPAN_STATE_DIR),/var/lib/sampan)/images

app: as-root images ## examples/app as a person runs it: nginx, python, postgres, redis and a job, each from an image (as root; ten minutes at most)
	@.ci/app $(DIST) $(TARGET)/images

test: ## the whole test suite (as root; installs what it needs with apt-get)
	@.ci/test

test-all: test root-test-static attack simulate sabotage chaos fuzz app test-vm ## everything, also what takes long (as root)

root-test: ## the tests on real containers alone
	@.ci/test --root-only

root-test-static: ## the runtime's tests on the static `sampan` that is shipped (as root)
	@.ci/test --static

attack: ## known escapes, each against sampan and against one without the defence (as root; SAMPAN_ATTACK=NAME: one)
	$(CARGO) build -p sampan-runtime --bin sampan --features weaken --target-dir $(TARGET)/weaken
	SAMPAN_WEAKENED=$(abspath $(TARGET)/weaken/debug/sampan) $(CARGO) test -p sampan-runtime --test runtime -- \
	  --ignored --exact --nocapture attack::table::each_attack_fails_and_works_without_its_defence
	@# And those on sampand: on its own file, by every way into a container, and those of another user; beside its tests they need
	@# both other programs.
	$(CARGO) build -p sampan-ctl --bin sampanctl --target-dir $(TARGET)/weaken
	$(CARGO) test -p sampan-supervisor --features weaken --target-dir $(TARGET)/weaken --test main -- --nocapture container_overwrites e2e::attack

chaos: ## fifty services that write all the time, and everything is killed, stopped, filled and edited (as root; SECONDS=300 SEED=n)
	$(CARGO) build --workspace
	SAMPAN_CHAOS_SECONDS=$(or $(SECONDS),300) $(if $(SEED),SAMPAN_CHAOS_SEED=$(SEED)) $(CARGO) test -p sampan-supervisor --test main -- \
	  --ignored --exact --nocapture e2e::chaos::chaos

test-vm: ## sampan on a Debian with systemd and AppArmor, in a virtual machine (the first time it builds the image, as root)
	@.ci/test-vm

fuzz: ## any bytes for whatever reads what a stranger wrote, SECONDS=60 each (a nightly compiler; installs cargo-fuzz)
	@command -v cargo-fuzz >/dev/null || $(CARGO) install cargo-fuzz --locked
	set -e; cd fuzz; targets=$$(cargo fuzz list); for target in $$targets; do echo "fuzz: $$target"; cargo +nightly fuzz run $$target -- -max_total_time=$(or $(SECONDS),60) -rss_limit_mb=2048 -timeout=10 -verbosity=0; done

simulate: ## ten million random steps of a service's life (SAMPAN_SIMULATE_SEED=N: that seed alone)
	$(CARGO) test -p sampan-service --test service -- --ignored --exact --nocapture simulate::ten_million_random_events

sabotage: ## one invariant broken at a time, and a test that must notice (as root)
	@.ci/sabotage

smoke: build ## the main job once, from start to nothing left
	@.ci/smoke $(DIST)

bench: as-root build ## what it costs beside peers and floors: docs/figures, and docs/performance.md made of them (as root; ROUNDS=60 ONLY=run,growth,services,pulls,names)
	@.ci/bench/figures measure $(DIST) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ONLY),--only $(ONLY))

picture: as-root build ## docs/pictures/run.svg: what `make run` shows on a terminal (as root)
	@.ci/picture $(DIST) docs/pictures/run.svg

fence: ## child-side code: no allocator, no panic
	@core/child/fence.sh

fmt: ## format
	$(CARGO) fmt --all

lint: ## clippy, warnings are errors
	$(CARGO) clippy --workspace --all-targets -- -D warnings

doc: ## rustdoc, warnings are errors
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --workspace --no-deps --document-private-items

man: ## man pages and shell completions under target/dist/share, from the tables and types that parse
	@$(CARGO) run -q --release -p sampan-ctl --example manual -- $(DIST)/share
	@$(CARGO) build -q --profile sampan -p sampan-runtime --bin sampan $(STATIC)
	@for to in man:man/man8/sampan.8 bash:bash-completion/completions/sampan zsh:zsh/site-functions/_sampan fish:fish/vendor_completions.d/sampan.fish; do \
	  $(TARGET)/$(TRIPLE)/sampan/sampan generate $${to%%:*} > $(DIST)/share/$${to#*:} || exit 1; done

install: build ## copy target/dist to DESTDIR/PREFIX, with the unit for systemd (docs/systemd.md), the header for plugins and the docs
	install -d $(DESTDIR)$(PREFIX)
	@# What runs is replaced, not written into.
	cp -a --remove-destination $(DIST)/. $(DESTDIR)$(PREFIX)/
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)/etc/sampan/services.d $(DESTDIR)$(PREFIX)/include \
	  $(DESTDIR)$(PREFIX)/share/doc/sampan/docs/pictures
	install -m 0644 plugins/sdk/include/sampan_plugin.h $(DESTDIR)$(PREFIX)/include/
	install -m 0644 README.md ARCHITECTURE.md CONTRIBUTING.md CHANGELOG.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/sampan/
	install -m 0644 docs/*.md $(DESTDIR)$(PREFIX)/share/doc/sampan/docs/
	install -m 0644 docs/openapi.json $(DESTDIR)$(PREFIX)/share/sampan/
	install -m 0644 docs/pictures/*.svg $(DESTDIR)$(PREFIX)/share/doc/sampan/docs/pictures/
	sed 's#@PREFIX@#$(PREFIX)#' packaging/sampand.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/sampand.service
	@# A config that somebody has written stays.
	[ -e $(DESTDIR)/etc/sampan/config.toml ] || sed 's#@PREFIX@#$(PREFIX)#' packaging/config.toml > $(DESTDIR)/etc/sampan/config.toml

deps: ## the runtime's dependency tree
	$(CARGO) tree -p sampan-runtime -e normal

clean:
	$(CARGO) clean
