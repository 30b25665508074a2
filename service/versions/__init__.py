"""Model versions: restored from checkpoints, switched, rolled back, evaluated, published."""
