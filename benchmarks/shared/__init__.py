"""What the benchmarks share: presets, scenes, runs of the program, kept rows, tables, figures and pages."""
