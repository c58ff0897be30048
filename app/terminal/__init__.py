"""What the command line verbs do. Each runs in a process of its own and may load the machine learning; the studio's
web process never imports this package."""
