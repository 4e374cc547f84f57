"""The reliability and security gauntlet: `python -m tests.gauntlet`, or `make gauntlet`.

Damaged and hostile files for every reader and every command that reads shards, signals at random moments for every
command that writes, full and read-only disks, clocks that jump, and a soak. What was tried and what came of it adds up
in benchmarks/results/gauntlet.json; `docs/reliability.md` holds it as a table. A test file of pytest runs it in short.
"""
