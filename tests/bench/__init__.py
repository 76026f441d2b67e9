"""Benchmarks beside the peers: C, Java, TLS, and the primitives that must run in any case.

    python -m tests.bench --rows 'rc4-*' --pairs 20 --json figures.json --plot figures.svg

A *row* holds two *contestants* against each other, ours and a peer's. They run in turns, in bursts
of some milliseconds, a *pair* being one burst of each; so whatever else the machine does, it does
to both. What counts is the ratio within a pair: the median over all pairs, and the 95 % interval
of that median. A row falls short only if its whole interval does.

Nothing here is a test of speed. `test_bench.py` runs each row once, tiny, so that none can rot.
"""
