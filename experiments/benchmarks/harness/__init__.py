"""What benchmarks share: load generator, traffic mix, processes, tables."""
