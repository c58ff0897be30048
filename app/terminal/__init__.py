"""The commands of the command line. Each runs in a process of its own and may load MLX; the web process never imports
this package."""
