"""What the claims about speed and memory are measured by: ``make bench``, docs/benchmarks.md.

A section measures one thing and returns metrics (:mod:`benchmarks.metrics`); ``python -m
benchmarks`` runs sections and writes what they found. Nothing here is part of the library.
"""
