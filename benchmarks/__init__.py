"""Speed and memory, side by side with plain baselines in one run: `python -m benchmarks [NAME…]`."""
