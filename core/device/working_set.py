"""Bytes of the large intermediates that are computed piece by piece, so that they never are in memory whole.

core/numerics/attention.py and core/models/vae_layers.py compute by these sizes; core/estimate/ predicts them.
"""

from __future__ import annotations

SCORES_AT_MOST = 32 * 2**20
"""Of attention's scores B H S S: above this, queries are taken in chunks of at most as many bytes of B H Q S."""
CHUNK_ON_CPU = 8 * 2**20
"""The same for a chunk on a CPU, which is busy with small products too; a handful of such arrays exists at once."""
STRIP_AT_MOST = 16 * 2**20
"""Of a strip of rows of a picture. The widest arrays of a run are the VAE's, 268 MB each at 512 px, so its layers
compute one strip at a time. No gradient goes through the VAE: a strip is evaluated before the next allocates memory."""
TILE_BYTES = 48 * 2**20
"""Of the widest map of a VAE's tile, its border included (core/models/vae_tiles.py)."""
