"""The benchmark of several workers: points, measurements and the cost model."""
