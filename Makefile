# A thin front for Meson: each target installs the Debian packages it misses, then does its work.

.PHONY: all demo test check-sanitized bench soak install fmt lint clean

all: build

.PHONY: build
build:
	@scripts/need build
	@scripts/configure release
	@ninja -C build/release --quiet

demo: build
	@build/release/src/cmd/holt demo

test:
	@scripts/need build test
	@scripts/test release

check-sanitized:
	@scripts/need build test
	@scripts/test sanitized

bench:
	@scripts/need build test bench
	@bench/run

soak:
	@scripts/need build test fuzz
	@scripts/schedules
	@scripts/fuzz

install: build
	meson install -C build/release --no-rebuild

fmt:
	@scripts/need lint
	clang-format -i $$(git ls-files -- '*.c' '*.cc' '*.h')

lint:
	@scripts/need build lint
	@scripts/lint

clean:
	rm -rf build
