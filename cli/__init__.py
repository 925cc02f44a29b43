"""The command line, `image-search`: the one place that knows both indexing and serving."""
