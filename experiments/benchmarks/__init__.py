"""Benchmarks of speed, scale, learning and guarantees: what `baton bench` runs.

One file a benchmark; `harness` has what they share: traffic mix, load generator, processes, tables.

They look at Baton from outside, as a bot does: real processes, real sockets, real files.
What is compared is measured in turns within one run (A B C, A B C, ...), and each ratio is taken
within its round, so what else the machine does meanwhile weighs on both sides.
"""
