"""The contract that indexing and serving share: models, images, queries, stores and errors."""
