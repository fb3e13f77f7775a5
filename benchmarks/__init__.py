"""Measure people and machines on the same exam."""
