"""The product around the machine learning: server, jobs, pages, command line. It does no tensor arithmetic."""

__version__ = "0.1.0"  # pyproject.toml reads it from here
