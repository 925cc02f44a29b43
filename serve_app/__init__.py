"""Serving: encoders, retrieval, the HTTP API and the page on Ray Serve, and the one place that binds them."""
