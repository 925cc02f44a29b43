"""What a corpus and a load need: worked out from measured constants. `cluster.capacity.plan` puts it together."""
