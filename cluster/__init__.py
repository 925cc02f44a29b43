"""How it runs: Serve configs, container, manifests, dashboards, and what a corpus needs. Only the command line imports this."""
