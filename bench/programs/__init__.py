"""Programs that benchmarks start as processes of their own, to time what they do; no module imports them."""
