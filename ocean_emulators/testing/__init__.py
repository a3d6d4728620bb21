"""Oceans made for tests and benchmarks."""
