"""Emulators: a common base (`base`), and the families on it (`families`): Samudra (`samudra`) and FOMO (`fomo`).

Networks are built from `layers`; weights that others released are read and written by `released`.
"""
