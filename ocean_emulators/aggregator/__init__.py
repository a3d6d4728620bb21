"""Collects what training, validation and rollouts produce; gives back plain numbers, tables and figures."""
