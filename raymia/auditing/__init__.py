"""An audit of somebody's model: its answers in, attacks on them, a verdict out."""
