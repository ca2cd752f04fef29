# make demo   a whole world on this machine, ready to be opened in a browser
# make down   stops it
# make test   everything that must be green
# make fmt    formats the sources
# make lint   format, lints, documentation

.PHONY: demo down test fmt lint

demo:
	@tests/lab/run.sh demo

down:
	@tests/lab/run.sh down

test:
	@tests/lab/run.sh test

fmt:
	@cargo fmt

lint:
	@tests/lab/run.sh lint
