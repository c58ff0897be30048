"""Photos in, training examples out. `photos` and `captions` need Pillow alone; `latents` and `batches` need MLX."""
