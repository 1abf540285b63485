"""Metrics: ROC and its numbers, their intervals, utility, the frontier and its table. Plain functions on arrays."""
