"""The benchmark: what this library does, against what its users would use instead, as ratios of one run.

Run as ``make bench`` or ``python benchmarks``; nothing here is imported by the library or installed with it.
"""
