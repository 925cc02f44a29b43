"""From picture files to points in a store, in parallel on Ray Data."""
