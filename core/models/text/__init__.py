"""Text encoders: tokens in, what the transformer is told about a prompt out."""
