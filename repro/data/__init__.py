"""Image sets, crops and batches for papers that learn from pictures instead of environments."""
