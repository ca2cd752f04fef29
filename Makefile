# make demo   a whole world on this machine, ready to be opened in a browser
# make down   stops it
# make test   everything that must be green
# make soak   200 people, 200 000 requests, nobody may get another's page
# make measure  first visit by step, warm requests, memory; of a release build
# make bench    beside nginx, HAProxy and mod_auth_openidc: what a request costs (ARGS=--record: BENCHMARKS.md)
# make fuzz   the parsers against made-up bytes; FUZZ_SECONDS=600 for longer than in make test
# make fmt    formats the sources
# make lint   format, lints, documentation

.PHONY: demo down test fuzz soak measure bench fmt lint

demo:
	@tests/lab/run.sh demo

down:
	@tests/lab/run.sh down

test:
	@tests/lab/run.sh test

fuzz:
	@tests/lab/run.sh fuzz

soak:
	@tests/lab/run.sh soak $(ARGS)

measure:
	@tests/lab/run.sh measure $(ARGS)

bench:
	@tests/lab/run.sh bench $(ARGS)

fmt:
	@cargo fmt

lint:
	@tests/lab/run.sh lint
