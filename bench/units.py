"""Bytes in the units that the benches print."""

MIB = 2**20
GIB = 2**30
