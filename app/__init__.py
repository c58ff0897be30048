"""The product around the machine learning: server, jobs, pages, command line. It does no tensor arithmetic."""
