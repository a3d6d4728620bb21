"""Evaluation and comparison."""
