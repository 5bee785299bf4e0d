"""Where runs are trained: one module an executor."""
