"""Speed and scale: what `baton bench` runs.

One file per bench, beside what they share: `traffic` (what is sent), `load` (the process that
sends it and measures), `running` (what is measured, as processes of their own), `table`.

The benches look at Baton from outside, as a bot does: real processes, real sockets, real files.
What is compared is measured in turns within one run (A B C, A B C, ...), and each ratio is taken
within its round, so what else the machine does meanwhile weighs on both sides.
"""
