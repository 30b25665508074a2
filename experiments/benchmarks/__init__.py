"""Benchmarks of speed, scale and learning: `baton bench`, `python -m experiments.benchmarks`.

One file a benchmark, beside what they share in `harness`: `traffic_mix` (what is sent),
`load_generator` (the process that sends it and measures), `processes` (what is measured),
`result_table`, `command_line`.

The benches look at Baton from outside, as a bot does: real processes, real sockets, real files.
What is compared is measured in turns within one run (A B C, A B C, ...), and each ratio is taken
within its round, so what else the machine does meanwhile weighs on both sides.
"""
