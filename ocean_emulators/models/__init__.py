"""Emulators: a common base, and one module for each family."""
